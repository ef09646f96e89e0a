"""The formats that a symbol table can be written in: one table from a format's name to its writer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kallsift.kernel.model import Kernel
from kallsift.output.csv_table import csv_table
from kallsift.output.json_document import all_symbols_json, symbols_json
from kallsift.output.kallsyms_text import kallsyms_text
from kallsift.output.system_map import system_map
from kallsift.questions.dynamic import Dynamic

Chunks = Iterable[bytes | memoryview]
"""A text in pieces, each of bounded size."""


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        summary: what it is, for help texts.
        write: the text of one kernel's symbols; raises KallsiftError at once if the kernel cannot be written so.
        write_all: one text with several kernels' symbols, None if the format has room for one only.
        modules: whether it has room for more than the built-in symbols.
    """

    summary: str
    write: Callable[[Kernel, Dynamic | None], Chunks]
    write_all: Callable[[Sequence[tuple[Kernel, Dynamic | None]]], Chunks] | None = None
    modules: bool = True


FORMATS: dict[str, Format] = {
    "kallsyms": Format("the running kernel's addresses, as /proc/kallsyms prints them", kallsyms_text),
    "system.map": Format("the addresses the kernel was linked at, without its KASLR slide", system_map, modules=False),
    "json": Format("the table together with all that is known of its kernel", symbols_json, all_symbols_json),
    "csv": Format("one record a symbol, with a header", csv_table),
}
