"""Find by how much addresses in a memory differ from physical addresses: the displacement.

Such memory is a guest's inside of its host's, RAM behind something else in a file, or RAM whose first address is
unknown. A kernel in it ran, but none of its page tables maps it where it lies. All of its physical addresses differ by
the same number, and the page table gives this number: its entries must lead to the kernel's tables again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from kallsift.arch.encryption import with_encryption
from kallsift.arch.paging import LEAF, PRESENT, PagingMode, walk
from kallsift.arch.registry import ROOT_SYMBOLS, modes, windows
from kallsift.kernel.checks.vmcoreinfo import scattered
from kallsift.kernel.kernel import Kernel
from kallsift.kernel.placement.pointers import PAGE
from kallsift.memory.memory import Memory

MASK = (1 << 64) - 1

MAX_TEXTS = 8
"""Highest number of VMCOREINFO texts that are searched for the page table's address."""

BATCH = 1 << 18
"""Number of places that are tried at once."""

MAX_PHYSICAL = {"x86-64": 1 << 46}
"""Address from which on no machine has RAM: higher bits of entries are attributes that are not known."""

MAX_DISPLACEMENTS = 16
"""Highest number of displacements that are yielded: an intact page table has one."""


def displacements(memory: Memory, kernel: Kernel) -> Iterator[int]:
    """Yield candidates for address in the memory less physical address, modulo 2^64.

    They are never 0; there are `MAX_DISPLACEMENTS` at most, often none.
    """
    given: set[int] = {0}
    for found in _candidates(memory, kernel):
        if found not in given:
            given.add(found)
            yield found
        if len(given) > MAX_DISPLACEMENTS:
            return


def _candidates(memory: Memory, kernel: Kernel) -> Iterator[int]:
    word_size = kernel.symbols.word_size
    table = kernel.tables[0]
    address, place = np.array([table.virtual], np.uint64), table.physical
    for mapping in windows(word_size, kernel.byte_order):
        physical, mapped = mapping.translate(address)
        if mapped[0]:
            yield place - int(physical[0]) & MASK
    for root in _roots(memory, kernel):
        for mode in modes(word_size, kernel.byte_order):
            limit = MAX_PHYSICAL.get(mode.architecture, MASK)
            found = _by_page_table(memory, mode, root, address, place)
            yield from (each for each in found if place - each & MASK < limit)


def _roots(memory: Memory, kernel: Kernel) -> Iterator[int]:
    """Yield the addresses in the memory of the kernel's own page table.

    A symbol names it; where only text is listed, a VMCOREINFO text does.
    """
    named: list[int] = [symbol.address for name in ROOT_SYMBOLS for symbol in kernel.symbols.all(name)]
    if not named:
        texts = (info.symbol("swapper_pg_dir") for info in islice(scattered(memory), MAX_TEXTS))
        named = sorted({address for address in texts if address})
    for address in named:
        yield address - kernel.distance & (1 << 8 * kernel.symbols.word_size) - 1


def _by_page_table(
    memory: Memory, mode: PagingMode, root: int, address: NDArray[np.uint64], place: int
) -> Iterator[int]:
    """Yield the displacements with which a page table maps ``address`` to ``place``.

    The location of the second-level table gives the displacement, and every page of the memory is tried as that table.
    """
    if not mode.translatable(address)[0]:
        return
    mode = with_encryption(memory, memory.segments[-1].end, mode, root)
    width = np.uint64(mode.entry.itemsize)
    entry, held = memory.words(np.array([root], np.uint64) + mode.index(address, 0) * width, mode.entry)
    flags = mode.classify(entry, 0)
    if not held[0] or not flags[0] & PRESENT:
        return
    target = mode.target(entry, 0)
    if flags[0] & LEAF:
        inside = mode.inside(entry, 0)
        yield place - int((target & ~inside | address & inside)[0]) & MASK
        return
    offset = int(target[0]) % PAGE
    for segment in memory.segments:
        first = segment.start + (offset - segment.start) % PAGE
        for start in range(first, segment.end, BATCH * PAGE):
            pages = np.arange(start, min(start + BATCH * PAGE, segment.end), PAGE, dtype=np.uint64)
            displaced = pages - target[0]
            wanted = np.full(len(pages), address[0], np.uint64)
            physical, mapped = walk(memory, mode, np.uint64(root) - displaced, wanted, displaced)
            for index in np.flatnonzero(mapped & (physical + displaced == np.uint64(place))):
                yield int(displaced[index])
