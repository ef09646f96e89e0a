"""Read images with a 64-byte header of the kernel that also passes as a DOS header: arm64, RISC-V, LoongArch, zboot.

Formats: Documentation/arch/arm64/booting.rst, Documentation/arch/riscv/boot-image-header.rst, the head.S of LoongArch,
and drivers/firmware/efi/libstub/zboot-header.S. Header words are little-endian even if the kernel is big-endian.
"""

from __future__ import annotations

import numpy as np

from kallsift.arrays import Bytes
from kallsift.errors import ImageError
from kallsift.image.formats import pe
from kallsift.image.formats.base import BEHIND_LIMIT, KernelPayload, Payload, WrappedImage, flat, record, starts_with
from kallsift.memory.memory import AddressSpace

HEADER = np.dtype(
    {
        "names": ["text_offset", "image_size", "flags", "magic"],
        "formats": ["<u8", "<u8", "<u8", "S4"],
        "offsets": [8, 0x10, 0x18, 0x38],
        "itemsize": 0x40,
    }
)
ARM64_MAGIC, RISCV_MAGIC, LINUX_PE_MAGIC = b"ARM\x64", b"RSC\x05", b"\xcd\x23\x82\x81"
FLAG_BIG_ENDIAN = 1
RISCV32_TEXT_OFFSET = 0x400000
"""Offset in RAM of a 32-bit RISC-V kernel (arch/riscv/kernel/head.S); 64-bit ones have half of that, or 0."""

ZBOOT_MAGIC = b"zimg"
ZBOOT_HEADER = np.dtype(
    {
        "names": ["payload_offset", "payload_size", "compression"],
        "formats": ["<u4", "<u4", "S32"],
        "offsets": [8, 12, 24],
        "itemsize": 0x40,
    }
)
ZBOOT_CODECS = {b"gzip": "gzip", b"lz4": "lz4", b"lzma": "lzma", b"lzo": "lzo", b"xzkern": "xz", b"zstd22": "zstd"}
"""Codecs by the name in the header: the make command (cmd_*) that compressed the payload."""


def probe(view: Bytes) -> bool:
    """Tell whether a magic of the family stands at its offset."""
    return _magic(view) in (ARM64_MAGIC, RISCV_MAGIC) or starts_with(view, pe.DOS_MAGIC)


def read(view: Bytes) -> KernelPayload | WrappedImage | None:
    """Return a flat image, or the payload of an EFI zboot image.

    The result is None for other EFI programs.
    """
    magic = _magic(view)
    if starts_with(view, ZBOOT_MAGIC, 4):
        return _zboot(view)
    if magic == ARM64_MAGIC:
        return _image(view, "arm64 Image", "arm64", bool(_flags(view) & FLAG_BIG_ENDIAN))
    if magic == RISCV_MAGIC:
        narrow = int(record(view, 0, HEADER, "header")["text_offset"]) == RISCV32_TEXT_OFFSET
        return _image(view, "RISC-V Image", "riscv32" if narrow else "riscv64", bool(_flags(view) & FLAG_BIG_ENDIAN))
    program = pe.program(view)
    if magic == LINUX_PE_MAGIC and program is not None and program.machine in ("loongarch32", "loongarch64"):
        return _image(view, "LoongArch Image", program.machine, False)
    return None


def _magic(view: Bytes) -> bytes:
    return view[0x38:0x3C].tobytes()


def _flags(view: Bytes) -> int:
    return int(record(view, 0, HEADER, "header")["flags"])


def _image(view: Bytes, label: str, architecture: str, big_endian: bool) -> KernelPayload | None:
    size = int(record(view, 0, HEADER, "header")["image_size"])  # .bss included; 0 in arm64 kernels before 3.17
    if size and len(view) > size + BEHIND_LIMIT:
        return None
    return KernelPayload(label, AddressSpace.FILE, flat(view), architecture, big_endian=big_endian)


def _zboot(view: Bytes) -> WrappedImage:
    header = record(view, 0, ZBOOT_HEADER, "zboot header")
    start, size = int(header["payload_offset"]), int(header["payload_size"])
    if not size or start >= len(view):
        raise ImageError(f"EFI zboot: the payload ({size} bytes at offset {start:#x}) is missing; copy the image again")
    program = pe.program(view)
    codec = ZBOOT_CODECS.get(bytes(header["compression"]))
    return WrappedImage("EFI zboot", (Payload(start, start + size, codec),), program.machine if program else None)
