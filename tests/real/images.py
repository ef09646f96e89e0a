"""Uncompressed kernel images out of the vmlinuz that a guest was booted with, to plant in dumps as decoys."""

from __future__ import annotations

import io
import lzma
import subprocess
from pathlib import Path

from elftools.elf.elffile import ELFFile

PAYLOADS = ((b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"))


def vmlinux(vmlinuz: Path) -> bytes:
    """The ELF file inside a bzImage."""
    data = vmlinuz.read_bytes()
    starts = [(data.find(magic), codec) for magic, codec in PAYLOADS if magic in data]
    start, codec = min(starts)
    if codec == "xz":
        return lzma.LZMADecompressor().decompress(data[start:])
    # zstd reports the bytes behind the frame as an error, after it has written the frame
    result = subprocess.run(["zstd", "-dcq"], input=data[start:], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert result.stdout.startswith(b"\x7fELF")
    return result.stdout


def flat_image(elf: bytes) -> tuple[int, bytes]:
    """The image as a boot loader puts it into memory: link-time physical address, and the bytes from there on."""
    segments = [s for s in ELFFile(io.BytesIO(elf)).iter_segments() if s["p_type"] == "PT_LOAD"]
    low = min(int(s["p_paddr"]) for s in segments)
    image = bytearray(max(int(s["p_paddr"]) + int(s["p_memsz"]) for s in segments) - low)
    for segment in segments:
        at = int(segment["p_paddr"]) - low
        image[at : at + int(segment["p_filesz"])] = segment.data()
    return low, bytes(image)
