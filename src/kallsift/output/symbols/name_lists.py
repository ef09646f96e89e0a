r"""Write the symbols as lists of names that programs read by themselves: Ghidra's and radare2's.

Names in a dump can be anything, and both lists are read line by line, radare2's as commands. So every byte of a name
that has a meaning there is escaped; no name of a real kernel has one.

Ghidra: ImportSymbolsScript.py of its script manager reads ``NAME 0xADDRESS f`` (a function) or ``l`` (a label).
radare2: ``r2 -i FILE`` runs ``f NAME = ADDRESS``, which makes a flag.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.kernel import Kernel
from kallsift.output.symbols.line_writer import NAME_ESCAPES, RowFormat

if TYPE_CHECKING:
    from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols

CODE = b"TtWw"
"""Letters of functions."""

PLAIN = frozenset(f"{string.ascii_letters}{string.digits}._".encode())
"""Bytes of names that mean nothing else to radare2."""

_GHIDRA = RowFormat(
    between=b" 0x",
    escapes=NAME_ESCAPES,
    is_name_first=True,
    letters=bytes(ord("f") if letter in CODE else ord("l") for letter in range(256)),
)

_RADARE2 = RowFormat(
    before=b"f sym.",
    between=b" = 0x",
    gap=b"",
    unprintable=b"_x%02x",
    escapes={byte: b"_x%02x" % byte for byte in range(0x20, 0x7F) if byte not in PLAIN},
    is_name_first=True,
    letters=None,
)


def ghidra_list(kernel: Kernel, dynamic: DynamicSymbols | None = None) -> Iterator[memoryview]:
    """Yield the list that Ghidra's ImportSymbolsScript.py reads."""
    yield from _lines(_GHIDRA, kernel, dynamic)


def radare2_script(kernel: Kernel, dynamic: DynamicSymbols | None = None) -> Iterator[bytes | memoryview]:
    """Yield the commands that make a flag of each symbol."""
    yield b"fs symbols\n"
    yield from _lines(_RADARE2, kernel, dynamic)


def located(table: SymbolTable) -> SymbolTable:
    """Return the symbols whose name and address are known: no program has a use for others."""
    if table.whole.all():
        return table
    sizes = np.diff(table.bounds)
    return replace(
        table,
        addresses=table.addresses[table.whole],
        characters=table.characters[table.bounds[0] :][np.repeat(table.whole, sizes)],
        bounds=np.concatenate(([0], np.cumsum(sizes[table.whole]))).astype(np.int64),
        known_addresses=None,
    )


def located_tables(kernel: Kernel, dynamic: DynamicSymbols | None) -> list[SymbolTable]:
    """Return the kernel's own symbols and those of each group, as `located`."""
    groups = dynamic.groups if dynamic else ()
    return [located(table) for table in (kernel.symbols, *(group.symbols for group in groups))]


def _lines(form: RowFormat, kernel: Kernel, dynamic: DynamicSymbols | None) -> Iterator[memoryview]:
    for table in located_tables(kernel, dynamic):
        yield from form.lines(table)
