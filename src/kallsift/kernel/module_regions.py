"""Where each loaded module's code and data lie: the bounds that the kernel takes for the ends of its last symbols.

``struct module`` says so with bases, aligned to pages, and sizes of 32 bits behind them, at places that change with
releases (``mem[]`` since 6.4, ``core_layout`` and ``init_layout``, ``core_text_size``; include/linux/module.h). What
must be true of the code's: in every module, all functions lie between the two. Of several places where that holds, the
whole module's size among them, the one with the smallest sizes is the text's. Behind each part stands a node of the
tree of modules, with a pointer to the structure itself: the distance of these tells where the other parts are told of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.table import SymbolTable
from kallsift.kernel.virtual import VirtualMemory

PAGE = 4096

FARTHEST_SIZE = 12
"""How far behind the base the size stands at most, in fields of 32 bits."""

FARTHEST_NODE = 16
"""How far behind the base the pointer to the structure itself stands at most, in words."""

STRUCT_WORDS = 320
"""Words of ``struct module`` that are looked at; the largest so far has some 200."""

LARGEST = 1 << 28
"""Bytes of a part of a module at most."""

MAX_PARTS = 7
"""Parts of a module at most: text, data, rodata, ro_after_init, and the initial ones of these."""

LAYOUTS = 3
"""Parts at most where each has code and data (up to 6.3): those sizes are of the code alone, the whole one's first."""

CODE = np.frombuffer(b"tT", np.uint8)
"""Letters of functions."""


@dataclass(frozen=True)
class _Place:
    """Where the structure tells of the code: the base's word, and the size's field of 32 bits behind it."""

    base: int
    size: int


def module_regions(
    memory: VirtualMemory, addresses: NDArray[np.uint64], tables: Sequence[SymbolTable]
) -> tuple[tuple[range, ...], ...]:
    """The addresses of each module's parts, that of its code first; none where nothing tells.

    Where there is but one, the module's data lie anywhere.

    Args:
        memory: the kernel's.
        addresses: of the modules' structures, shape (n,).
        tables: the modules' symbols.
    """
    places = addresses[:, None] + np.arange(STRUCT_WORDS, dtype=np.uint64) * np.uint64(memory.words.size)
    words = memory.values(places.ravel())[0].reshape(places.shape)
    place = _text_place(memory, addresses, words, tables)
    if place is None:
        return ((),) * len(tables)
    bases, stride = _parts(addresses, words, place)
    columns = [_regions(memory, addresses, words, _Place(base, place.size)) for base in bases]
    if stride and len(bases) <= LAYOUTS and place.size:
        whole = [_regions(memory, addresses, words, _Place(base, 0)) for base in bases]
        columns += [
            [range(text.stop, max(text.stop, every.stop)) for text, every in zip(column, own, strict=True)]
            for column, own in zip(columns, whole, strict=True)
        ]
    return tuple(tuple(part for part in parts if part) for parts in zip(*columns, strict=True))


def _text_place(
    memory: VirtualMemory, addresses: NDArray[np.uint64], words: NDArray[np.uint64], tables: Sequence[SymbolTable]
) -> _Place | None:
    """Where the structures tell of the code; None if no place fits all modules that have some."""
    code = [table.addresses[np.isin(table.types(), CODE)] for table in tables]
    some = np.array([number for number, own in enumerate(code) if len(own)], np.int64)
    if not len(some):
        return None
    first = np.array([code[number].min() for number in some.tolist()], np.uint64)
    last = np.array([code[number].max() for number in some.tolist()], np.uint64)
    bases = words[some]
    good = (bases != 0) & (bases % np.uint64(PAGE) == 0) & (bases <= first[:, None])
    good &= last[:, None] - bases < np.uint64(LARGEST)
    best: tuple[int, _Place] | None = None
    for base in np.flatnonzero(good.all(axis=0)).tolist():
        for number in range(FARTHEST_SIZE):
            sizes, held = _sizes(memory, addresses[some], _Place(base, number))
            fits = held & (sizes > last - bases[:, base]) & (sizes < np.uint64(LARGEST))
            if fits.all() and (best is None or int(sizes.sum()) < best[0]):
                best = int(sizes.sum()), _Place(base, number)
    return best[1] if best else None


def _parts(addresses: NDArray[np.uint64], words: NDArray[np.uint64], place: _Place) -> tuple[list[int], int]:
    """The words with the bases of all parts, and how far they are apart; 0 where there is one alone."""
    own = set(np.flatnonzero((words == addresses[:, None]).all(axis=0)).tolist())
    behind = sorted(word for word in own if word > place.base)[:2]
    if len(behind) < 2 or behind[0] - place.base > FARTHEST_NODE:
        return [place.base], 0
    stride = behind[1] - behind[0]
    count = next((number for number in range(MAX_PARTS) if behind[0] + number * stride not in own), MAX_PARTS)
    return [place.base + number * stride for number in range(count)], stride


def _regions(
    memory: VirtualMemory, addresses: NDArray[np.uint64], words: NDArray[np.uint64], place: _Place
) -> list[range]:
    """One part of each module; an empty range where it has none."""
    sizes, held = _sizes(memory, addresses, place)
    bases = words[:, place.base]
    good = held & (bases != 0) & (bases % np.uint64(PAGE) == 0) & (sizes < np.uint64(LARGEST))
    columns = zip(bases.tolist(), sizes.tolist(), good.tolist(), strict=True)
    return [range(base, base + size) if fits else range(0) for base, size, fits in columns]


def _sizes(
    memory: VirtualMemory, addresses: NDArray[np.uint64], place: _Place
) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """The sizes that stand at a place, and which could be read."""
    behind = (place.base + 1) * memory.words.size + 4 * place.size
    return memory.values(addresses + np.uint64(behind), np.dtype(f"{memory.words.byte_order}u4"))
