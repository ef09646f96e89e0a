"""List the formats of symbol tables, each with its writer.

A writer is imported only when it writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from kallsift.kernel.kernel import Kernel
from kallsift.memory.memory import Memory

if TYPE_CHECKING:
    from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols

Chunks = Iterable[bytes | memoryview]
"""A text in pieces of bounded size."""


Listings: TypeAlias = "Sequence[tuple[Kernel, DynamicSymbols | None]]"
"""Kernels, each with its symbols beside the built-in ones.

These are None if only the built-in symbols are wanted.
"""


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        summary: description for help texts.
        write: function that returns a text with the symbols of kernels; raises KallsiftError at once if a kernel cannot
            be written in this format.
        several: whether it can hold several kernels; otherwise exactly one.
        modules: whether it can hold more than the built-in symbols.
    """

    summary: str
    write: Callable[[Memory, Listings], Chunks]
    several: bool = False
    modules: bool = True


def _kallsyms(_: Memory, listings: Listings) -> Chunks:
    from kallsift.output.symbols.kallsyms import kallsyms_text

    ((kernel, dynamic),) = listings
    return kallsyms_text(kernel, dynamic)


def _system_map(_: Memory, listings: Listings) -> Chunks:
    from kallsift.output.symbols.system_map import system_map

    ((kernel, _dynamic),) = listings
    return system_map(kernel)


def _json(memory: Memory, listings: Listings) -> Chunks:
    from kallsift.output.symbols.json_writer import symbols_json

    return symbols_json(memory, listings)


def _csv(_: Memory, listings: Listings) -> Chunks:
    from kallsift.output.symbols.csv_writer import csv_table

    ((kernel, dynamic),) = listings
    return csv_table(kernel, dynamic)


def _gdb(_: Memory, listings: Listings) -> Chunks:
    from kallsift.output.symbols.embedded import gdb_script

    ((kernel, dynamic),) = listings
    return gdb_script(kernel, dynamic)


def _ida(_: Memory, listings: Listings) -> Chunks:
    from kallsift.output.symbols.embedded import ida_script

    ((kernel, dynamic),) = listings
    return ida_script(kernel, dynamic)


def _ghidra(_: Memory, listings: Listings) -> Chunks:
    from kallsift.output.symbols.name_lists import ghidra_list

    ((kernel, dynamic),) = listings
    return ghidra_list(kernel, dynamic)


def _radare2(_: Memory, listings: Listings) -> Chunks:
    from kallsift.output.symbols.name_lists import radare2_script

    ((kernel, dynamic),) = listings
    return radare2_script(kernel, dynamic)


FORMATS: dict[str, Format] = {
    "kallsyms": Format(
        "the running kernel's addresses, as /proc/kallsyms prints them (perf --kallsyms FILE)", _kallsyms
    ),
    "system.map": Format("the addresses the kernel was linked at, without its KASLR slide", _system_map, modules=False),
    "json": Format("the table and all other facts of its kernel", _json, several=True),
    "csv": Format("one record for each symbol, with a header", _csv),
    "gdb": Format("a Python script that adds the symbols: source FILE.py", _gdb),
    "ghidra": Format("a list for Ghidra's ImportSymbolsScript.py", _ghidra),
    "ida": Format("a Python script that names addresses", _ida),
    "r2": Format("a radare2 script that sets flags: r2 -i FILE", _radare2),
}
