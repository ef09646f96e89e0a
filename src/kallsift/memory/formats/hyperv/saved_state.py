"""Read Hyper-V's saved states (.vmrs): blocks of a MiB, packed or not, and their addresses in the guest's memory.

Format: Microsoft's description in openvmm (the crate hvs_file, "Saved State Key Schema"); vmkatz, a reader made from
Hyper-V's own library, agrees. ``RamBlock<n>`` has the n-th MiB of the RAM; ``RamMemoryBlock<n>`` has for a run of pages
its position in the RAM and in the guest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import SourceError
from kallsift.memory.claimed import Claimed
from kallsift.memory.formats.hyperv import key_value_store
from kallsift.memory.formats.hyperv.cpu_state import processors
from kallsift.memory.formats.hyperv.key_value_store import Array
from kallsift.memory.formats.hyperv.ram_blocks import BLOCK, PAGE, PAGES, codec, unpacked
from kallsift.memory.lazy_segment import Cache, LazySegment
from kallsift.memory.memory import AddressSpace, Hints, Memory, cut_short
from kallsift.memory.remarks import limited, reason
from kallsift.memory.segments import Segment, sorted_segments
from kallsift.memory.unreadable import UnreadablePages
from kallsift.optional_package import MissingPackageError

PARTITION = "savedVM/partition_state"
_KEY = re.compile(r"(?:savedstate/)?(RamBlock|RamMemoryBlock)(\d{1,9})")
RUN = np.dtype([("version", "<u4"), ("flags", "<u4"), ("pages", "<u8"), ("ram_page", "<u8"), ("guest_page", "<u8")])
"""Beginning of a RamMemoryBlock: the number of pages, and the first of them in the RAM and in the guest."""
MAX_PAGES = 1 << 40
"""Highest page number that a run may reach."""
RUN_LIMIT = 1 << 12


_Read = Callable[[int], tuple[NDArray[np.uint8], list[range]]]
"""Function that returns the bytes of a block by its number, and the ranges in them that cannot be unpacked."""


class _Run(NamedTuple):
    """Adjacent pages: their number, and the number of the first one in the RAM and in the guest."""

    pages: int
    ram_page: int
    guest_page: int


def probe(header: bytes) -> bool:
    """Tell whether a file that begins with ``header`` is one of Hyper-V's."""
    return key_value_store.probe(header)


def open(name: str, view: NDArray[np.uint8], release: Callable[[], None]) -> Memory:
    """Open the memory of a saved state; a block is unpacked on demand.

    Args:
        name: name of the source in messages.
        view: the whole file, shape (size,), uint8.
        release: function that releases the file.

    Raises:
        SourceError: if the file is damaged or holds no memory, or if a package is missing.
    """
    storage = key_value_store.storage(name, view)
    arrays: dict[str, dict[int, Array]] = {"RamBlock": {}, "RamMemoryBlock": {}}
    for path, array in storage.arrays.items():
        if match := _KEY.fullmatch(path):
            arrays[match[1]][int(match[2])] = array
    blocks, notes = arrays["RamBlock"], []
    if not blocks or not arrays["RamMemoryBlock"]:
        raise SourceError(f"{name}: this Hyper-V file holds no memory; give the .vmrs file of a saved machine")
    if storage.unmade:
        notes.append(f"the file was not closed: {storage.unmade} changes exist only in its log, and are left out")
    if storage.damaged:
        notes.append(f"{storage.damaged} tables of the Hyper-V file are damaged: the keys in them are left out")
    if storage.left_out:
        notes.append(storage.left_out)
    whole = {number: array for number, array in blocks.items() if array.offset + array.size <= len(view)}
    if len(whole) < len(blocks):
        notes.append(cut_short("the saved state", len(whole) * BLOCK, len(blocks) * BLOCK))
    runs, remarks = _runs(view, arrays["RamMemoryBlock"])
    notes += remarks
    end = max((run.ram_page + run.pages for run in runs), default=0)
    unreadable = UnreadablePages()
    segments = _segments(runs, whole, _reader(name, view, whole, end), unreadable)
    if not segments:
        raise SourceError(f"{name}: none of the saved memory is in the file{reason(notes)}; copy it again")
    partition = storage.arrays.get(f"savedstate/{PARTITION}") or storage.arrays.get(PARTITION) or Array(0, 0)
    record = view[partition.offset : partition.offset + partition.size].tobytes()
    return Memory(
        source=name,
        container="Hyper-V saved state",
        space=AddressSpace.PHYSICAL,
        segments=sorted_segments(segments),
        hints=Hints(cpus=processors(record)),
        release=release,
        notes=limited(notes),
        unreadable=unreadable,
    )


def _reader(name: str, view: NDArray[np.uint8], arrays: dict[int, Array], end: int) -> _Read:
    """Return a function for the bytes of a block by its number.

    Args:
        name: name of the source in messages.
        view: the whole file, shape (size,), uint8.
        arrays: file offset and size of each block.
        end: number of pages of RAM; the last block need not be whole.

    Raises:
        SourceError: if a package is missing.
    """
    try:
        decompress = codec() if any(array.size != BLOCK for array in arrays.values()) else None
    except MissingPackageError as error:
        advice = f"needs the package {error}; pip install 'kallsift[hyperv]'"
        raise SourceError(f"{name}: holds its RAM compressed, which {advice}") from error

    def read(number: int) -> tuple[NDArray[np.uint8], list[range]]:
        array, size = arrays[number], min(PAGES, end - number * PAGES) * PAGE
        data = view[array.offset : array.offset + array.size]
        return (data[:size], []) if array.size == BLOCK or decompress is None else unpacked(data, size, decompress)

    return read


def _segments(runs: list[_Run], blocks: Collection[int], read: _Read, unreadable: UnreadablePages) -> list[Segment]:
    """Return the pages of the runs as memory, as far as there are blocks."""
    cache, numbers = Cache(), np.array(sorted(blocks), np.int64)
    segments: list[Segment] = []
    for run in runs:
        for first, last in _present(run, numbers):
            low, high = max(first * PAGES, run.ram_page), min(last * PAGES, run.ram_page + run.pages)
            start, lost = (run.guest_page + low - run.ram_page) * PAGE, (low - first * PAGES) * PAGE
            length = (high - first * PAGES) * PAGE
            owner = len(segments)
            decode = partial(_following, read, first, partial(unreadable.add, owner))
            segments.append(LazySegment(start, BLOCK, length, decode, cache, owner, lost, unreadable_pages=unreadable))
    return segments


def _following(read: _Read, first: int, report: Callable[[int, int], None], number: int) -> NDArray[np.uint8]:
    """Return a block by its number from the first one of a stretch on."""
    data, lost = read(first + number)
    for part in lost:
        report(number * BLOCK + part.start, number * BLOCK + part.stop)
    return data


def _present(run: _Run, numbers: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield the adjacent blocks of a run: the first, and the one behind the last.

    Args:
        run: run of pages.
        numbers: numbers of all blocks that exist, ascending.
    """
    bounds = [run.ram_page // PAGES, -(-(run.ram_page + run.pages) // PAGES)]
    low, high = np.searchsorted(numbers, bounds).tolist()
    inside = numbers[low:high]
    for part in np.split(inside, np.flatnonzero(np.diff(inside) > 1) + 1):
        if len(part):
            yield int(part[0]), int(part[-1]) + 1


def _runs(view: NDArray[np.uint8], arrays: dict[int, Array]) -> tuple[list[_Run], list[str]]:
    """Return the runs of pages in the file, and remarks on impossible ones.

    The runs must follow one another in the RAM. They must not overlap in the guest's memory.
    """
    runs: list[_Run] = []
    notes: list[str] = []
    claimed = Claimed()
    page = 0
    for number in sorted(arrays)[:RUN_LIMIT]:
        raw = view[arrays[number].offset :][: min(RUN.itemsize, arrays[number].size)].tobytes()
        what = f"RamMemoryBlock{number} of the Hyper-V file"
        if len(raw) < RUN.itemsize:
            notes.append(f"{what} is cut short: its pages are left out")
            continue
        fields = np.frombuffer(raw, RUN)[0]
        run = _Run(int(fields["pages"]), int(fields["ram_page"]), int(fields["guest_page"]))
        end = run.guest_page + run.pages
        # behind a run that is left out, any higher page may be the first
        is_next = run.ram_page == page if not notes else run.ram_page >= page
        if not run.pages or not is_next or end > MAX_PAGES or not claimed.claim_whole(run.guest_page, end):
            notes.append(f"{what} is damaged: its pages are left out")
            continue
        page = run.ram_page + run.pages
        runs.append(run)
    return runs, notes
