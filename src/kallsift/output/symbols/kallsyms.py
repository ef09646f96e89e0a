"""Write the text of ``/proc/kallsyms``, byte for byte as the kernel prints it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from kallsift.kallsyms.escapes import escaped
from kallsift.kernel.kernel import Kernel
from kallsift.output.symbols.line_writer import NAME_ESCAPES, RowFormat

if TYPE_CHECKING:
    from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols

LOCAL_LABELS = {0x01: b"\x01", 0x02: b"\x02"}
"""Bytes that the assembler puts into names of local labels.

The kernel prints them unchanged, and terminals ignore them. Source: gas manual, "Symbol Names".
"""

LINE = RowFormat(escapes={**LOCAL_LABELS, **NAME_ESCAPES})


def kallsyms_text(kernel: Kernel, dynamic: DynamicSymbols | None = None) -> Iterator[memoryview]:
    """Yield lines ``address type name`` in the kernel's order, in bounded chunks.

    Duplicates are kept. Behind the built-in symbols come those in ``dynamic``, each line with its owner in brackets
    behind a tab. Names are escaped as everywhere (see `kallsift.kallsyms.escapes`), except `LOCAL_LABELS`; no kernel
    has names with other bytes that are escaped.
    """
    yield from LINE.lines(kernel.symbols)
    for group in dynamic.groups if dynamic else ():
        owner = escaped(group.owner).encode("ascii")
        yield from replace(LINE, after=b"\t[" + owner + b"]\n").lines(group.symbols)
