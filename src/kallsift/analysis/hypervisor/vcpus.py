"""Find the virtual processors of a machine's guests, as ways into their memory.

They are found by the VMCSs that the hypervisor has in memory. The offsets of a guest's fields are learnt too: a field
makes sense at the same offset in every page that `vmcs` has proven. A pointer to extended page tables leads to such a
table. A page table maps, through those, the addresses that the page holds. Gates lead to code of the guest. A list of
model-specific registers contains LSTAR.

Processors keep fields in internal caches while a VMCS is active, so a page can be older than the rest of a dump.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.addresses import PhysicalAddress
from kallsift.analysis.hypervisor.guest_memory import GuestMemory
from kallsift.analysis.hypervisor.vmcs import PAGE, Group, Words, proven_pages
from kallsift.arch import x86
from kallsift.arch.ept import extended_paging, is_top_table
from kallsift.kernel.kernel import Kernel
from kallsift.memory.memory import Memory

LSTAR = 0xC000_0082
MSR_ENTRIES = 32
"""Number of entries that are read of a list of model-specific registers.

An entry is number, zero, value.
"""

MSR_RANGES = ((0, 0x2000), (0x4000_0000, 0x4000_2000), (0xC000_0000, 0xC000_2000), (0xC001_0000, 0xC001_2000))
GATES = 16
"""Lowest number of gates in a table of gates; Linux has one for each exception."""

MOST_POINTERS = 1 << 12
"""Highest number of words that are followed as pointers to extended page tables.

A host has one for each guest.
"""

ENOUGH_MAPPED = 3
"""Lowest number of addresses in its VMCS page that a guest's page table must map."""

MOST_ADDRESSES = 64
"""Highest number of addresses of a page that are checked."""


@dataclass(frozen=True, repr=False)
class VirtualProcessor:
    """The facts that the VMCS of a guest's processor gives; None for unknown ones.

    Attributes:
        vmcs: physical address of the VMCS in the host's memory.
        revision: revision of its layout.
        ept_pointer: pointer to the tables that translate the guest's physical addresses.
        cr3: the guest's page table, a physical address of the guest, with its lowest bits.
        lstar: entry point of SYSCALL in the guest; only if the hypervisor keeps it in a list of the VMCS.
        idt_base: address of the guest's interrupt descriptor table.
        rip: address at which the guest was interrupted; only for a published layout.
        agreeing: host fields that agree with the host's kernel, one line each.
    """

    vmcs: PhysicalAddress
    revision: int
    ept_pointer: int | None
    cr3: int | None
    lstar: int | None
    idt_base: int | None
    rip: int | None
    agreeing: tuple[str, ...]

    def __repr__(self) -> str:
        known = {name: getattr(self, name) for name in ("cr3", "lstar", "idt_base", "rip")}
        shown = ", ".join(f"{name} {value:#x}" for name, value in known.items() if value is not None)
        return f"<VirtualProcessor, VMCS at {self.vmcs:#x}: {shown or 'nothing known'}>"


def virtual_processors(kernel: Kernel) -> tuple[VirtualProcessor, ...]:
    """Return the processors of a kernel's virtual machines, in order of their VMCSs.

    Raises:
        KallsiftError: if the kernel does not run; SourceError if the source turns out to be broken.
    """
    found = [each for group in proven_pages(kernel) for each in _processors(kernel, group)]
    return tuple(sorted(found, key=lambda each: each.vmcs))


def _processors(kernel: Kernel, group: Group) -> Iterator[VirtualProcessor]:
    """Yield the virtual processors of proven pages."""
    pointers = _column(np.isin(group.words, _ept_pointers(kernel.memory, group.words)), "ept_pointer", group)
    memories = [_guest_memory(kernel.memory, pointer) for pointer in pointers]
    rows = list(zip(memories, group.words, strict=True))
    roots = _column(np.stack([_roots(memory, row) for memory, row in rows]), "cr3", group)
    gates = [_gates(memory, root, row) for (memory, row), root in zip(rows, roots, strict=True)]
    tables = _column(np.stack(gates), "idt_base", group)
    host_entry = kernel.symbols.find("entry_SYSCALL_64")
    host = None if host_entry is None else kernel.symbols.symbol(host_entry).address
    for row, address in enumerate(group.addresses.tolist()):
        rip = group.words[row, group.at("rip")]
        yield VirtualProcessor(
            vmcs=PhysicalAddress(address),
            revision=group.revision,
            ept_pointer=pointers[row],
            cr3=roots[row],
            lstar=_lstar(memories[row], roots[row], group.words[row], host),
            idt_base=tables[row],
            # nothing distinguishes addresses of code from each other, so only a published offset is trusted
            rip=int(rip[0]) if len(rip) == 1 else None,
            agreeing=group.agreeing,
        )


def _column(right: NDArray[np.bool_], field: str, group: Group) -> list[int | None]:
    """Return the values of one field, one for each page; None where it makes no sense.

    The field is read at the offset where it makes sense in most pages. If several offsets are equally good but do not
    hold the same values, none of them is taken.

    Args:
        right: whether the word makes sense as the field, for each page and offset.
        field: name of the field.
        group: the pages.
    """
    right = right & group.at(field)
    counts = right.sum(axis=0)
    best = np.flatnonzero(counts == counts.max())
    one = int(best[0])
    rows = right[:, one]
    same = (right[:, best] == rows[:, None]).all() and (group.words[:, best] == group.words[:, [one]])[rows].all()
    if not counts[one] or not same:
        return [None] * len(right)
    return [int(value) if holds else None for value, holds in zip(group.words[:, one], rows, strict=True)]


def _ept_pointers(memory: Memory, words: Words) -> Words:
    """Return the words that lead to a top table of extended paging."""
    levels = words >> np.uint64(3) & np.uint64(7)
    likely = np.unique(words[(levels - np.uint64(3) < 2) & (words & np.uint64(0xF00) == 0) & (words > PAGE)])
    found = []
    for pointer in likely[:MOST_POINTERS].tolist():
        paging = extended_paging(pointer)
        if paging is None:
            continue
        entries, held = memory.words(np.uint64(paging[1]) + np.arange(0, PAGE, 8, dtype=np.uint64), np.dtype("<u8"))
        if held.all() and is_top_table(entries):
            found.append(pointer)
    return np.array(found, np.uint64)


def _guest_memory(host: Memory, pointer: int | None) -> GuestMemory | None:
    paging = None if pointer is None else extended_paging(pointer)
    return None if paging is None else GuestMemory(host, *paging)


def _high(row: Words) -> Words:
    """Return the upper-half addresses that a page holds, `MOST_ADDRESSES` at most."""
    return np.unique(row[row >> np.uint64(47) == np.uint64(0x1FFFF)])[:MOST_ADDRESSES]


def _roots(memory: GuestMemory | None, row: Words) -> NDArray[np.bool_]:
    """Mark the words of a page that lead to the guest's page table.

    This is the table that maps most of the addresses in the page.
    """
    if memory is None:
        return np.zeros(len(row), np.bool_)
    roots = row & ~np.uint64(0xFFF)
    tried = np.unique(roots[(roots != 0) & (row >> np.uint64(52) == 0)])
    counts = memory.mapped(tried, _high(row)).sum(axis=1)
    good = tried[counts >= max(ENOUGH_MAPPED, int(counts.max(initial=0)))]
    result: NDArray[np.bool_] = np.isin(roots, good) & (row >> np.uint64(52) == 0)
    return result


def _gates(memory: GuestMemory | None, cr3: int | None, row: Words) -> NDArray[np.bool_]:
    """Mark the words of a page that are addresses of a table of gates.

    Each gate must lead to code of the guest.
    """
    if memory is None or cr3 is None:
        return np.zeros(len(row), np.bool_)
    root = cr3 & ~0xFFF
    good = []
    for base in _high(row).tolist():
        places = np.uint64(base) + np.arange(0, GATES * x86.gate_size(8), 8, dtype=np.uint64)
        words, held = memory.virtual_words(root, places)
        handlers = x86.handlers(words.view(np.uint8), 8) if held.all() else words[:0]
        if len(handlers) == GATES and memory.mapped(np.array([root], np.uint64), handlers).all():
            good.append(base)
    return np.isin(row, np.array(good, np.uint64))


def _lstar(memory: GuestMemory | None, cr3: int | None, row: Words, host: int | None) -> int | None:
    """Return the guest's LSTAR from a list that a page leads to; None if unknown.

    The guest's page table must map it, and it must be the only one. The host's own LSTAR is left out: it stands in the
    list of registers that are loaded when the processor leaves the guest.
    """
    if memory is None or cr3 is None:
        return None
    lists = np.unique(row[(row & np.uint64(0xF) == 0) & (row != 0) & (row >> np.uint64(52) == 0)])
    places = lists[:, None] + np.arange(0, MSR_ENTRIES * 16, 8, dtype=np.uint64)
    words, held = memory.host.words(places.ravel(), np.dtype("<u8"))
    numbers, values = np.moveaxis(words.reshape(-1, MSR_ENTRIES, 2), 2, 0)
    known = np.any([(numbers >= low) & (numbers < high) for low, high in MSR_RANGES], axis=0)
    known &= held.reshape(-1, MSR_ENTRIES, 2).all(axis=2)
    entries = np.unique(values[np.logical_and.accumulate(known, axis=1) & (numbers == LSTAR)])
    mapped = memory.mapped(np.array([cr3 & ~0xFFF], np.uint64), entries)[0]
    found = set(entries[mapped & (entries >> np.uint64(47) == np.uint64(0x1FFFF))].tolist()) - {host}
    return int(found.pop()) if len(found) == 1 else None
