"""Place tables that nothing else places by what a source says of the machine: VMCOREINFO and LSTAR.

Such a number is one equation for one unknown: it places the tables, and proves nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.checks.vmcoreinfo import Vmcoreinfo, noted, scattered
from kallsift.memory.memory import AddressSpace, Memory

WORD = (1 << 64) - 1

ENTRIES = {"lstar": ("entry_SYSCALL_64", "system_call"), "vbar": ("vectors",)}
"""Registers, and the symbols at the addresses that they hold: the entry of system calls of x86-64, since 4.3 and before
(arch/x86/entry/entry_64.S), and of exceptions of arm64 (arch/arm64/kernel/entry.S)."""

MAX_TEXTS = 8
"""Highest number of VMCOREINFO texts in memory that are read."""

MIN_AGREEING = 2
"""Number of symbols of a text that must agree on a base: a single one may give a pointer's value in place of an
address."""


@dataclass(frozen=True)
class GivenBase:
    """The number that must be added to the addresses of unplaced tables.

    Attributes:
        base: the number, modulo 2^64.
        reason: the source of the number, a clause.
    """

    base: int
    reason: str


def given_base(memory: Memory, symbols: SymbolTable) -> GivenBase | None:
    """Return the base of tables by what the source says; None if it says nothing.

    Args:
        memory: the source, with its hints.
        symbols: the symbols, at addresses that count from the tables.
    """
    texts = [text] if (text := noted(memory)) else []
    if memory.space is AddressSpace.PHYSICAL and memory.image is None:
        texts += islice(scattered(memory), MAX_TEXTS)
    for text in texts:
        bases = Counter(_bases(text, symbols))
        base, votes = bases.most_common(1)[0] if bases else (0, 0)
        if votes >= MIN_AGREEING and 2 * votes > bases.total():
            where = "the given VMCOREINFO" if text.origin == "note" else f"the VMCOREINFO at {text.origin}"
            return GivenBase(base, f"{where} is this kernel's: {votes} of its symbols agree on them")
    for register, names in ENTRIES.items():
        for value in sorted({cpu.registers.get(register, 0) for cpu in memory.hints.cpus} - {0}):
            for name in names:
                for symbol in symbols.all(name)[:1]:
                    return GivenBase(
                        value - symbol.address & WORD, f"{name} is at {value:#x}, as {register.upper()} says"
                    )
    return None


def _bases(text: Vmcoreinfo, symbols: SymbolTable) -> Iterator[int]:
    for key in text.values:
        if key.startswith("SYMBOL(") and (address := text.symbol(key[len("SYMBOL(") : -1])):
            own = symbols.all(key[len("SYMBOL(") : -1])
            if len(own) == 1:
                yield address - own[0].address & WORD
