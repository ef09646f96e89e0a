"""Check a kernel against the registers of the processors.

Registers come from a container or from the user. None is trusted: each is compared with the recovered table.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kallsift.arch import x86
from kallsift.arch.paging import PagingMode, translate
from kallsift.errors import UnmappedError
from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kallsyms.recovered_tables import Tables
from kallsift.kernel.placement.placement import Placement
from kallsift.memory.memory import AddressSpace, Hints, Memory

ROOTS = {"cr3": ("x86-64", "x86"), "ttbr1": ("arm64",)}
"""Registers with a page table's physical address, and the architectures that have them."""

ENTRIES = {"lstar": "SYSCALL", "vbar": "exceptions"}
"""Registers with the virtual address of an entry point of the kernel, and the events that enter there."""

POSITIONS = ("lstar", "vbar", "rip", "pc")
"""Registers that hold an address in the kernel's text, unless a user's program was interrupted."""

REGISTER_CHECKS = frozenset({CheckId.CR3, CheckId.TTBR1, CheckId.LSTAR, CheckId.VBAR, CheckId.IDT})
"""Names of the checks of processors' registers."""

KERNEL_HALF = 1 << 63
MOST_GATES = 32
"""Number of interrupt gates that are read: those of exceptions, which every kernel fills in."""

MOST_ENTRIES = 4096
"""Highest distance in bytes from a symbol to a register's address behind it."""


def processor_checks(memory: Memory, tables: Tables, placement: Placement) -> Iterator[Check]:
    """Check that the processors' registers agree with a placed table.

    Registers come from the source or from the user.
    """
    yield from _root_checks(memory, tables, placement)
    yield from _entry_checks(memory, placement)
    yield from _gate_check(memory, placement)


def _values(hints: Hints, name: str) -> dict[int, int]:
    """Return the values of a register that are not zero, by processor."""
    return {cpu.number: cpu.registers[name] for cpu in hints.cpus if cpu.registers.get(name)}


def _root_checks(memory: Memory, tables: Tables, placement: Placement) -> Iterator[Check]:
    """Check that the page tables in registers map the image at the same place."""
    given = False
    place = np.array([tables.array_address], np.uint64)
    virtual = placement.words.wrap(place + np.uint64(placement.distance))
    for name, architectures in ROOTS.items():
        values = _values(memory.hints, name)
        if not values:
            continue
        given = True
        if placement.mapping is None:
            yield Check(CheckId(name.upper()), Outcome.ABSENT, "not checked: this kernel's page table is unknown")
            continue
        if placement.mapping.architecture not in architectures:
            yield Check.that(
                CheckId(name.upper()), False, f"was given, but {placement.mapping.architecture} has no such register"
            )
            continue
        agreeing = 0
        attributes = placement.mapping.attribute_bits if isinstance(placement.mapping, PagingMode) else 0
        for value in values.values():
            value &= ~attributes
            # with page-table isolation the user's table lies a page above the kernel's; PAE's top tables have 32 bytes;
            # the bits above the address in TTBR1 are the address space's number (ASID)
            for root in (value & ~0xFFF, value & ~0x1FFF, value & ~0x1F, value & 0xFFFF_FFFF_F000):
                physical, mapped = translate(memory, placement.mapping, root, virtual)
                if mapped[0] and physical[0] == place[0]:
                    agreeing += 1
                    break
        detail = f"{agreeing} of {len(values)} processors' page tables map the tables at the same address"
        yield Check.that(CheckId(name.upper()), agreeing > 0, detail)
    if not given:
        yield Check(CheckId.CR3, Outcome.ABSENT, "the source records no CR3")


def _entry_checks(memory: Memory, placement: Placement) -> Iterator[Check]:
    """Check that registers with the address of an entry point name a symbol.

    Except for LSTAR, the address can also lie shortly behind a symbol.
    """
    symbols = placement.symbols
    for name, what in ENTRIES.items():
        for value in sorted(set(_values(memory.hints, name).values())):
            location = symbols.at(value)
            exact = location is not None and location.offset == 0
            near = location is not None and location.offset < MOST_ENTRIES
            where = f"{location.symbol.name}{'' if exact else f'+{location.offset:#x}'}" if location else "no symbol"
            detail = f"{what} enters at {value:#x}, {where}"
            yield Check.that(CheckId(name.upper()), exact or (near and name != "lstar"), detail)


def _gate_check(memory: Memory, placement: Placement) -> Iterator[Check]:
    """Check that the gates of the interrupt descriptor table lead to symbols."""
    for base in sorted(set(_values(memory.hints, "idt_base").values())):
        handlers = gates(memory, placement, base)
        if handlers is None:
            if _is_unmapped(memory, placement, base):
                yield Check.that(CheckId.IDT, False, f"this kernel's page table does not map {base:#x}")
            else:
                yield Check(
                    CheckId.IDT,
                    Outcome.ABSENT,
                    f"the page of the table at {base:#x} is missing in the source",
                    essential=False,
                )
            continue
        addresses = placement.symbols.addresses
        known = addresses[np.searchsorted(addresses, handlers).clip(max=len(addresses) - 1)] == handlers
        detail = f"{int(known.sum())} of the {len(handlers)} exception gates at {base:#x} point to symbols"
        yield Check.that(CheckId.IDT, bool(len(handlers)) and 2 * int(known.sum()) > len(handlers), detail)


def _is_unmapped(memory: Memory, placement: Placement, address: int) -> bool:
    """Tell whether the page table that maps an image does not map an address."""
    if memory.space is not AddressSpace.PHYSICAL or placement.mapping is None:
        return False
    return not translate(memory, placement.mapping, placement.root, np.array([address], np.uint64))[1][0]


def gates(memory: Memory, placement: Placement, base: int) -> NDArray[np.uint64] | None:
    """Return the handlers of exceptions in an interrupt descriptor table, or None.

    None if the table at the virtual address ``base`` cannot be read.
    """
    size = x86.gate_size(placement.words.size) * MOST_GATES
    address = np.array([base], np.uint64)
    if memory.space is AddressSpace.PHYSICAL:
        if placement.mapping is None:
            return None
        address, mapped = translate(memory, placement.mapping, placement.root, address)
        if not mapped[0]:
            return None
    try:
        return x86.handlers(memory.read(int(address[0]), size), placement.words.size)
    except UnmappedError:
        return None
