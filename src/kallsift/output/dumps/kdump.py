"""Write kdump files, as makedumpfile does.

Such a file has a bitmap of the existing pages, and the pages, each of them compressed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import KallsiftError
from kallsift.memory.formats.kdump.header import DESCRIPTOR, HEADER, SUB_HEADERS
from kallsift.memory.formats.kdump.mark import KDUMP
from kallsift.memory.memory import Memory
from kallsift.optional_package import ZSTD, MissingPackageError, optional_package
from kallsift.output.dumps.chunks import Piece, Progress, chunks, view
from kallsift.output.dumps.machine_facts import Facts
from kallsift.output.dumps.notes import dump_notes

VERSION = 6
HIGHEST = 1 << 52
"""Address behind the highest physical address of a kdump."""

BITMAP_AT_ONCE = 1 << 20
BLANKS_AT_ONCE = 1 << 16
NAME = 65
"""Bytes of each of the six names that uname() returns."""
NAMES_START = 12

ELF_NOTE_VMCOREINFO = b"VMCOREINFO\0"

Pack = Callable[[memoryview], bytes]
PLAIN = 0


def _zlib() -> Pack:
    return lambda page: zlib.compress(page, 1)


def _lzo() -> Pack:
    lzo = _package("lzo", "lzallright")
    return lambda page: bytes(lzo.LZOCompressor().compress(page))


def _snappy() -> Pack:
    cramjam = _package("snappy", "cramjam")
    return lambda page: bytes(cramjam.snappy.compress_raw(page))


def _zstd() -> Pack:
    zstd = _package("zstd", *ZSTD)
    return lambda page: bytes(zstd.compress(page, 1))


def _package(packing: str, *modules: str) -> Any:
    """Return the first of some modules that is installed."""
    try:
        return optional_package(*modules)
    except MissingPackageError as error:
        reason = f"compression with {packing} needs the package {error}; pip install 'kallsift[images]'"
        raise KallsiftError(reason) from error


PACKINGS: dict[str, tuple[int, Callable[[], Pack] | None]] = {
    "zlib": (0x1, _zlib),
    "lzo": (0x2, _lzo),
    "snappy": (0x4, _snappy),
    "zstd": (0x20, _zstd),
    "none": (PLAIN, None),
}
"""Compressions by name.

The values are the flag in a page's descriptor, and a function that loads the compressor.
"""


def kdump_dump(
    memory: Memory, facts: Facts, progress: Progress | None = None, packing: str = "zlib"
) -> Iterator[Piece]:
    """Yield the pieces of the file, not in order.

    It can hold only whole pages: the bytes of partial ones are left out.

    Raises:
        KallsiftError: if there is no whole page, or an address is too high.
    """
    page = facts.page_size
    starts = np.array([-(-stretch.start // page) for stretch in memory.segments], np.int64)
    ends = np.array([stretch.end // page for stretch in memory.segments], np.int64)
    starts, ends = starts[starts < ends], ends[starts < ends]
    if not len(starts):
        raise KallsiftError("the source has no whole page of memory; use another --format")
    if int(ends[-1]) * page > HIGHEST:
        raise KallsiftError(f"memory at {int(ends[-1]) * page:#x} is beyond what a kdump can hold; use --format elf")
    most, total = int(ends[-1]), int((ends - starts).sum())
    flag, load = PACKINGS[packing]
    headers, bitmap, bitmap_size = _headers(facts, most, total, flag)
    yield 0, headers
    for place, bits in _bitmap(starts, ends):
        yield bitmap + place, bits
        yield bitmap + bitmap_size + place, bits
    descriptors = bitmap + 2 * bitmap_size
    writer = _PageWriter(facts, flag, load() if load else None, descriptors, descriptors + total * DESCRIPTOR.itemsize)
    yield from writer.pieces(memory, progress)


def _headers(facts: Facts, most: int, total: int, flag: int) -> tuple[bytes, int, int]:
    """Return both headers with the notes, and the place of the bitmaps.

    Returns:
        The headers, the offset of the first bitmap, and the size of one bitmap in bytes.
    """
    page = facts.page_size
    order = facts.byte_order
    bits = 8 * facts.word_size
    # 32-bit x86 aligns 64-bit words to four bytes
    packed = [layout for width, layout in SUB_HEADERS if width == bits]
    layout = packed[0 if facts.architecture == "x86" else -1].newbyteorder(order)
    notes = dump_notes(facts)
    notes_start = page + layout.itemsize + -layout.itemsize % 4
    sub_blocks = -(-(notes_start - page + len(notes)) // page)
    bitmap_blocks = -(-most // (8 * page))

    header = np.zeros(1, HEADER[bits].newbyteorder(order))
    header["mark"], header["version"], header["status"] = KDUMP, VERSION, flag
    header["block_size"], header["sub_header_blocks"] = page, sub_blocks
    header["bitmap_blocks"], header["max_page"] = 2 * bitmap_blocks, min(most, 0xFFFFFFFF)
    header["ram_blocks"] = header["device_blocks"] = header["written_blocks"] = min(total, 0xFFFFFFFF)
    header["cpus"] = max(1, len(facts.cpus))
    sub = np.zeros(1, layout)
    sub["phys_base"] = facts.phys_base & (1 << bits) - 1
    sub["max_page"] = sub["end_page"] = most
    if notes:
        sub["notes"], sub["notes_size"] = notes_start, len(notes)
    if facts.vmcoreinfo is not None:
        place = notes.rindex(ELF_NOTE_VMCOREINFO) + len(ELF_NOTE_VMCOREINFO) + 1
        sub["vmcoreinfo"], sub["vmcoreinfo_size"] = notes_start + place, len(facts.vmcoreinfo)
    head = bytearray(header.tobytes().ljust(page, b"\0"))
    names = _names(facts)
    head[NAMES_START : NAMES_START + len(names)] = names
    body = (sub.tobytes() + bytes(-layout.itemsize % 4) + notes).ljust(sub_blocks * page, b"\0")
    return bytes(head) + body, (1 + sub_blocks) * page, bitmap_blocks * page


def _names(facts: Facts) -> bytes:
    """Return the names that uname() gives, as far as the banner has them."""
    words = (facts.banner or "").split()
    release = words[2] if len(words) > 2 else ""
    machine = {"x86-64": "x86_64", "arm64": "aarch64"}.get(facts.architecture or "", facts.architecture or "")
    version = (facts.banner or "").rpartition(") #")[2].strip()
    names = ("Linux", "(none)", release, f"#{version}" if version else "", machine, "(none)")
    return b"".join(name.encode("latin-1", "replace")[: NAME - 1].ljust(NAME, b"\0") for name in names)


def _bitmap(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Iterator[Piece]:
    """Yield the parts of the bitmap that are not zero, with their offsets in it."""
    at_once = BITMAP_AT_ONCE * 8
    low = 0
    while low < int(ends[-1]):
        first = int(np.searchsorted(ends, low, "right"))
        low = max(low, int(starts[first]) // at_once * at_once)
        last = int(np.searchsorted(starts, low + at_once, "left"))
        changes = np.zeros(at_once + 1, np.int8)
        np.add.at(changes, np.maximum(starts[first:last] - low, 0), 1)
        np.add.at(changes, np.minimum(ends[first:last] - low, at_once), -1)
        bits = np.packbits(np.cumsum(changes[:-1], dtype=np.int8) > 0, bitorder="little")
        held = int(np.flatnonzero(bits)[-1]) + 1
        yield low // 8, view(bits[:held])
        low += at_once


@dataclass
class _PageWriter:
    """Writer of pages and their descriptors; all blank pages are stored once.

    Attributes:
        facts: facts about the machine.
        flag: flag of compressed pages.
        pack: compresses a page; None if pages are written as they are.
        descriptors: offset of the next descriptor in the file.
        position: offset of the next page in the file.
        blank: the descriptor of the blank page; None until it is written.
    """

    facts: Facts
    flag: int
    pack: Pack | None
    descriptors: int
    position: int
    blank: tuple[int, int, int, int] | None = None

    def pieces(self, memory: Memory, progress: Progress | None) -> Iterator[Piece]:
        """Yield the pieces of all whole pages; pages that `chunks` leaves out are blank."""
        page = self.facts.page_size
        begun, following = -1, 0
        with ThreadPoolExecutor() as threads:
            for number, address, data in chunks(memory, progress, page):
                if number != begun:
                    begun, following = number, -(-memory.segments[number].start // page) * page
                yield from self._blanks((address - following) // page)
                if len(data):
                    yield from self._pages(data.reshape(-1, page), threads)
                following = address + len(data)

    def _blanks(self, count: int) -> Iterator[Piece]:
        if count > 0 and self.blank is None:
            yield from self._pages(np.zeros((1, self.facts.page_size), np.uint8), None)
            count -= 1
        for start in range(0, count, BLANKS_AT_ONCE):
            rows = np.array([self.blank or (0, 0, 0, 0)], self._layout)
            yield self._table(rows.repeat(min(BLANKS_AT_ONCE, count - start)))

    def _pages(self, pages: NDArray[np.uint8], threads: ThreadPoolExecutor | None) -> Iterator[Piece]:
        filled = np.asarray(pages.any(axis=1))
        wanted = np.flatnonzero(filled).tolist()
        if self.blank is None and len(wanted) < len(pages):
            wanted.append(int(np.argmin(filled)))
        run = threads.map if threads else map
        packed = list(run(self.pack, [view(pages[row]) for row in wanted])) if self.pack else []
        rows: list[tuple[int, int, int, int]] = [self.blank or (0, 0, 0, 0)] * len(pages)
        start, parts = self.position, []
        for place, row in enumerate(wanted):
            shrunk = self.pack is not None and len(packed[place]) < len(pages[row])
            part = packed[place] if shrunk else pages[row].tobytes()
            rows[row] = (self.position, len(part), self.flag if shrunk else PLAIN, 0)
            parts.append(part)
            self.position += len(part)
        if self.blank is None and not filled.all():
            self.blank = rows[wanted[-1]]
            rows = [row if used else self.blank for row, used in zip(rows, filled.tolist(), strict=True)]
        yield start, b"".join(parts)
        yield self._table(np.array(rows, self._layout))

    @property
    def _layout(self) -> np.dtype[np.void]:
        return DESCRIPTOR.newbyteorder(self.facts.byte_order)

    def _table(self, rows: NDArray[np.void]) -> Piece:
        place, table = self.descriptors, rows.tobytes()
        self.descriptors += len(table)
        return place, table
