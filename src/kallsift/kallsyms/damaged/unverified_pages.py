"""Read a stream of which some pages are overwritten: entries of proven pages, and walks over the others.

A page that no group proves may be a true page between two overwritten ones. Its entries are read without knowledge of
their indices; the order of names must tell these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.damaged.damage_context import DamageContext
from kallsift.kallsyms.damaged.marker_resync import Entries
from kallsift.kallsyms.damaged.overwritten_pages import pages_out_of_order
from kallsift.kallsyms.damaged.page_map import PAGE, page_begin, pages_in_segment
from kallsift.kallsyms.damaged.seqs_of_names import Ranks
from kallsift.kallsyms.damaged.stream_layout import NameStreamLayout
from kallsift.kallsyms.damaged.stream_walk import FIRST_WHOLE, UNTRUSTED_OF_ANY, following_entries, longest_walk
from kallsift.kallsyms.format.seqs_of_names import CUTS


def proven_entries(context: DamageContext, stream: NameStreamLayout, entries: Entries) -> Entries:
    """Return the proven entries, and walks over the pages neither proven nor blank.

    Args:
        context: the memory with the stream, and the pages that are lost for certain.
        stream: the layout of the stream.
        entries: the entries that were found, proven or not.
    """
    blank, offset = context.pages, stream.offset
    region = context.data[offset : stream.end + 1]
    following = following_entries(region, blank, offset, context.can_begin, stream.two_byte_lengths)
    walks = (
        walk + offset
        for low, high in _unverified_runs(blank.lost | entries.pages, blank.first - offset, len(region))
        for walk in _walks(following, low, high, blank.first - offset)
    )
    return replace(
        entries,
        heads=np.where(entries.proven, entries.heads, -1),
        ends=np.where(entries.proven, entries.ends, -1),
        unanchored_chains=tuple(walks),
    )


def _unverified_runs(settled: NDArray[np.bool_], first: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of runs of pages that are not settled.

    Both are relative to the stream.
    """
    edges = np.flatnonzero(np.diff(np.concatenate(([True], settled, [True])).astype(np.int8)))
    for begin, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        low, high = max(0, begin * PAGE + first), min(size, stop * PAGE + first)
        if low < high:
            yield low, high


def _walks(following: NDArray[np.int64], low: int, high: int, first: int) -> Iterator[NDArray[np.int64]]:
    """Yield walks over a run of pages, without the pages on which they lead nowhere."""
    while low < high:
        inner = np.append(np.minimum(following[low:high] - low, high - low), high - low)
        walk = longest_walk(inner, 0, high - low) + low
        page = page_begin(int(walk[-1]), first)
        whole = walk[-1] + FIRST_WHOLE >= high
        if not whole:
            # entries that reach into that page are dropped as well
            walk = walk[walk <= page]
        if len(walk) > 2 * UNTRUSTED_OF_ANY:
            yield walk
        # the walk may have entered that page from an overwritten one, so the page is tried again from its start
        low = high if whole else page if low < page else page + PAGE


def halves(walk: NDArray[np.int64], start: int) -> tuple[NDArray[np.int64], ...]:
    """Return the two parts of a walk, cut at the page in its middle.

    Nothing is returned if it lies on one page. An entry on both sides of the cut is in neither part.

    Args:
        walk: offsets of entries in a segment's data.
        start: address of the segment, by which pages begin.
    """
    pages = pages_in_segment(start, walk)
    if pages[0] == pages[-1]:
        return ()
    cut = int(np.searchsorted(pages, (int(pages[0]) + int(pages[-1]) + 1) // 2))
    parts = walk[: cut + int((int(walk[cut]) + start) % PAGE == 0)], walk[cut:]
    return tuple(part for part in parts if 2 * UNTRUSTED_OF_ANY < len(part) < len(walk))


def ranks_in_order(ranks: Ranks, names: Sequence[bytes], start: int) -> Ranks:
    """Return the permutation without the pages that proven names show as overwritten.

    Args:
        ranks: the surviving part of seqs_of_names.
        names: names of all symbols; empty where they are not proven.
        start: address of the segment, by which pages begin.
    """
    known = ranks.order >= 0
    known[known] = [bool(names[index]) for index in ranks.order[known].tolist()]
    pages = pages_in_segment(start, ranks.offset + np.arange(len(known), dtype=np.int64) * ranks.entry_size)
    there = [names[index] for index in ranks.order[known].tolist()]
    text = b"\0".join(there)
    overwritten: NDArray[np.int64] | None = None
    for mark in CUTS:
        if mark and mark not in text:
            continue
        # most names have no mark, and to look for one costs less than to cut there
        own = [name.partition(mark)[0] if mark in name else name for name in there] if mark else there
        # sorting costs little more than merging, because most names are in order
        number = {name: number for number, name in enumerate(dict.fromkeys(sorted(own)))}
        numbers = np.zeros(len(known), np.int64)
        numbers[known] = [number[name] for name in own]
        found = pages_out_of_order(numbers, known, pages)
        if overwritten is None or len(found) < len(overwritten):
            overwritten = found
        if not len(found):
            break
    return ranks if overwritten is None else ranks.without(np.isin(pages, overwritten))
