"""Write CSV (RFC 4180): one record a symbol, below ``address,type,name,module``.

Spreadsheets run a field that begins with ``=``, ``+``, ``-`` or ``@`` as a formula, even between quotes. So an
apostrophe, which they take for the mark of a text, is put before such a name, and before a name that begins with an
apostrophe itself. A reader of the file must remove one apostrophe. No name of a real kernel begins so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols
from kallsift.kallsyms.escapes import escaped
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.kernel import Kernel
from kallsift.output.symbols.line_writer import NAME_ESCAPES, RowFormat

FORMULA = b"=+-@'"
"""First bytes of names that get an apostrophe."""

# Names are always quoted, which the RFC allows, so that a quote is the only byte in them that needs doubling.
_RECORD = RowFormat(before=b"0x", between=b",", gap=b',"', after=b'",\r\n', escapes={ord('"'): b'""', **NAME_ESCAPES})


def csv_table(kernel: Kernel, dynamic: DynamicSymbols | None = None) -> Iterator[bytes | memoryview]:
    """Yield all symbols as CSV in the kernel's order, in chunks of bounded size.

    The built-in symbols come first and have an empty module; those in ``dynamic`` follow. Addresses are hexadecimal
    with ``0x``; names are escaped as everywhere (see `kallsift.kallsyms.escapes`).
    """
    yield b"address,type,name,module\r\n"
    yield from _RECORD.lines(_guarded(kernel.symbols))
    for group in dynamic.groups if dynamic else ():
        owner = escaped(group.owner).encode("ascii").replace(b'"', b'""')
        guard = b"'" if owner[:1] and owner[:1] in FORMULA else b""
        yield from replace(_RECORD, after=b'","' + guard + owner + b'"\r\n').lines(_guarded(group.symbols))


def _guarded(table: SymbolTable) -> SymbolTable:
    """Return the table with an apostrophe before names that begin as formulas do."""
    firsts = table.bounds[:-1] + 1
    long = np.flatnonzero(table.bounds[1:] > firsts)
    marked = long[np.isin(table.characters[firsts[long]], np.frombuffer(FORMULA, np.uint8))]
    if not len(marked):
        return table
    bounds = table.bounds.copy()
    bounds[1:] += np.cumsum(np.bincount(marked, minlength=len(table)))
    return replace(table, characters=np.insert(table.characters, firsts[marked], ord("'")), bounds=bounds)
