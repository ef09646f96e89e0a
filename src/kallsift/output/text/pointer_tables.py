"""Write a table of pointers as lines."""

from __future__ import annotations

from collections.abc import Iterator

from kallsift.analysis.pointer_tables.pointer_tables import PointerTable

MARK = "!"
"""Mark before entries that cannot be the kernel's own."""


def table_lines(table: PointerTable, word_size: int) -> Iterator[str]:
    """Yield a line for each entry of a table.

    The line has mark, number, the entry's address, the target, the symbol of the target, and the fault.
    """
    digits = 2 * word_size
    width = len(str(len(table.entries)))
    for entry in table.entries:
        line = f"{entry.number:>{width}} {entry.address:0{digits}x} {entry.target:0{digits}x} {entry.symbol or '-'}"
        yield f"{MARK} {line}\t{entry.fault}" if entry.fault else f"  {line}"
