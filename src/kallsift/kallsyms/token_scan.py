"""Finds where a token table can be: one vectorised pass over every byte of a memory.

Every digit is its own token in every kernel, and codes are in ASCII order, so each token table holds the twenty
bytes ``0\\0 1\\0 ... 9\\0``. Wherever they start, one aligned 64-bit lane lies wholly inside them, and the
differences of its neighbouring 16-bit parts are a constant: a few array operations a lane find it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import distinct, is_in
from kallsift.memory.memory import Memory, Segment, Stretch

DIGITS = b"".join(bytes((digit, 0)) for digit in b"0123456789")
"""What stands in every token table, from the token of code 0x30 on."""

BLOCK = 1 << 20
"""Bytes a pass works on at once: its temporaries stay in the processor's cache."""

SMALL = 1 << 16
"""Bytes up to which it takes longer to hand them to a thread than to look at them."""

LANE = 8

BATCH = 64 << 20
"""Bytes given to the threads at once, and the grain of progress."""

_STEP_CHARACTER_FIRST = np.uint64(0x0001_0001_0001_0000)
_STEP_NUL_FIRST = np.uint64(0x0100_0100_0100_0000)
_OTHER_BYTES = np.uint64(0x00FF_00FF_00FF_00FF)


def digit_runs(
    memory: Memory, progress: Callable[[int, int], None] | None = None, first: Iterable[tuple[int, int]] = ()
) -> Iterator[tuple[Stretch, NDArray[np.int64]]]:
    """Where the digits' tokens stand, batch by batch in the order of addresses, each once.

    Args:
        memory: what to search.
        progress: called with bytes done and bytes in all, once all of the memory is searched; holes do not count.
        first: parts of the memory, each from an address to another, that are looked at before all of it.

    Yields:
        A stretch of the memory, and the offsets in it at which a digit run starts; shape (n,), ascending, n > 0.
    """
    done, total = 0, memory.stored_size
    # one that lies across a border is found on both sides, one in a part that comes first once more
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
    """Where digits' tokens seem to stand in what is packed, without unpacking it: from an address to another.

    Parts of them suffice, and where packing took them apart they are missed.
    """
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        for stretch in memory.segments:
            if stretch.packed is None:
                continue
            packed = Segment(0, stretch.packed.data)
            for start in range(0, packed.size, BATCH):
                found = _lanes(threads, packed, start, min(start + BATCH, packed.size))
                # texts of two bytes a character have such digits too, but go on with one whose second byte is NUL
                after = (found + len(DIGITS) + 1).clip(0, packed.size - 1)
                found = found[packed.data[after] != 0]
                yield from ((stretch.start + low, stretch.start + high) for low, high in stretch.packed.unpacked(found))


def _batches(memory: Memory, first: Iterable[tuple[int, int]]) -> Iterator[tuple[Stretch, int, int, bool]]:
    """The parts ``first`` of a memory, then all of it, in batches: a stretch, two offsets in it, whether it is all."""
    for low, high in first:
        for segment in memory.between(max(0, low), min(high, 1 << 64)):
            begin, end = max(0, low - segment.start), min(high - segment.start, segment.size)
            for start in range(begin // BLOCK * BLOCK, end, BATCH):
                yield segment, start, min(start + BATCH, end), False
    for segment in memory.segments:
        for low, high in segment.stored():
            for start in range(low, high, BATCH):
                yield segment, start, min(start + BATCH, high), True


def _lanes(threads: ThreadPoolExecutor, segment: Stretch, start: int, end: int) -> NDArray[np.int64]:
    """`_digit_lanes` of all blocks from one offset to another; ascending, each once, shape (n,)."""
    if end - start <= min(SMALL, BLOCK):
        lane = _digit_lanes(segment, end, start)
        return distinct(lane + start) if len(lane) else lane
    # read by the threads, which may have to decode it
    blocks = range(start, end, BLOCK)
    lanes = threads.map(partial(_digit_lanes, segment, end), blocks)
    found = [block + some for block, some in zip(blocks, lanes, strict=True) if len(some)]
    return distinct(np.concatenate(found)) if found else np.empty(0, np.int64)


def _digit_lanes(segment: Stretch, end: int, start: int) -> NDArray[np.int64]:
    """Offsets in the block at ``start`` at which digit runs would begin, were the lanes that look like part of one."""
    stop = min(start + BLOCK, end)
    if segment.blank(start, stop):
        return np.empty(0, np.int64)
    block = segment.read(start, stop)
    skipped = -block.ctypes.data % LANE
    low = start
    if skipped:
        # where lanes are not aligned to blocks, one lies across each border
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


def _whole_runs(segment: Stretch, starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of the starts at which the whole run of digits stands."""
    starts = starts[(starts >= 0) & (starts <= segment.size - len(DIGITS))]
    cells = segment.gather(starts, len(DIGITS))
    result: NDArray[np.int64] = starts[(cells == np.frombuffer(DIGITS, np.uint8)).all(axis=1)]
    return result
