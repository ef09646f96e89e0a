"""Where each loaded module's code lies: the bounds that the kernel takes for the end of its last function.

``struct module`` says so with a base, aligned to pages, and a size of 32 bits behind it, at places that change with
releases (``mem[MOD_TEXT]``, ``core_layout.text_size``, ``core_text_size``; include/linux/module.h). What must be true
of them: in every module, all functions lie between the two. Of several places where that holds, the whole module's
size among them, the one with the smallest sizes is the text's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.table import SymbolTable
from kallsift.kernel.virtual import VirtualMemory

PAGE = 4096

FARTHEST_SIZE = 12
"""How far behind the base the size stands at most, in fields of 32 bits."""

STRUCT_WORDS = 320
"""Words of ``struct module`` that are looked at; the largest so far has some 200."""

LARGEST = 1 << 28
"""Bytes of code in a module at most."""

CODE = np.frombuffer(b"tT", np.uint8)
"""Letters of functions."""


def text_ranges(
    memory: VirtualMemory, addresses: NDArray[np.uint64], tables: Sequence[SymbolTable]
) -> tuple[range | None, ...]:
    """The addresses of each module's code; None where it has no function, or nothing tells.

    Args:
        memory: the kernel's.
        addresses: of the modules' structures, shape (n,).
        tables: the modules' symbols.
    """
    code = [table.addresses[np.isin(table.types(), CODE)] for table in tables]
    some = np.array([number for number, own in enumerate(code) if len(own)], np.int64)
    nowhere: tuple[range | None, ...] = (None,) * len(tables)
    if not len(some):
        return nowhere
    first = np.array([code[number].min() for number in some.tolist()], np.uint64)
    last = np.array([code[number].max() for number in some.tolist()], np.uint64)
    places = addresses[some][:, None] + np.arange(STRUCT_WORDS, dtype=np.uint64) * np.uint64(memory.words.size)
    bases = memory.values(places.ravel())[0].reshape(places.shape)
    good = (bases != 0) & (bases % np.uint64(PAGE) == 0) & (bases <= first[:, None])
    good &= last[:, None] - bases < np.uint64(LARGEST)
    best: tuple[int, NDArray[np.uint64], NDArray[np.uint64]] | None = None
    field = np.dtype(f"{memory.words.byte_order}u4")
    for place in np.flatnonzero(good.all(axis=0)).tolist():
        base = bases[:, place]
        own = addresses[some] + np.uint64((place + 1) * memory.words.size)
        for number in range(FARTHEST_SIZE):
            sizes, held = memory.values(own + np.uint64(4 * number), field)
            fits = held & (sizes > last - base) & (sizes < np.uint64(LARGEST))
            if fits.all() and (best is None or int(sizes.sum()) < best[0]):
                best = int(sizes.sum()), base, sizes
    if best is None:
        return nowhere
    found = list(nowhere)
    for number, base_address, size in zip(some.tolist(), best[1].tolist(), best[2].tolist(), strict=True):
        found[number] = range(base_address, base_address + size)
    return tuple(found)
