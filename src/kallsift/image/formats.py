"""The image formats that are known, in the order in which they are asked."""

from __future__ import annotations

from kallsift.image import android, arm_zimage, bzimage, efi_image, elf_image, fit, pe, s390_image, uimage
from kallsift.image.model import ImageFormat

FORMATS: tuple[ImageFormat, ...] = (
    bzimage,
    arm_zimage,
    efi_image,
    pe,
    elf_image,
    uimage,
    android,
    fit,
    s390_image,
)
"""Kernels with an EFI stub are PE too, so that PE comes after all formats which may have one."""
