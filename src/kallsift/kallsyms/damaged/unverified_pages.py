"""Entries of a stream of which some pages hold something else: those of proven pages, and walks over the others.

A page that no group proves may be a true one between two that are foreign. What it holds is read without asking where
it belongs, and the order of names has to tell that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.damaged.overwritten_pages import pages_out_of_order
from kallsift.kallsyms.damaged.page_map import PAGE, Pages, page_begin, pages_in_segment
from kallsift.kallsyms.damaged.stream_walk import FIRST_WHOLE, UNSURE_OF_ANY, Entries, following_entries, longest_walk
from kallsift.kallsyms.format.seqs_of_names import CUTS, Ranks


def proven_entries(
    data: NDArray[np.uint8],
    blank: Pages,
    entries: Entries,
    offset: int,
    end: int,
    letters: NDArray[np.bool_],
    two_byte_lengths: bool,
) -> Entries:
    """The entries that are proven, and walks adrift over all pages that are neither proven nor blank.

    Args:
        data: the segment's bytes.
        blank: the pages that are lost for sure.
        entries: those that were found, proven or not.
        offset: of the first entry.
        end: offset that the stream does not reach beyond.
        letters: shape (256,), whether an entry can begin with each code.
        two_byte_lengths: whether a length may take two bytes.
    """
    region = data[offset : end + 1]
    following = following_entries(region, blank, offset, letters, two_byte_lengths)
    walks = (
        walk + offset
        for low, high in _doubtful_runs(blank.lost | entries.pages, blank.first - offset, len(region))
        for walk in _walks(following, low, high, blank.first - offset)
    )
    return replace(
        entries,
        heads=np.where(entries.proven, entries.heads, -1),
        ends=np.where(entries.proven, entries.ends, -1),
        adrift=tuple(walks),
    )


def _doubtful_runs(settled: NDArray[np.bool_], first: int, size: int) -> Iterator[tuple[int, int]]:
    """Where neighbouring pages that are not settled begin and end, relative to the stream."""
    edges = np.flatnonzero(np.diff(np.concatenate(([True], settled, [True])).astype(np.int8)))
    for begin, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        low, high = max(0, begin * PAGE + first), min(size, stop * PAGE + first)
        if low < high:
            yield low, high


def _walks(following: NDArray[np.int64], low: int, high: int, first: int) -> Iterator[NDArray[np.int64]]:
    """Walks over a run of pages, without those pages on which they lead nowhere."""
    while low < high:
        inner = np.append(np.minimum(following[low:high] - low, high - low), high - low)
        walk = longest_walk(inner, 0, high - low) + low
        page = page_begin(int(walk[-1]), first)
        whole = walk[-1] + FIRST_WHOLE >= high
        if not whole:
            # nor is what reaches into that page
            walk = walk[walk <= page]
        if len(walk) > 2 * UNSURE_OF_ANY:
            yield walk
        # from something else a walk can have led into a page as it leads into nothing
        low = high if whole else page if low < page else page + PAGE


def halves(walk: NDArray[np.int64], start: int) -> tuple[NDArray[np.int64], ...]:
    """A walk cut at the page in its middle, or nothing if it lies on one page; what lies on both is in neither.

    Args:
        walk: offsets of entries in a segment's data.
        start: address of the segment, which says where pages begin.
    """
    pages = pages_in_segment(start, walk)
    if pages[0] == pages[-1]:
        return ()
    cut = int(np.searchsorted(pages, (int(pages[0]) + int(pages[-1]) + 1) // 2))
    parts = walk[: cut + int((int(walk[cut]) + start) % PAGE == 0)], walk[cut:]
    return tuple(part for part in parts if 2 * UNSURE_OF_ANY < len(part) < len(walk))


def ranks_in_order(ranks: Ranks, names: Sequence[bytes], start: int) -> Ranks:
    """What is left of a permutation less the pages of it that proven names show to hold something else.

    Args:
        ranks: what is left of seqs_of_names.
        names: of all symbols; empty where they are not proven.
        start: address of the segment, which says where pages begin.
    """
    known = ranks.order >= 0
    known[known] = [bool(names[index]) for index in ranks.order[known].tolist()]
    pages = pages_in_segment(start, ranks.offset + np.arange(len(known), dtype=np.int64) * ranks.entry_size)
    there = [names[index] for index in ranks.order[known].tolist()]
    text = b"\0".join(there)
    foreign: NDArray[np.int64] | None = None
    for mark in CUTS:
        if mark and mark not in text:
            continue
        own = [name.partition(mark)[0] for name in there] if mark else there
        # hardly more than merging, for most are in order
        number = {name: number for number, name in enumerate(dict.fromkeys(sorted(own)))}
        numbers = np.zeros(len(known), np.int64)
        numbers[known] = [number[name] for name in own]
        found = pages_out_of_order(numbers, known, pages)
        if foreign is None or len(found) < len(foreign):
            foreign = found
        if not len(found):
            break
    return ranks if foreign is None else ranks.without(np.isin(pages, foreign))
