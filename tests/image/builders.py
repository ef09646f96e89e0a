"""Kernel images of every packaging, written from the published structures and by none of kallsift's own code."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

import lz4.block
import lz4.frame
from backports import zstd
from lzallright import LZOCompressor

from tests.memory.builders import Bits, ByteOrder, Program, elf

BANNER = b"Linux version 6.1.0-test (nobody@nowhere) #1 SMP\n\0"
DIGITS = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\0"


def token_table(order: ByteOrder = "<") -> bytes:
    """A token table, every character its own token and every other code a pair of them, and its index."""
    tokens = [bytes([code]) if 32 < code < 127 else b"%02x" % code for code in range(256)]
    offsets = [sum(len(token) + 1 for token in tokens[:code]) for code in range(256)]
    table = b"".join(token + b"\0" for token in tokens)
    return table + bytes(-len(table) % 8) + struct.pack(f"{order}256H", *offsets)


def kernel(size: int = 40_000, seed: int = 1, marks: bytes | None = None) -> bytes:
    """Bytes that look like a kernel from afar: some noise, some zeros, and the marks in the middle."""
    marks = BANNER + bytes(-len(BANNER) % 8) + token_table() if marks is None else marks
    noise = random.Random(seed).randbytes(size // 4)
    half = (size - len(noise) - len(marks)) // 2
    return noise + bytes(half) + marks + bytes(size - len(noise) - len(marks) - half)


def lz4_legacy(data: bytes) -> bytes:
    """As `lz4 -l`."""
    result = struct.pack("<I", 0x184C2102)
    for start in range(0, len(data), 8 << 20):
        block = lz4.block.compress(data[start : start + (8 << 20)], store_size=False)
        result += struct.pack("<I", len(block)) + block
    return result


def lzop(data: bytes, flags: int = 0x03000001, version: int = 0x1030, name: bytes = b"") -> bytes:
    """As lzop with an Adler checksum of what is unpacked."""
    header = struct.pack(">HH", version, 0x2080)
    if version >= 0x940:
        header += struct.pack(">HBBIIII", 0x0940, 1, 5, flags, 0o100644, 0, 0)
    else:
        header += struct.pack(">BIII", 1, flags, 0o100644, 0)
    header += bytes([len(name)]) + name + bytes(4)
    result = b"\x89LZO\0\r\n\x1a\n" + header
    checksums = [(0x1, zlib.adler32), (0x100, zlib.crc32)], [(0x2, zlib.adler32), (0x200, zlib.crc32)]
    for start in range(0, len(data), 256 << 10):
        block = data[start : start + (256 << 10)]
        packed = LZOCompressor().compress(block)
        stored = len(packed) >= len(block)
        packed = block if stored else packed
        result += struct.pack(">II", len(block), len(packed))
        for content, kinds in zip((block, packed), checksums if not stored else checksums[:1], strict=False):
            result += b"".join(struct.pack(">I", check(content)) for flag, check in kinds if flags & flag)
        result += packed
    return result + bytes(4)


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "xz": lambda data: lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_CRC32),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "lz4": lz4_legacy,
    "lz4 frame": lambda data: bytes(lz4.frame.compress(data)),
    "zstd": zstd.compress,
    "lzo": lzop,
}


def with_size(stream: bytes, data: bytes) -> bytes:
    """A stream with the size of what it holds behind it, as the kernel's build appends it."""
    return stream + struct.pack("<I", len(data))


def put(image: bytearray, place: int, form: str, *values: Any) -> None:
    """Writes fields into an image."""
    struct.pack_into(form, image, place, *values)


def vmlinux(
    *parts: tuple[int, bytes], bits: Bits = 64, order: ByteOrder = "<", machine: int = 62, more: Sequence[Program] = ()
) -> bytes:
    """A stripped vmlinux: only program headers, each part at its virtual address."""
    loads = [Program(1, data, 0x1000000, address) for address, data in parts]
    return elf([*loads, *more], bits=bits, order=order, kind=2, machine=machine)


def bzimage(payload: bytes, version: int = 0x20F, sectors: int = 3, gap: int = 700, flags: int = 1) -> bytes:
    """x86: setup code, the code that unpacks, the payload, and some data behind."""
    code = ((sectors or 4) + 1) * 512
    image = bytearray(b"\x90" * (code + gap)) + payload + b"\x90" * 100
    put(image, 0x1F1, "<B", sectors)
    put(image, 0x1F4, "<I", -(-(len(image) - code) // 16))
    put(image, 0x1FE, "<H", 0xAA55)
    image[0x202:0x206] = b"HdrS"
    put(image, 0x206, "<H", version)
    put(image, 0x236, "<H", flags)
    put(image, 0x248, "<II", gap, len(payload))
    return bytes(image)


def arm_zimage(payload: bytes, order: Literal["<", ">"] = "<") -> bytes:
    """ARM: eight no-operations, the magic with its words, code and the payload; a device tree appended."""
    image = bytearray(b"\0\0\xa0\xe1" * 2000) + payload + bytes(-len(payload) % 4)
    put(image, 0x24, f"{order}IIIII", 0x016F2818, 0, len(image), 0x04030201, 0x45454545)
    return bytes(image) + b"\xd0\x0d\xfe\xed" + bytes(200)


def arm64_image(body: bytes, size: int | None = None, flags: int = 0xA) -> bytes:
    """arm64: a header of 64 bytes in front of ``body``."""
    image = bytearray(64) + body
    put(image, 0, "<II", 0x91005A4D, 0x14000000)
    put(image, 8, "<QQQ", 0, len(image) if size is None else size, flags)
    image[0x38:0x3C] = b"ARM\x64"
    return bytes(image)


def riscv_image(body: bytes, text_offset: int = 0x200000) -> bytes:
    """RISC-V, likewise."""
    image = bytearray(64) + body
    put(image, 8, "<QQQI", text_offset, len(image), 0, 2)
    image[0x30:0x38] = b"RISCV\0\0\0"
    image[0x38:0x3C] = b"RSC\x05"
    return bytes(image)


def pe_headers(machine: int, sections: Sequence[tuple[bytes, int, int]], at: int = 0x40) -> bytes:
    """PE headers that stand at ``at`` of an image, with (name, file offset, size) of its sections."""
    header = b"PE\0\0" + struct.pack("<HHIIIHH", machine, len(sections), 0, 0, 0, 0xF0, 0x206) + bytes(0xF0)
    for name, offset, size in sections:
        header += struct.pack("<8sIIII16x", name, size, 0x1000, size + -size % 512, offset)
    return header


def loongarch_image(body: bytes) -> bytes:
    """LoongArch: a header that is told from others by what PE says of the machine."""
    image = bytearray(64)
    image[:2] = b"MZ"
    put(image, 8, "<QQQ", 0x200040, 64 + len(body), 0x200000)
    put(image, 0x38, "<II", 0x818223CD, 0x40)
    return bytes(image) + pe_headers(0x6264, []) + body


def zboot(payload: bytes, compression: bytes, machine: int = 0xAA64) -> bytes:
    """EFI zboot: the payload behind the EFI program that unpacks it."""
    image = bytearray(64)
    image[:8] = b"MZ\0\0zimg"
    put(image, 24, "<32s", compression)
    put(image, 0x38, "<II", 0x818223CD, 0x40)
    image += pe_headers(machine, [(b".text", 0x1000, 0x1000)])
    image += bytes(0x2000 - len(image))
    put(image, 8, "<II", len(image), len(payload))
    return bytes(image) + payload + bytes(512)


def uki(linux: bytes, machine: int = 0x8664) -> bytes:
    """A unified kernel image: systemd's stub with sections of its own."""
    sections = [
        (b".text", 0x400, 0x200),
        (b".osrel", 0x600, 50),
        (b".cmdline", 0x800, 8),
        (b".linux", 0xA00, len(linux)),
    ]
    image = bytearray(64)
    image[:2] = b"MZ"
    put(image, 0x3C, "<I", 0x40)
    image += pe_headers(machine, sections)
    return bytes(image) + bytes(0xA00 - len(image)) + linux + bytes(-len(linux) % 512)


def uimage(
    data: bytes, compression: int = 0, architecture: int = 2, kind: int = 2, load: int = 0x8000, size: int | None = None
) -> bytes:
    """U-Boot's legacy image."""
    size = len(data) if size is None else size
    fields = (0x27051956, 0, 0, size, load, load, 0, 5, architecture, kind, compression, b"test")
    return struct.pack(">7I4B32s", *fields) + data


def multi(*files: bytes) -> bytes:
    """The data of a uImage that holds several files."""
    sizes = b"".join(struct.pack(">I", len(data)) for data in files)
    return sizes + bytes(4) + b"".join(data + bytes(-len(data) % 4) for data in files)


def boot_img(data: bytes, version: int = 0, page: int = 2048) -> bytes:
    """Android's boot image; from version 3 on, pages have 4 KiB."""
    if version >= 3:
        page = 4096
        header = struct.pack("<8sIII", b"ANDROID!", len(data), 100, 0) + struct.pack(
            "<I16xI1536s", 1580, version, b"quiet"
        )
    else:
        addresses = (0x10008000, 100, 0x11000000, 0, 0x10F00000, 0x10000100)
        header = struct.pack("<8sI6III", b"ANDROID!", len(data), *addresses, page, version)
    padded = data + bytes(-len(data) % page)
    return header + bytes(-len(header) % page) + padded + b"ramdisk".ljust(page, b"\0")


def device_tree(nodes: dict[str, Any]) -> bytes:
    """A flattened device tree: values that are dicts are nodes, all others bytes."""
    strings = bytearray()

    def named(name: str) -> int:
        at = strings.find(name.encode() + b"\0")
        if at < 0:
            at = len(strings)
            strings.extend(name.encode() + b"\0")
        return at

    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 4)

    def node(name: str, content: dict[str, Any]) -> bytes:
        result = struct.pack(">I", 1) + padded(name.encode() + b"\0")
        for key, value in content.items():
            if isinstance(value, bytes):
                result += struct.pack(">III", 3, len(value), named(key)) + padded(value)
        for key, value in content.items():
            if isinstance(value, dict):
                result += node(key, value)
        return result + struct.pack(">I", 2)

    structure = node("", nodes) + struct.pack(">I", 9)
    start = 40 + 16
    fields = (start + len(structure) + len(strings), start, start + len(structure), 40, 17, 16, 0)
    header = struct.pack(">10I", 0xD00DFEED, *fields, len(strings), len(structure))
    return header + bytes(16) + structure + bytes(strings)


def fit(data: bytes, compression: bytes = b"none", *, external: Literal["", "offset", "position"] = "") -> bytes:
    """A FIT with a device tree, another kernel without data, and the kernel that its default configuration names."""
    image = {"type": b"kernel\0", "arch": b"arm64\0", "os": b"linux\0", "compression": compression + b"\0"}

    def tree(where: dict[str, bytes]) -> bytes:
        return device_tree(
            {
                "description": b"test\0",
                "images": {
                    "fdt-1": {"type": b"flat_dt\0", "data": device_tree({"model": b"board\0"})},
                    "rescue": {"type": b"kernel\0", "data": b""},
                    "kernel-1": {**where, **image},
                },
                "configurations": {"default": b"conf-1\0", "conf-1": {"kernel": b"kernel-1\0", "fdt": b"fdt-1\0"}},
            }
        )

    if not external:
        return tree({"data": data})
    size = struct.pack(">I", len(data))
    head = tree({f"data-{external}": bytes(4), "data-size": size})
    head += bytes(-len(head) % 4)
    place = struct.pack(">I", len(head) if external == "position" else 0)
    head = tree({f"data-{external}": place, "data-size": size})
    return head + bytes(-len(head) % 4) + data


def s390_image(payload: bytes) -> bytes:
    """s390: flat, the magic behind the entry point at 64 KiB."""
    image = bytearray(0x12000)
    image[0x10008:0x1000E] = b"S390EP"
    return bytes(image) + payload + bytes(100)
