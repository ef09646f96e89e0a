"""Find the RAM of a machine as its firmware told the kernel, where the kernel's tree of resources is lost.

A PC's kernel keeps the firmware's list, e820, in several tables, and every kernel logs the ranges that it took over.
Each list is found by what must be true of it: its ranges are in order, do not overlap, and fit the file together. Lists
that several sources agree on come first. This alone is no proof: a kernel must be proven in the RAM as the list lays it
out.

Sources: Linux, arch/x86/include/asm/e820/types.h (struct e820_table, its types), arch/x86/kernel/e820.c (what it logs,
which types are RAM, that page 0 is taken away from it), mm/mm_init.c (ranges of memblock in the log).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice

import numpy as np

from kallsift.kernel.placement.pointers import PAGE
from kallsift.kernel.ram.iomem import BATCH, MAX_ADDRESS, MAX_MAPS, MAX_RANGES, RamMap, fitted
from kallsift.memory.segments import BytesSegment

Ranges = frozenset[tuple[int, int]]
"""First and last addresses."""

ENTRY = np.dtype([("start", "<u8"), ("size", "<u8"), ("type", "<u4")])
"""struct e820_entry (boot_e820_entry in boot_params): packed, in tables whose entries lie at multiples of 4."""

RAM_TYPES = (1, 128)
"""E820_TYPE_RAM, and _RESERVED_KERN, which kernels made of RAM that holds the boot loader's data."""
MAX_TYPE = 255
SOFT_RESERVED = 0xEFFFFFFF
"""The only type that is not a small number."""

ANCHOR = 1 << 20
"""Address at which the RAM of every PC continues behind the range of its firmware and display adapter: an entry of each
table begins here."""

LOGGED = re.compile(
    rb"(?:BIOS-e820: (?P<firmware>)|node +[0-9]{1,4}: )"
    rb"\[mem 0x([0-9a-f]{8,16})-0x([0-9a-f]{8,16})\](?: +(?P<ram>usable|System RAM)(?![ -~]))?"
)
LOGGED_MARK = b"[mem 0x"
"""Text that all such lines have."""
LEAD, LINE = 12, 80
"""Bytes before the mark, and from the mark on, that can hold a match of `LOGGED`."""
MAX_GAP = 1 << 14
"""Highest distance in bytes between two lines of one list: lines of other ranges lie between them."""

MAX_PLACES = 1 << 16
"""Highest number of places that are examined, for tables and for log lines each; a machine has some hundreds."""
MAX_LISTS = 1 << 8
"""Highest number of lists that are read, for tables and for log lines each; a machine has some dozens."""


def firmware_maps(ram: BytesSegment) -> Iterator[RamMap]:
    """Yield ways to lay out bare RAM by the firmware's lists.

    Those that are exactly as large as the RAM come first.
    """
    tellers: dict[Ranges, list[str]] = defaultdict(list)
    for teller, lists in (("e820 tables", _tables(ram)), ("the kernel's log lines", _logged(ram))):
        for ranges in {each for own in islice(lists, MAX_LISTS) for each in (own, _without_first_page(own))}:
            tellers[ranges].append(teller)
    found: dict[object, RamMap] = {}
    for ranges, names in sorted(tellers.items(), key=lambda each: -len(each[1])):
        if each := fitted(set(ranges), ram.size):
            found.setdefault(each.pieces, each._replace(teller=" and ".join(names)))
    yield from islice(sorted(found.values(), key=lambda each: each.missing), MAX_MAPS)


def _without_first_page(ranges: Ranges) -> Ranges:
    """Return the ranges as kernels on a PC take them over.

    Page 0 belongs to the firmware, whatever the firmware says.
    """
    return frozenset((max(first, PAGE), last) for first, last in ranges if last >= PAGE)


def _tables(ram: BytesSegment) -> Iterator[Ranges]:
    """Yield the RAM that each table lists.

    For each table there are two lists: all of its entries, and as many as the number in front of it says.
    """
    width = ENTRY.itemsize
    places: list[int] = []
    for low in ram.steps(BATCH):
        part = ram.read(low, low + BATCH)
        words = np.ascontiguousarray(part[: len(part) // 4 * 4]).view("<u4")
        places += (np.flatnonzero(words == ANCHOR)[:MAX_PLACES] * 4 + low).tolist()
        if len(places) > MAX_PLACES:
            break
    starts = np.array(places[:MAX_PLACES], np.int64)
    starts = starts[starts <= ram.size - width]
    entries = ram.gather(starts, width).view(ENTRY)[:, 0] if len(starts) else np.empty(0, ENTRY)
    right = (entries["start"] == ANCHOR) & np.isin(entries["type"], RAM_TYPES) & (entries["size"] != 0)
    for place in starts[right].tolist():
        first = place - min(place // width, MAX_RANGES) * width
        before = _entries(ram, first, place)
        behind = _entries(ram, place, min(ram.size, place + MAX_RANGES * width))
        run = np.concatenate([before[len(before) - _in_order(before[::-1], -1, behind[0]) :], behind])
        begin = len(run) - len(behind)
        run = run[: begin + 1 + _in_order(behind[1:], 1, behind[0])]
        table = place - begin * width
        number = int(ram.read(table - 4, table).view("<u4")[0]) if table >= 4 else 0
        for size in {len(run), min(number, len(run))} - {0}:
            held = run[:size][np.isin(run["type"][:size], RAM_TYPES)]
            yield frozenset((start, start + length - 1) for start, length, _ in held.tolist())


def _entries(ram: BytesSegment, low: int, high: int) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    data = ram.read(low, low + (high - low) // ENTRY.itemsize * ENTRY.itemsize)
    return np.ascontiguousarray(data).view(ENTRY)


def _in_order(entries: np.ndarray[tuple[int], np.dtype[np.void]], step: int, known: np.void) -> int:
    """Return the number of entries that continue a table up (1) or down (-1).

    They must be in order, not empty, and of known types.
    """
    limit = np.uint64(MAX_ADDRESS)
    sane = (entries["start"] < limit) & (entries["size"] != 0) & (entries["size"] <= limit)
    sane &= ((entries["type"] > 0) & (entries["type"] <= MAX_TYPE)) | (entries["type"] == SOFT_RESERVED)
    run = np.append(np.array([known], ENTRY), entries)
    ends = run["start"] + run["size"]
    apart = ends[:-1] <= run["start"][1:] if step > 0 else ends[1:] <= run["start"][:-1]
    wrong = np.flatnonzero(~(sane & apart))
    return int(wrong[0]) if len(wrong) else len(entries)


def _logged(ram: BytesSegment) -> Iterator[Ranges]:
    """Yield the RAM that each list of lines in a log gives, in any copy of the log."""
    own: list[tuple[int, int]] = []
    last_place, last_kind = 0, False
    for place, firmware, first, last in _lines(ram):
        if own and (place - last_place > MAX_GAP or firmware is not last_kind or first <= own[-1][1]):
            yield frozenset(own)
            own = []
        if len(own) <= MAX_RANGES:
            own.append((first, last))
        last_place, last_kind = place, firmware
    if own:
        yield frozenset(own)


def _lines(ram: BytesSegment) -> Iterator[tuple[int, bool, int, int]]:
    """Yield the lines of the log about RAM.

    Yields:
        The offset of the line, whether it is from the firmware, the first and the last address of the range.
    """
    seen = 0
    for low in ram.steps(BATCH):
        text = ram.read(max(0, low - LEAD), low + BATCH + LINE).tobytes()
        base = max(0, low - LEAD)
        place = text.find(LOGGED_MARK, low - base)
        while 0 <= place < low + BATCH - base:
            seen += 1
            if seen > MAX_PLACES:
                return
            line = LOGGED.search(text, max(0, place - LEAD), place + LINE)
            if line and (line["ram"] is not None or line["firmware"] is None):
                first, last = int(line[2], 16), int(line[3], 16)
                if first <= last < MAX_ADDRESS:
                    yield base + place, line["firmware"] is not None, first, last
            place = text.find(LOGGED_MARK, place + 1)
