"""List the image formats that are known, in the order in which they are tried."""

from __future__ import annotations

from kallsift.image.formats import android_boot, arm_zimage, bzimage, efi_stub, fit, pe, s390, uimage
from kallsift.image.formats import elf as elf_image
from kallsift.image.formats.base import ImageFormat

FORMATS: tuple[ImageFormat, ...] = (
    bzimage,
    arm_zimage,
    efi_stub,
    pe,
    elf_image,
    uimage,
    android_boot,
    fit,
    s390,
)
"""Image formats; PE comes after all formats of kernels with an EFI stub, because these are PE too."""
