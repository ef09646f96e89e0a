"""The formats that a symbol table can be written in, each with its writer, which is imported when it writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kallsift.kernel.model import Kernel
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


def _kallsyms(kernel: Kernel, dynamic: Dynamic | None) -> Chunks:
    from kallsift.output.kallsyms_text import kallsyms_text

    return kallsyms_text(kernel, dynamic)


def _system_map(kernel: Kernel, dynamic: Dynamic | None) -> Chunks:
    from kallsift.output.system_map import system_map

    return system_map(kernel, dynamic)


def _json(kernel: Kernel, dynamic: Dynamic | None) -> Chunks:
    from kallsift.output.json_document import symbols_json

    return symbols_json(kernel, dynamic)


def _all_json(listings: Sequence[tuple[Kernel, Dynamic | None]]) -> Chunks:
    from kallsift.output.json_document import all_symbols_json

    return all_symbols_json(listings)


def _csv(kernel: Kernel, dynamic: Dynamic | None) -> Chunks:
    from kallsift.output.csv_table import csv_table

    return csv_table(kernel, dynamic)


FORMATS: dict[str, Format] = {
    "kallsyms": Format("the running kernel's addresses, as /proc/kallsyms prints them", _kallsyms),
    "system.map": Format("the addresses the kernel was linked at, without its KASLR slide", _system_map, modules=False),
    "json": Format("the table together with all that is known of its kernel", _json, _all_json),
    "csv": Format("one record a symbol, with a header", _csv),
}
