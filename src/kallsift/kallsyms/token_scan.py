r"""Find candidates of token tables in one vectorised pass over every byte of a memory.

Every digit is its own token in every kernel, and codes are in ASCII order, so each token table holds the twenty bytes
``0\0 1\0 2\0 ... 9\0``. Wherever they start, one aligned 64-bit lane lies wholly inside them, and the differences of
its neighbouring 16-bit parts are a constant. So a few array operations on each lane find them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import distinct, is_in
from kallsift.memory.memory import Memory
from kallsift.memory.segments import BytesSegment, Segment

DIGITS = b"".join(bytes((digit, 0)) for digit in b"0123456789")
"""Bytes that stand in every token table, from the token of code 0x30 on."""

BLOCK = 1 << 20
"""Bytes that a pass works on at once: its temporaries stay in the processor's cache."""

SMALL = 1 << 16
"""Bytes up to which handing them to a thread takes longer than searching them."""

LANE = 8

BATCH = 64 << 20
"""Bytes given to the threads at once, and the step between reports of progress."""

_STEP_CHARACTER_FIRST = np.uint64(0x0001_0001_0001_0000)
_STEP_NUL_FIRST = np.uint64(0x0100_0100_0100_0000)
_OTHER_BYTES = np.uint64(0x00FF_00FF_00FF_00FF)


def digit_runs(
    memory: Memory, progress: Callable[[int, int], None] | None = None, first: Iterable[tuple[int, int]] = ()
) -> Iterator[tuple[Segment, NDArray[np.int64]]]:
    """Yield the runs of digits' tokens in batches, in the order of addresses.

    Each run is yielded once. Those in ``first`` come before all others.

    Args:
        memory: the memory to search.
        progress: called with bytes done and bytes in all, while all of the memory is searched; holes do not count.
        first: address ranges (start, end) of the memory that are searched before all of it.

    Yields:
        A stretch of the memory, and the offsets in it at which a digit run starts; shape (n,), ascending, n > 0.
    """
    done, total = 0, memory.stored_size
    # a run across a border is found on both sides; a run in a part of ``first`` is found again in the pass over all
    before = following = np.empty(0, np.int64)
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        for segment, start, end, counts in _batches(memory, first):
            found = _lanes(threads, segment, start, end)
            done += end - start if counts else 0
            if progress and counts:
                progress(done, total)
            if not len(found):
                continue
            runs = _whole_runs(segment, found)
            addresses = (runs.astype(np.uint64) + np.uint64(segment.start)).view(np.int64)
            new = ~is_in(addresses, np.concatenate((before, following)))
            following = addresses
            if not counts:
                before = np.concatenate((before, addresses[new]))
            if new.any():
                yield segment, runs[new]


def packed_runs(memory: Memory) -> Iterator[tuple[int, int]]:
    """Yield address ranges in packed data that seem to hold digits' tokens.

    Nothing is unpacked for it: part of the digits in the packed bytes suffices. Digits that packing took apart are
    missed.
    """
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        for stretch in memory.segments:
            if stretch.packed is None:
                continue
            packed = BytesSegment(0, stretch.packed.data)
            for start in range(0, packed.size, BATCH):
                found = _lanes(threads, packed, start, min(start + BATCH, packed.size))
                # texts of two bytes a character have such digits too, but go on with one whose second byte is NUL
                after = (found + len(DIGITS) + 1).clip(0, packed.size - 1)
                found = found[packed.data[after] != 0]
                yield from ((stretch.start + low, stretch.start + high) for low, high in stretch.packed.unpacked(found))


def _batches(memory: Memory, first: Iterable[tuple[int, int]]) -> Iterator[tuple[Segment, int, int, bool]]:
    """Yield the ranges ``first`` of a memory, then all of it, in batches.

    Each batch is a stretch, two offsets in it, and whether it belongs to the pass over all of the memory.
    """
    for low, high in first:
        for segment in memory.between(max(0, low), min(high, 1 << 64)):
            begin, end = max(0, low - segment.start), min(high - segment.start, segment.size)
            for start in range(begin // BLOCK * BLOCK, end, BATCH):
                yield segment, start, min(start + BATCH, end), False
    for segment in memory.segments:
        for low, high in segment.stored():
            for start in range(low, high, BATCH):
                yield segment, start, min(start + BATCH, high), True


def _lanes(threads: ThreadPoolExecutor, segment: Segment, start: int, end: int) -> NDArray[np.int64]:
    """Return the runs that `_digit_lanes` finds between two offsets of a segment.

    They are offsets in the segment; ascending, each once, shape (n,).
    """
    if end - start <= min(SMALL, BLOCK):
        lane = _digit_lanes(segment, end, start)
        return distinct(lane + start) if len(lane) else lane
    # the threads read the blocks, because reading may mean decoding
    blocks = range(start, end, BLOCK)
    lanes = threads.map(partial(_digit_lanes, segment, end), blocks)
    found = [block + some for block, some in zip(blocks, lanes, strict=True) if len(some)]
    return distinct(np.concatenate(found)) if found else np.empty(0, np.int64)


def _digit_lanes(segment: Segment, end: int, start: int) -> NDArray[np.int64]:
    """Return where digit runs would begin, by the lanes that look like part of one.

    One block is searched. The results are relative to its ``start``.
    """
    stop = min(start + BLOCK, end)
    if segment.blank(start, stop):
        return np.empty(0, np.int64)
    block = segment.read(start, stop)
    skipped = -block.ctypes.data % LANE
    low = start
    if skipped:
        # where blocks do not start at a lane, one lane lies across each border
        low = max(0, start - LANE)
        block = segment.read(low, stop + LANE)
        skipped = -block.ctypes.data % LANE
    lanes = block[skipped : skipped + (len(block) - skipped) // 8 * 8].view(np.uint64)
    step = lanes >> np.uint64(16)
    step -= lanes
    step <<= np.uint64(16)
    hits = step == _STEP_CHARACTER_FIRST
    hits |= step == _STEP_NUL_FIRST
    places = np.flatnonzero(hits)
    if not len(places):
        return places
    values = lanes[places]
    nul_first = (values & np.uint64(0xFF)) == 0
    digit = np.where(nul_first, values >> np.uint64(8), values).astype(np.uint8).astype(np.int64) - ord("0")
    between = np.where(nul_first, values, values >> np.uint64(8)) & _OTHER_BYTES
    plausible = (digit >= 0) & (digit <= 9) & (between == 0)
    starts = low - start + skipped + places * LANE + nul_first - 2 * digit
    result: NDArray[np.int64] = starts[plausible]
    return result


def _whole_runs(segment: Segment, starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return those of the starts at which the whole run of digits stands."""
    starts = starts[(starts >= 0) & (starts <= segment.size - len(DIGITS))]
    cells = segment.gather(starts, len(DIGITS))
    result: NDArray[np.int64] = starts[(cells == np.frombuffer(DIGITS, np.uint8)).all(axis=1)]
    return result
