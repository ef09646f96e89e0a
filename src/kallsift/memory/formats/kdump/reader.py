"""Read kdump and diskdump files of makedumpfile and QEMU's dump-guest-memory, whose pages are compressed one by one.

A bitmap marks the pages that are in the file; pages that were left out (free, of user space, blank) are not mapped.
Sources: makedumpfile, IMPLEMENTATION and write_kdump_pages_and_bitmap_cyclic; QEMU, dump/dump.c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kallsift.budget import WorkBudget
from kallsift.compression.page_codecs import CODECS, COMPRESSED, UNKNOWN, Codec
from kallsift.errors import SourceError
from kallsift.memory.formats import elf_notes
from kallsift.memory.formats.kdump.bitmap import page_runs
from kallsift.memory.formats.kdump.header import (
    DESCRIPTOR,
    NOTE_BYTES_LIMIT,
    KdumpHeader,
)
from kallsift.memory.formats.kdump.mark import DISKDUMP, KDUMP
from kallsift.memory.formats.kdump.parts import missing_parts, with_damaged_parts
from kallsift.memory.formats.kdump.repair import repaired
from kallsift.memory.lazy_segment import Cache, LazySegment
from kallsift.memory.memory import AddressSpace, Hints, Memory
from kallsift.memory.reassembled_file import Content, ReassembledFile, stored_size_of
from kallsift.memory.run_budget import largest_runs
from kallsift.memory.segments import sorted_segments
from kallsift.memory.unreadable import UnreadablePages
from kallsift.optional_package import MissingPackageError

BLOCK = 1 << 16
"""Number of bytes that are decoded at once, or one page if that is larger."""

CACHE_SIZE = 16 << 20
"""Number of bytes of decoded pages that are kept."""

DESCRIPTORS_AT_ONCE = 1 << 20
LAST = 1 << 10
"""Number of last descriptors that are read to test whether the file has all pages, which stand in the same order."""

Report = Callable[[int, int], None]
"""Function that gets the begin and end of bytes of a run that cannot be read."""

_NONE = np.empty(0, np.int64)


def probe(header: bytes) -> bool:
    """Tell whether a file that begins with ``header`` is a kdump or diskdump."""
    return header.startswith((KDUMP, DISKDUMP))


def open(name: str, view: Content, release: Callable[[], None]) -> Memory:
    """Open the pages of a kdump as physical memory; they are decoded on demand.

    Its notes become hints.

    Args:
        name: name of the source in messages.
        view: the whole file, shape (size,), uint8, or an object that takes its place.
        release: function that releases the file.

    Raises:
        SourceError: if the headers are broken, or if there is no page at all.
    """
    return open_parts(name, [view], release)


def open_parts(name: str, contents: Sequence[Content], release: Callable[[], None]) -> Memory:
    """Open all parts of a split dump together, as `open` does.

    Raises:
        SourceError: as `open`, and if they overlap.
    """
    parts, notes = with_damaged_parts(contents)
    files = [_file(name, content, header) for content, header in parts]
    headers = [header for _, header, _ in files]
    notes += [remark for _, _, remarks in files for remark in remarks]
    pieces: list[LazySegment] = []
    budget = WorkBudget.of(sum(map(stored_size_of, contents)))
    cache, unreadable = Cache(CACHE_SIZE), UnreadablePages(headers[0].block_size)
    for content, header, _ in files:
        pages = _Pages(name, content, header, unreadable)
        found, remarks = _stretches(pages, cache, len(pieces), budget)
        pieces += found
        notes += remarks
    notes += [budget.left_out] if budget.left_out else []
    missing = missing_parts(headers)
    if not pieces:
        raise SourceError(f"{name}: {missing or 'this kdump ends before its first page; copy it again'}")
    if missing:
        notes.insert(0, missing)
    first = headers[0]
    return Memory(
        source=name,
        container="diskdump" if first.mark == DISKDUMP else "kdump",
        space=AddressSpace.PHYSICAL,
        segments=sorted_segments(pieces),
        hints=_hints(files[0][0], first),
        release=release,
        notes=tuple(notes),
        unreadable=unreadable,
    )


def _file(name: str, content: Content, header: KdumpHeader | None) -> tuple[Content, KdumpHeader, list[str]]:
    """Return a file, its header, and remarks, as they were before any damage.

    ``header`` is the part of it that is known so far.

    Raises:
        SourceError: if neither the header nor anything else tells the layout of the file.
    """
    if (found := repaired(content, header)) is not None:
        return found
    if header is None:
        raise SourceError(f"{name}: broken kdump header (no page size and bitmap that fit the file); copy it again")
    return content, header, []


class _Pages:
    """The compressed pages of one file."""

    def __init__(self, name: str, content: Content, header: KdumpHeader, unreadable: UnreadablePages) -> None:
        self.name, self.content, self.header, self.unreadable = name, content, header, unreadable
        self.page = header.block_size
        self.at_once = max(1, BLOCK // self.page)
        self._layout = DESCRIPTOR.newbyteorder(header.byte_order)
        self._codecs: dict[int, Codec] = {}
        # there is a slice for each page, and slices of a memoryview are the cheapest
        self._content: Any = content.data if isinstance(content, np.ndarray) else content
        # file offset of the blank page, to which many descriptors lead; None until it is found
        self._zeros: int | None = None

    @property
    def held(self) -> int:
        """Number of descriptors that the file has room for."""
        return max(0, len(self.content) - self.header.descriptors) // DESCRIPTOR.itemsize

    def descriptors(self, first: int, count: int) -> NDArray[np.void]:
        """Return descriptors from the ``first`` on, fewer if the file ends; shape (n,)."""
        start = self.header.descriptors + first * DESCRIPTOR.itemsize
        count = max(0, min(count, self.held - first))
        return np.ascontiguousarray(self.content[start : start + count * DESCRIPTOR.itemsize]).view(self._layout)

    def block(self, first: int, count: int, report: Report, number: int) -> NDArray[np.uint8]:
        """Return block ``number`` of a run of ``count`` pages.

        The number of the run's first descriptor is ``first``.
        """
        return self.blocks(first, count, report, number, number + 1)

    def blocks(self, first: int, count: int, report: Report, begin: int, end: int) -> NDArray[np.uint8]:
        """Return the blocks from number ``begin`` to ``end``, as `block` does."""
        low = begin * self.at_once
        rows = self.descriptors(first + low, min(end * self.at_once, count) - low)
        offsets = rows["offset"]
        block = np.empty(len(rows) * self.page, np.uint8)
        if len(rows) > 1 and (offsets == offsets[0]).all():
            pages = block.reshape(-1, self.page)
            lost = [(0, len(block))] if self._unpack(rows[:1], pages[0]) else []
            pages[1:] = pages[0]
            if not lost and not pages[0].any():
                self._zeros = int(offsets[0])
        else:
            lost = self._unpack(rows, block)
        for start, stop in lost:
            report(low * self.page + start, low * self.page + stop)
        return block

    def zeros(self, first: int, low: int, high: int) -> bool:
        """Tell whether a range of a run consists of the page that was found to be blank.

        The range goes from offset ``low`` to ``high``.
        """
        if self._zeros is None:
            return False
        before = low // self.page
        rows = self.descriptors(first + before, -(-high // self.page) - before)
        return bool((rows["offset"] == np.uint64(self._zeros)).all())

    def _unpack(self, rows: NDArray[np.void], block: NDArray[np.uint8]) -> list[tuple[int, int]]:
        """Decompress pages into a block, by their descriptors.

        A page that repeats the one before is copied.

        Returns:
            Begin and end of the pages in the block that do not decompress; these are zero.
        """
        page, target, content = self.page, block.data, self._content
        last, blank, was_lost = None, self._zeros, False
        lost: list[tuple[int, int]] = []
        columns = (rows[field].tolist() for field in ("offset", "size", "flags"))
        for place, offset, size, flags in zip(range(0, len(target), page), *columns, strict=True):
            if offset == last:
                block[place : place + page] = block[place - page : place]
            elif offset == blank:
                block[place : place + page] = 0
                was_lost = False
            elif packing := flags & COMPRESSED:
                decode, error = self._codecs.get(packing) or self._codec(packing)
                try:
                    # a page that does not shrink is stored uncompressed, so a larger size is cut
                    written = decode(content[offset : offset + min(size, page)], target[place : place + page])
                except (error, ValueError):
                    written = 0
                was_lost = written != page
            elif was_lost := size != page or not self._is_held(offset):
                pass
            else:
                block[place : place + page] = content[offset : offset + page]
            if was_lost:
                block[place : place + page] = 0
                lost.append((place, place + page))
            last = offset
        return lost

    def _is_held(self, offset: int) -> bool:
        """Tell whether the file has the whole of an uncompressed page."""
        if isinstance(self.content, ReassembledFile):
            return not any(self.content.gaps(offset, offset + self.page))
        return offset + self.page <= len(self.content)

    def _codec(self, packing: int) -> Codec:
        if packing not in CODECS:
            # no writer uses this flag: the descriptor is damaged
            return UNKNOWN
        compression, load = CODECS[packing]
        try:
            self._codecs[packing] = load()
        except MissingPackageError as error:
            reason = f"its pages are compressed with {compression}, which needs the package {error}"
            raise SourceError(f"{self.name}: {reason}; pip install 'kallsift[images]'") from error
        return self._codecs[packing]


def _stretches(pages: _Pages, cache: Cache, owner: int, budget: WorkBudget) -> tuple[list[LazySegment], list[str]]:
    """Return the runs of pages in a file, and remarks on missing ones.

    ``owner`` is the first of the runs' numbers.
    """
    header, page = pages.header, pages.page
    starts, counts, remarks = page_runs(pages.content, header, budget)
    firsts = np.concatenate([[0], np.cumsum(counts)[:-1]]) if len(counts) else _NONE
    promised = int(counts.sum())
    if header.incomplete or not _whole(pages, promised):
        starts, counts, firsts = _present(pages, starts, counts, promised)
        remarks += [f"the kdump is cut short: {int(counts.sum())} of {promised} pages present"]
    chosen = largest_runs(counts, budget, "runs of pages")
    starts, counts, firsts = starts[chosen], counts[chosen], firsts[chosen]
    if len(starts) and (int(starts[-1]) + int(counts[-1])) * page > 1 << 64:
        raise SourceError(f"{pages.name}: pages lie beyond the address space; the file is damaged, copy it again")
    rows = zip(starts.tolist(), counts.tolist(), firsts.tolist(), strict=True)
    block = pages.at_once * page
    stretches = [
        LazySegment(
            start * page,
            block,
            count * page,
            partial(pages.block, first, count, report := partial(pages.unreadable.add, owner + number)),
            cache,
            owner + number,
            decode_many=partial(pages.blocks, first, count, report),
            zeros=partial(pages.zeros, first),
            unreadable_pages=pages.unreadable,
        )
        for number, (start, count, first) in enumerate(rows)
    ]
    return stretches, remarks


def _whole(pages: _Pages, promised: int) -> bool:
    """Tell whether the file contains its last pages."""
    first = max(0, promised - LAST)
    rows = pages.descriptors(first, promised - first)
    # a blank descriptor is lost, and tells nothing about the end of the file
    return promised <= pages.held and bool((_inside(pages, rows) | (rows["size"] == 0)).all())


def _inside(pages: _Pages, rows: NDArray[np.void]) -> NDArray[np.bool_]:
    """Return which descriptors lead to a page in the file, shape (n,)."""
    size = np.uint64(len(pages.content))
    inside: NDArray[np.bool_] = (
        (rows["offset"] > 0) & (rows["offset"] < size) & (rows["size"] <= size - np.minimum(rows["offset"], size))
    )
    return inside


def _present(
    pages: _Pages, starts: NDArray[np.int64], counts: NDArray[np.int64], promised: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the runs without the pages behind the end of the file.

    Returns:
        First page, number of pages and first descriptor of each run.
    """
    kept = [
        np.flatnonzero(_inside(pages, pages.descriptors(first, DESCRIPTORS_AT_ONCE))) + first
        for first in range(0, min(promised, pages.held), DESCRIPTORS_AT_ONCE)
    ]
    numbers = np.concatenate([_NONE, *kept])
    numbers = numbers[numbers < promised]
    if not len(numbers):
        return _NONE, _NONE, _NONE
    ends = np.cumsum(counts)
    owners = np.searchsorted(ends, numbers, "right")
    found = starts[owners] + numbers - (ends - counts)[owners]
    breaks = np.flatnonzero(np.diff(found) != 1) + 1
    firsts = np.concatenate([[0], breaks])
    return found[firsts], np.diff(np.append(firsts, len(found))), numbers[firsts]


def _hints(content: Content, header: KdumpHeader) -> Hints:
    """Return the hints in the notes and VMCOREINFO; unreadable ones are left out."""
    start, size = header.notes
    found, _ = elf_notes.parse(content[start : start + min(size, NOTE_BYTES_LIMIT)].tobytes(), header.byte_order)
    hints = elf_notes.hints(found, _machine(found, header), header.byte_order, header.bits)
    if hints.vmcoreinfo is None and header.vmcoreinfo[1]:
        start, size = header.vmcoreinfo
        return replace(hints, vmcoreinfo=content[start : start + min(size, NOTE_BYTES_LIMIT)].tobytes())
    return hints


def _machine(notes: Sequence[elf_notes.Note], header: KdumpHeader) -> int:
    """Return the ELF machine number, by the names and sizes of notes; 0 if unknown."""
    if any(note.name == b"QEMU" for note in notes):
        return elf_notes.MACHINE_X86_64
    sizes = {layout.itemsize: machine for machine, layout in elf_notes.PROCESS_STATUS.items()}
    known = [sizes.get(len(note.data), 0) for note in notes if note.kind == elf_notes.NT_PRSTATUS]
    return known[0] if known and (header.bits, header.byte_order) == (64, "<") else 0
