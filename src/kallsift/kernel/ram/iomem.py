"""Find the RAM of a machine as its kernel's own tree of resources has it: ``System RAM`` in /proc/iomem.

LiME writes just these ranges, and in its mode ``raw`` one right after the other without their addresses. Hypervisors
write all RAM that they gave to a machine, without the hole below 4 GiB; then these ranges tell how large the RAM behind
the hole is. The ``struct resource`` of the ranges lie in RAM themselves. They are found without knowledge of the
kernel: their flags are the same everywhere, they share their name, and together they fit the file.

Sources: Linux, include/linux/ioport.h (struct resource, its flags), e820.c of x86 and setup.c of arm64 (which make
them); LiME, main.c (which it writes: children of ``iomem_resource``, by their name).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kallsift.kernel.placement.pointers import PAGE, Words
from kallsift.memory.ram_layouts import Piece
from kallsift.memory.segments import BytesSegment
from kallsift.threads import in_threads

NAME = b"System RAM\0"

FLAGS = (0x81000200, 0x80000200)
"""IORESOURCE_MEM and _BUSY, with _SYSRAM since 4.6."""
HOTPLUG_FLAGS = 0x06000000
"""IORESOURCE_SYSRAM_MERGEABLE and _DRIVER_MANAGED, which RAM that was added later can have."""

SHAPES = tuple((Words(size, order), address) for size, address in ((8, 8), (4, 8), (4, 4)) for order in ("<", ">"))
"""Formats of a kernel's words, each with the bytes of a physical address: with PAE and LPAE it is wider than a word."""

FOUR_GIB = 4 << 30
MAX_ADDRESS = 1 << 52
MAX_FLAGS = FLAGS[0] | HOTPLUG_FLAGS
"""All flags that are allowed; greater words have other bits besides."""
MAX_WORDS = 1 << 16
"""Highest number of words with such flags that are examined; a machine has some dozens."""
MAX_RANGES = 1 << 10
"""Highest number of ranges of one machine."""
MAX_MAPS = 4
"""Highest number of ways to divide the RAM that are yielded; a machine has one."""
BATCH = 1 << 20
"""Bytes that are searched at once: few, so that the results of each step stay in the processor's cache."""


class RamMap(NamedTuple):
    """The physical addresses of the RAM in a file.

    Attributes:
        pieces: its parts in the order of their addresses, which is the order in the file.
        hole: whether the pieces are all RAM around the hole below 4 GiB, rather than the ranges alone.
        missing: bytes of the RAM that the file lacks at its end.
        name: virtual address of the ranges' name, where `NAME` stands if the map is right; None if the ranges have
            none.
        teller: source of the ranges in the memory, as messages call it.
    """

    pieces: tuple[Piece, ...]
    hole: bool
    missing: int
    name: int | None
    teller: str = "this kernel's own resources"


def ram_maps(ram: BytesSegment) -> Iterator[RamMap]:
    """Yield ways to lay out bare RAM by the resources in it.

    Those that are exactly as large as the RAM come first.
    """
    places = _flags(ram)
    found = {
        each.pieces: each for words, address in SHAPES for each in _maps(ram, places[words.byte_order], words, address)
    }
    yield from islice(sorted(found.values(), key=lambda each: each.missing), MAX_MAPS)


def _maps(ram: BytesSegment, flags: NDArray[np.int64], words: Words, address: int) -> Iterator[RamMap]:
    """Yield the maps that resources of one shape give, one for each of their names.

    ``flags`` are the offsets of their flags.
    """
    fields = {"start": address, "end": address, "name": words.size, "flags": words.size}
    layout = np.dtype([(name, f"{words.byte_order}u{size}") for name, size in fields.items()])
    # the flags were found in the lower half of a word, which is behind the upper half if the byte order is big-endian
    before = layout.itemsize - (words.size if words.byte_order == "<" else 4)
    starts = flags - before
    starts = starts[(starts >= 0) & (starts <= ram.size - layout.itemsize)]
    records = ram.gather(starts, layout.itemsize).view(layout)[:, 0]
    ordered = (records["start"] <= records["end"]) & (records["end"] < np.uint64(MAX_ADDRESS))
    records = records[ordered & (records["flags"] <= np.uint64(MAX_FLAGS)) & (records["name"] != 0)]
    ranges: dict[int, set[tuple[int, int]]] = defaultdict(set)
    for start, end, name in zip(*(records[field].tolist() for field in ("start", "end", "name")), strict=True):
        ranges[name].add((start, end))
    for name, own in ranges.items():
        if found := fitted(own, ram.size):
            yield found._replace(name=name)


def fitted(ranges: set[tuple[int, int]], size: int) -> RamMap | None:
    """Return the map that ranges make of ``size`` bytes of RAM, or None.

    Ranges are first and last addresses. None if they do not fit the size.
    """
    pieces = _pieces(ranges) if len(ranges) <= MAX_RANGES else ()
    total = pieces[-1].offset + pieces[-1].size if pieces else 0
    if total >= size:
        held = (piece for piece in pieces if piece.offset < size)
        cut = tuple(piece._replace(size=min(piece.size, size - piece.offset)) for piece in held)
        return RamMap(cut, False, total - size, None)
    around = _around_hole(pieces, size)
    return RamMap(around, True, 0, None) if around else None


def _pieces(ranges: set[tuple[int, int]]) -> tuple[Piece, ...]:
    """Return ranges one after the other; nothing if any overlap.

    Ranges are first and last addresses.
    """
    pieces: list[Piece] = []
    offset = 0
    for start, end in sorted(ranges):
        if pieces and start < pieces[-1].address + pieces[-1].size:
            return ()
        pieces.append(Piece(offset, start, end - start + 1))
        offset += end - start + 1
    return tuple(pieces)


def _around_hole(ranges: tuple[Piece, ...], size: int) -> tuple[Piece, ...]:
    """Return the RAM before the hole below 4 GiB and the RAM behind it.

    The last range must be all RAM behind the hole. Nothing is returned if the ranges do not fit that.
    """
    if not ranges or ranges[-1].address != FOUR_GIB:
        return ()
    below = size - ranges[-1].size
    front = ranges[-2].address + ranges[-2].size if len(ranges) > 1 else 1
    if below % PAGE or not front <= below < FOUR_GIB:
        return ()
    return Piece(0, 0, below), Piece(below, FOUR_GIB, ranges[-1].size)


def _flags(ram: BytesSegment) -> dict[str, NDArray[np.int64]]:
    """Return the offsets of 32-bit words that are the flags of RAM, by byte order.

    Addresses of struct resource are multiples of 4, so only such offsets are compared.
    """
    optional = HOTPLUG_FLAGS | FLAGS[0] ^ FLAGS[1]
    kept, wanted = ~optional & 0xFFFFFFFF, FLAGS[0] & ~optional
    tests = {order: np.array((kept, wanted), f"{order}u4").view(np.uint32) for order in ("<", ">")}

    def flags_from(low: int) -> list[NDArray[np.int64]]:
        part = ram.read(low, low + BATCH)
        words = np.ascontiguousarray(part[: len(part) // 4 * 4]).view(np.uint32)
        return [np.flatnonzero(words & kept == wanted) * 4 + low for kept, wanted in tests.values()]

    nothing = np.empty(0, np.int64)
    found = [[nothing, nothing], *in_threads(flags_from, ram.steps(BATCH))]
    return {
        order: np.concatenate(each)[:MAX_WORDS] for order, each in zip(tests, zip(*found, strict=True), strict=True)
    }
