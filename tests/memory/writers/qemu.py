"""Writes QEMU migration streams, page by page, in every form that a page can have."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

PAGE = 4096


@dataclass(frozen=True)
class Page:
    """One page as it is sent: its block, number and bytes; "plain", "filled" (by one byte) or "compressed"."""

    block: str
    number: int
    data: bytes
    form: str = "plain"


@dataclass(frozen=True)
class Section:
    """A device's section: its name, its number among those of that name, its bytes, what the description says of it."""

    name: str
    instance: int
    content: bytes
    fields: list[dict[str, Any]] = field(default_factory=list)


def text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()


def page_record(page: Page, previous: str | None, size: int = PAGE) -> bytes:
    """One page; its block is named unless it is ``previous``."""
    flags = {"plain": 0x08, "filled": 0x02, "compressed": 0x100, "xbzrle": 0x40}[page.form]
    flags |= 0x20 if previous == page.block else 0
    record = struct.pack(">Q", page.number * size | flags)
    if previous != page.block:
        record += text(page.block)
    if page.form == "filled":
        return record + page.data[:1]
    if page.form == "compressed":
        packed = zlib.compress(page.data)
        return record + struct.pack(">I", len(packed)) + packed
    return record + page.data


def stream(
    blocks: dict[str, int],
    rounds: Iterable[Iterable[Page]],
    *,
    machine: str | None = "pc-q35-7.2",
    page_bits: int | None = None,
    capabilities: tuple[str, ...] = (),
    footers: bool = True,
    others: tuple[Section, ...] = (),
    devices: tuple[Section, ...] = (),
    described: bool = True,
) -> bytes:
    """A whole stream: each of ``rounds`` is a section of pages, ``others`` are live devices with parts between them."""
    size = 1 << (page_bits or 12)
    out = struct.pack(">4sI", b"QEVM", 3)
    if machine is not None:
        out += struct.pack(">BI", 7, len(machine)) + machine.encode()
        if page_bits:
            out += b"\x05" + text("configuration/target-page-bits") + struct.pack(">II", 1, page_bits)
        if capabilities:
            out += b"\x05" + text("configuration/capabilities") + struct.pack(">II", 1, len(capabilities))
            out += b"".join(text(name) for name in capabilities)
    end = struct.pack(">Q", 0x10)

    def footer(number: int) -> bytes:
        return struct.pack(">BI", 0x7E, number) if footers else b""

    ram = 2
    out += struct.pack(">BI", 1, ram) + text("ram") + struct.pack(">II", 0, 4)
    out += struct.pack(">Q", sum(blocks.values()) | 4)
    out += b"".join(text(name) + struct.pack(">Q", length) for name, length in blocks.items()) + end + footer(ram)
    for number, other in enumerate(others, 3):
        out += struct.pack(">BI", 1, number) + text(other.name) + struct.pack(">II", other.instance, 1)
        out += other.content + footer(number)
    for kind, pages in [*((2, pages) for pages in rounds), (3, ())]:
        out += struct.pack(">BI", kind, ram)
        previous = None
        for page in pages:
            out += page_record(page, previous, size)
            previous = page.block
        out += end + footer(ram)
        for number, other in enumerate(others, 3):
            out += struct.pack(">BI", kind, number) + other.content + footer(number)
    for number, device in enumerate(devices, 10):
        out += struct.pack(">BI", 4, number) + text(device.name) + struct.pack(">II", device.instance, 1)
        out += device.content + footer(number)
    out += b"\0"
    if described:
        listed = [
            {"name": each.name, "instance_id": each.instance, "version": 1, "fields": each.fields} for each in devices
        ]
        description = json.dumps({"page_size": size, "devices": listed}).encode()
        out += struct.pack(">BI", 6, len(description)) + description
    return out


def flat(blocks: dict[str, bytes], machine: str = "pc-q35-9.0", before: bytes = b"") -> bytes:
    """A stream whose RAM is laid out flat ("mapped-ram") behind some bytes; pages that are all zero are left out."""
    out = bytearray(before + struct.pack(">4sI", b"QEVM", 3) + struct.pack(">BI", 7, len(machine)) + machine.encode())
    out += b"\x05" + text("configuration/capabilities") + struct.pack(">II", 1, 1) + text("mapped-ram")
    out += struct.pack(">BI", 1, 2) + text("ram") + struct.pack(">II", 0, 4)
    out += struct.pack(">Q", sum(map(len, blocks.values())) | 4)
    for name, data in blocks.items():
        pages = [data[start : start + PAGE] for start in range(0, len(data), PAGE)]
        bits = sum(1 << number for number, page in enumerate(pages) if any(page))
        bitmap = bits.to_bytes(-(-len(pages) // 64) * 8, "little")
        out += text(name) + struct.pack(">Q", len(data))
        bitmap_offset = len(out) + 28
        pages_offset = -(-(bitmap_offset + len(bitmap)) // PAGE) * PAGE
        out += struct.pack(">IQQQ", 1, PAGE, bitmap_offset, pages_offset) + bitmap
        out += bytes(pages_offset - len(out)) + data
    out += struct.pack(">Q", 0x10) + struct.pack(">BI", 0x7E, 2)
    return bytes(out) + struct.pack(">BIQ", 3, 2, 0x10) + struct.pack(">BI", 0x7E, 2) + b"\0"
