"""What happens to dumps on their way: pages lost, swapped and doubled, blocks that are missing, bytes that rot.

A file is mapped privately, so that it can be damaged without a copy, again and again.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kallsift.memory.formats.kdump.header import DESCRIPTOR, read_header
from kallsift.memory.lazy_segment import LazySegment
from kallsift.memory.memory import Memory
from kallsift.memory.segments import BytesSegment

PAGE = 4096

View = NDArray[np.uint8]

MAX_PAGES = 2000
"""Pages that are damaged at most in one trial, of all memory; of the tables it is a twentieth."""
CUT_PAGES = (1, 16, 256)
"""Sizes of a block that is missing from a file."""
MAX_ROTTEN = 64
"""Bytes that rot in one trial."""


@dataclass(frozen=True)
class Target:
    """Where a dump can be damaged.

    Attributes:
        memory: the undamaged memory, whose addresses ``low`` and ``high`` are.
        low: address of the first byte of the kernel's tables.
        high: address behind their last byte.
    """

    memory: Memory
    low: int
    high: int

    def pages(self, chance: np.random.Generator) -> NDArray[np.int64]:
        """Draw addresses of pages, few or many: of the tables, of the image around them, or of all memory."""
        around = {0: 0, 1: 0, 2: 16 << 20, 3: 1 << 52}[int(chance.integers(4))]
        held = [
            np.arange(-(-segment.start // PAGE), segment.end // PAGE)
            for segment in self.memory.between(max(0, self.low - around), self.high + around)
        ]
        pages = np.concatenate(held)
        inside = pages[(pages * PAGE > self.low - PAGE - around) & (pages * PAGE < self.high + around)]
        most = max(2, min(MAX_PAGES, len(inside) // 20))
        count = int(np.exp(chance.uniform(0, np.log(most))))
        chosen: NDArray[np.int64] = chance.choice(inside, count, replace=False) * PAGE
        return chosen


def private_view(path: Path, cut: range = range(0)) -> View:
    """Return a file as bytes that may be changed, which the file never sees, without the part ``cut``: whole pages."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
    size = path.stat().st_size
    region = mmap.mmap(-1, size - len(cut), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    view = np.frombuffer(region, np.uint8)
    address = view.ctypes.data
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for at, start, stop in ((0, 0, cut.start), (cut.start, cut.stop, size)):
            if start < stop:
                flags = mmap.MAP_PRIVATE | 0x10  # MAP_FIXED
                protection = mmap.PROT_READ | mmap.PROT_WRITE
                if libc.mmap(address + at, stop - start, protection, flags, descriptor, start) != address + at:
                    raise OSError(ctypes.get_errno(), f"cannot map {path}")
    finally:
        os.close(descriptor)
    return view


def stored_bytes(view: View, memory: Memory, page: int) -> tuple[int, int] | None:
    """Return where in a dump's file a page is stored, as offsets; None where the file does not have it."""
    segment = memory.segment_at(page)
    if segment is None:
        return None
    offset = page - segment.start
    if isinstance(segment, BytesSegment):
        start = segment.data.ctypes.data - view.ctypes.data + offset
        return start, start + PAGE
    if segment.packed is not None:
        number = int(np.searchsorted(segment.packed.bounds, offset, "right")) - 1
        places = np.append(segment.packed.places, len(segment.packed.data))
        start = segment.packed.data.ctypes.data - view.ctypes.data
        return start + int(places[number]), start + int(places[number + 1])
    row = descriptors(view)[_number(memory, page)]
    return int(row["offset"]), int(row["offset"]) + int(row["size"])


def descriptors(view: View) -> NDArray[np.void]:
    """Return the descriptors of a kdump's pages, which may be changed."""
    header = read_header(view)
    assert header is not None
    first = int(view[header.descriptors :][: DESCRIPTOR.itemsize].view(DESCRIPTOR)["offset"][0])
    # the pages follow their descriptors; what lies between them and the first page is no more than one is long
    count = (first - header.descriptors) // DESCRIPTOR.itemsize
    return view[header.descriptors :][: count * DESCRIPTOR.itemsize].view(DESCRIPTOR.newbyteorder(header.byte_order))


def _number(memory: Memory, page: int) -> int:
    """Which of all pages of a kdump one is, in the order of their addresses."""
    before = sum(segment.size for segment in memory.segments if segment.end <= page)
    segment = memory.segment_at(page)
    assert isinstance(segment, LazySegment)
    return (before + page - segment.start) // PAGE


def _contents(view: View, memory: Memory, pages: NDArray[np.int64]) -> Iterator[View]:
    """Yield the bytes of pages that a file has as they are."""
    for page in pages.tolist():
        if (bounds := stored_bytes(view, memory, page)) is not None:
            yield view[slice(*bounds)]


def zeroed(view: View, target: Target, chance: np.random.Generator) -> View:
    """Lose pages."""
    for content in _contents(view, target.memory, target.pages(chance)):
        content[:] = 0
    return view


def _rows(view: View, target: Target, chance: np.random.Generator) -> tuple[View, list[View]]:
    """Draw pages, as bytes that stand for each: its own, or in a kdump those of its descriptor; and others."""
    pages = target.pages(chance)
    others = np.concatenate([pages[1:], pages[:1]]) if len(pages) > 1 and chance.random() < 0.5 else None
    if others is None:
        others = chance.integers(target.memory.segments[0].start // PAGE, target.high // PAGE, len(pages)) * PAGE
    if isinstance(target.memory.segments[0], BytesSegment):
        first, second = (list(_contents(view, target.memory, some)) for some in (pages, others))
    else:
        table = descriptors(view).view(np.uint8).reshape(-1, DESCRIPTOR.itemsize)
        first, second = (
            [table[_number(target.memory, page)] for page in some.tolist() if target.memory.segment_at(page)]
            for some in (pages, others)
        )
    return view, [part for pair in zip(first, second, strict=False) for part in pair]


def swapped(view: View, target: Target, chance: np.random.Generator) -> View:
    """Let pages change places."""
    view, parts = _rows(view, target, chance)
    for one, other in zip(parts[::2], parts[1::2], strict=True):
        one[:], other[:] = other.copy(), one.copy()
    return view


def doubled(view: View, target: Target, chance: np.random.Generator) -> View:
    """Let pages stand in the place of others as well."""
    view, parts = _rows(view, target, chance)
    for one, other in zip(parts[::2], parts[1::2], strict=True):
        other[:] = one
    return view


def rotten(view: View, target: Target, chance: np.random.Generator) -> View:
    """Change bytes of the file: of what is packed of the tables or the image, or anywhere."""
    pages, count = target.pages(chance), int(np.exp(chance.uniform(0, np.log(MAX_ROTTEN))))
    anywhere = chance.random() < 0.3
    for number in range(count):
        bounds = stored_bytes(view, target.memory, int(pages[number % len(pages)]))
        low, high = (0, len(view)) if anywhere or bounds is None else bounds
        view[int(chance.integers(low, high))] ^= np.uint8(chance.integers(1, 256))
    return view


def cut_of(path: Path, chance: np.random.Generator) -> range:
    """Draw the block that is missing from a file."""
    size = int(chance.choice(CUT_PAGES)) * PAGE
    start = int(chance.integers(1, (path.stat().st_size - size) // PAGE)) * PAGE
    return range(start, start + size)


def shortened(view: View, _: Target, chance: np.random.Generator) -> View:
    """Let a file end too early."""
    return view[: int(len(view) * chance.uniform(0.02, 1))]


Damage = Callable[[View, Target, np.random.Generator], View]

CUT = "block cut"
"""The kind of damage that is done when the file is mapped."""

PLAIN: dict[str, Damage | None] = {
    "pages zeroed": zeroed,
    "pages swapped": swapped,
    "pages doubled": doubled,
    CUT: None,
    "cut short": shortened,
}
FRAMED: dict[str, Damage | None] = {"packed bytes rotten": rotten, CUT: None, "cut short": shortened}
BY_PAGE: dict[str, Damage | None] = {"packed bytes rotten": rotten, **PLAIN}
del BY_PAGE["pages zeroed"]
