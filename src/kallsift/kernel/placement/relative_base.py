"""Find the base of an address array whose word is lost, or is yet to be filled in by a loader, by the image's pointers.

Many words of an image are addresses of symbols. The base is itself an address in the image, mostly that of its first
symbol. So of such words, the base is the one at which the offsets of most other words are those of symbols.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import distinct
from kallsift.kallsyms.evidence import Check, CheckId
from kallsift.kallsyms.recovered_tables import Tables
from kallsift.kernel.placement.distances import self_pointer_distances
from kallsift.kernel.placement.pointers import Words, pointers_between
from kallsift.kernel.placement.window_facts import WindowFacts
from kallsift.memory.memory import Memory

ALIGNMENT = 1 << 12
"""Alignment of the beginning of images in bytes."""

MAX_BASES = 4096
SAMPLE = 2048
"""Number of words with which each base is tried."""

LEAST = 0.1
"""Lowest share of them that must be addresses of symbols; where addresses are low numbers, most words are none."""

CLEAR = 2
"""Lowest ratio of this share to that of any other base."""

BEYOND = 16 << 20
"""Highest reach of an image below and above its tables, in bytes."""


def with_base(memory: Memory, tables: Tables, facts: WindowFacts) -> Iterator[tuple[Tables, Check]]:
    """Yield the tables with the base that the image's words agree on, if they do.

    Args:
        memory: the memory with the tables.
        tables: the tables, whose array lacks its base.
        facts: facts of the image.
    """
    window, words = facts.window, facts.words
    given = [] if memory.image is None or memory.image.base is None else [memory.image.base]
    places = [distance for distance, _ in self_pointer_distances(facts)]
    places += [base - memory.segments[0].start & words.mask for base in given]
    for distance in places[:4]:
        low = max(0, (tables.places[0][1] + distance & words.mask) - BEYOND)
        high = min(words.mask, (tables.places[-1][1] + distance & words.mask) + BEYOND)
        if low >= high:
            continue
        values = distinct(pointers_between(window, words, low, high).values)
        bases = distinct(np.concatenate((np.array(given, np.uint64), values[values % np.uint64(ALIGNMENT) == 0])))
        sample = values[:: max(1, len(values) // SAMPLE)]
        if len(sample) < SAMPLE // 32:
            continue
        offsets = distinct(tables.array.addresses(0))
        shares = [_share(offsets, sample, int(base), words) for base in bases[:MAX_BASES]]
        best = int(np.argmax(shares)) if shares else 0
        others = max(shares[:best] + shares[best + 1 :], default=0)
        if shares and shares[best] >= max(LEAST, CLEAR * others):
            base = int(bases[best])
            detail = (
                f"no word in the source holds it; with {base:#x}, {shares[best]:.0%} of the words that can be "
                "pointers equal symbols"
            )
            yield (
                replace(tables, array=replace(tables.array, relative_base=base)),
                Check.that(CheckId.BASE, True, detail),
            )
            return


def _share(offsets: NDArray[np.uint64], sample: NDArray[np.uint64], base: int, words: Words) -> float:
    """Return the share of the sample that are symbols if offsets count from ``base``."""
    wanted = words.wrap(sample - np.uint64(base))
    at = np.minimum(np.searchsorted(offsets, wanted), len(offsets) - 1)
    return float(np.mean(offsets[at] == wanted))
