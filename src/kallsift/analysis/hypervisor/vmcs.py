"""Find VMCS pages (Intel VT-x) in a host's memory, and prove them by its kernel.

The manual defines the first eight bytes of a VMCS: a revision and an abort indicator. The offsets of its fields are the
processor's secret and differ between models. But a VMCS holds the state with which its host continues: the address of
its interrupt descriptor table, its page table, and addresses of its code. Each must agree with the recovered kernel, at
the same offset in all pages of a revision.

Sources: Intel SDM volume 3, "Virtual Machine Control Structures"; KVM, arch/x86/kvm/vmx/vmcs12.h.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kallsift.analysis.dynamic.dynamic_symbols import dynamic_symbols
from kallsift.arch.paging import PagingMode, walk
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.access.virtual_memory import VirtualMemory, virtual_memory
from kallsift.kernel.kernel import Kernel
from kallsift.memory.memory import AddressSpace, Memory

PAGE = 4096
AT_ONCE = 4 << 20
"""Bytes of memory that are read in one step."""

PLACES = np.arange(8, PAGE - 4, 4)
"""Offsets in a page at which fields are searched.

They lie behind the revision and the abort indicator.
"""

REVISION = 0x7FFF_FFFF
"""Bits of the first word that are the revision; the top bit marks a shadow VMCS."""

MOST_PAGES = 1 << 12
"""Highest number of pages of one revision that are kept.

There is one page for each virtual processor.
"""

MOST_REVISIONS = 64
"""Highest number of revisions that are followed.

A host has one of its own, and one for each kind of hypervisor in its guests.
"""

KVM_REVISION = 0x11E5_7ED0
"""Revision of the VMCS that KVM offers to hypervisors in its guests.

It is the only one whose layout is published.
"""

KVM_PLACES = {"host_cr3": 592, "host_idt": 640, "ept_pointer": 120, "cr3": 432, "idt_base": 520, "rip": 544}

MOST_TOLD = 4
"""Highest number of values of a field that a message lists."""

Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Group:
    """VMCS pages of one revision.

    Attributes:
        revision: revision of their layout.
        addresses: physical address of each page, shape (n,).
        words: the words at all `PLACES` of each page, shape (n, places).
        agreeing: host fields that agree with the host's kernel, one line each.
    """

    revision: int
    addresses: Words
    words: Words
    agreeing: tuple[str, ...] = ()

    def at(self, field: str) -> NDArray[np.bool_]:
        """Mark the offsets at which a field can be, shape (places,)."""
        if self.revision != KVM_REVISION:
            return np.ones(len(PLACES), np.bool_)
        return np.isin(PLACES, KVM_PLACES[field])


def proven_pages(kernel: Kernel) -> Iterator[Group]:
    """Yield the VMCSs whose host fields agree with a kernel, grouped by revision.

    There are none unless the source is physical memory of an x86-64 machine, and ``idt_table`` is among the symbols.

    Raises:
        KallsiftError: if the kernel does not run; SourceError if the source turns out to be broken.
    """
    virtual = virtual_memory(kernel)
    symbol = kernel.symbols.find("idt_table")
    if kernel.memory.space is AddressSpace.PHYSICAL and kernel.architecture == "x86-64" and symbol is not None:
        idt = np.uint64(kernel.symbols.symbol(symbol).address - kernel.distance & (1 << 64) - 1)
        for group, tables in _groups(virtual, idt):
            if agreed := _agreed(kernel, virtual, group, tables):
                yield agreed


def _groups(virtual: VirtualMemory, idt: np.uint64) -> Iterator[tuple[Group, Words]]:
    """Yield the pages that hold an address of the host's IDT, grouped by revision.

    The second value has all addresses that lead to the interrupt descriptor table.
    """
    pages: dict[int, list[tuple[int, Words]]] = {}
    bases = np.empty(0, np.uint64)
    for address, page in _pages(virtual.memory):
        words = _words(page)
        # the table begins at a page boundary
        high = words[(words >> np.uint64(47) == np.uint64(0x1FFFF)) & (words & np.uint64(0xFFF) == 0)]
        bases = np.union1d(bases, _leading_to(virtual, np.setdiff1d(high, bases), idt))
        for row in np.flatnonzero(np.isin(words, bases).any(axis=1)).tolist():
            revision = int(page[row, :4].view("<u4")[0]) & REVISION
            kept = pages.setdefault(revision, []) if len(pages) < MOST_REVISIONS else pages.get(revision)
            if kept is not None and len(kept) < MOST_PAGES:
                kept.append((int(address[row]), words[row].copy()))
    for revision, kept in pages.items():
        yield Group(revision, np.array([a for a, _ in kept], np.uint64), np.stack([w for _, w in kept])), bases


def _leading_to(virtual: VirtualMemory, addresses: Words, physical: np.uint64) -> Words:
    places, mapped = virtual.physical(addresses)
    result: Words = addresses[mapped & (places == physical)]
    return result


def _pages(memory: Memory) -> Iterator[tuple[Words, NDArray[np.uint8]]]:
    """Yield the addresses and bytes of pages that begin as a VMCS does, in blocks.

    The bytes have shape (n, `PAGE`).
    """
    for stretch in memory.segments:
        first, end = -stretch.start % PAGE, stretch.size - stretch.end % PAGE
        for low in stretch.steps(AT_ONCE, first):
            high = min(low + AT_ONCE, end)
            if low >= end or stretch.blank(low, high):
                continue
            pages = stretch.read(low, high).reshape(-1, PAGE)
            heads = np.ascontiguousarray(pages[:, :8]).view("<u8")[:, 0]
            # no abort: the upper half is zero
            chosen = np.flatnonzero((heads & np.uint64(REVISION) != 0) & (heads >> np.uint64(32) == 0))
            if len(chosen):
                yield np.uint64(stretch.start + low) + chosen.astype(np.uint64) * np.uint64(PAGE), pages[chosen]


def _words(pages: NDArray[np.uint8]) -> Words:
    halves = np.ascontiguousarray(pages).view("<u4").astype(np.uint64)
    result: Words = halves[:, 2:-1] | halves[:, 3:] << np.uint64(32)
    return result


def _agreed(kernel: Kernel, virtual: VirtualMemory, group: Group, tables: Words) -> Group | None:
    """Return the pages of a group whose host fields agree with the kernel; or None.

    Each field must be at the same offset in all of these pages.
    """
    place = kernel.tables[0]
    roots = group.words & ~np.uint64(0xFFF)
    roots[group.words >> np.uint64(52) != 0] = 0
    tried = np.unique(roots[roots != 0])
    assert isinstance(virtual.mapping, PagingMode)
    physical, mapped = walk(kernel.memory, virtual.mapping, tried, np.full(len(tried), place.virtual, np.uint64))
    good = tried[mapped & (physical == np.uint64(place.physical))]
    kept = np.arange(len(roots))
    agreeing = []
    for field, right in (("host_idt", np.isin(group.words, tables)), ("host_cr3", np.isin(roots, good))):
        counts = right[kept].sum(axis=0) * group.at(field)
        best = int(np.argmax(counts))
        if not counts[best]:
            return None
        kept = kept[right[kept, best]]
        values = ", ".join(f"{value:#x}" for value in np.unique(group.words[kept, best])[:MOST_TOLD])
        agreeing.append(f"{field} at {PLACES[best]:#x}: {values}")
    group = replace(group, addresses=group.addresses[kept], words=group.words[kept])
    entries = _entries(kernel, group)
    return replace(group, agreeing=(*agreeing, *entries)) if entries else None


def _entries(kernel: Kernel, group: Group) -> list[str]:
    """Describe the words that are addresses of code in the host, one line each.

    These are the addresses at which the host continues and at which calls enter. They are the same in all pages.
    """
    same = (group.words == group.words[0]).all(axis=0)
    found = _code(kernel.symbols, group, same)
    return found or [line for each in dynamic_symbols(kernel).groups for line in _code(each.symbols, group, same)]


def _code(table: SymbolTable, group: Group, same: NDArray[np.bool_]) -> list[str]:
    named = np.flatnonzero(table.whole)
    letters = table.characters[table.bounds[named]]
    text = table.addresses[named[np.isin(letters, np.frombuffer(b"tTwW", np.uint8))]]
    found = np.flatnonzero(same & np.isin(group.words[0], text[text >> np.uint64(63) != 0]))
    located = [(place, table.at(int(group.words[0, place]))) for place in found.tolist()]
    return [f"code at {PLACES[place]:#x}: {one.symbol.name}" for place, one in located if one is not None]
