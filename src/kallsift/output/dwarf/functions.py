"""Make the entries of functions: those symbols of code whose names have a prototype among the types."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kernel.access.btf_blob import Kind
from kallsift.output.dwarf.blocks import EntryBlock, Rows
from kallsift.output.dwarf.entries import Attribute, DwarfEntry
from kallsift.output.dwarf.type_entries import parameter_rows
from kallsift.output.dwarf.type_table import TypeTable

MAX_PARAMETERS = 1 << 22
"""Highest number of parameters of all functions; a kernel's have some 130,000."""


@dataclass(frozen=True, eq=False)
class CodeSymbols:
    """Symbols of code.

    Attributes:
        names: their names.
        addresses: where each begins, shape (n,), uint64.
        sizes: their bytes, shape (n,), uint64.
        is_global: whether other files of the source could call them, shape (n,).
    """

    names: list[str]
    addresses: NDArray[np.uint64]
    sizes: NDArray[np.uint64]
    is_global: NDArray[np.bool_]


def function_blocks(table: TypeTable, code: CodeSymbols) -> Iterator[EntryBlock]:
    """Yield the entries of functions: those whose prototypes are a table's own, then those with the base's."""
    functions = np.flatnonzero(table.kinds == Kind.FUNC)
    index_of = dict(zip(table.texts(functions), functions.tolist(), strict=True))
    found = np.array([index_of.get(name, -1) for name in code.names], np.int64)
    prototypes = np.where(found >= 0, table.third[found] if len(table.third) else 0, 0)
    prototypes[prototypes >= len(table.all_kinds)] = 0
    has_prototype = table.all_kinds[prototypes] == Kind.FUNC_PROTO
    part: TypeTable | None = table
    while part is not None:
        own = has_prototype & (prototypes >= part.btf.first) & (prototypes < len(part.btf))
        chosen = np.flatnonzero(own)
        chosen = chosen[np.cumsum(part.counts[prototypes[chosen] - part.btf.first]) <= MAX_PARAMETERS]
        yield _block(table, part, found[chosen], prototypes[chosen] - part.btf.first, _taken(code, chosen))
        part = part.base


def _taken(code: CodeSymbols, chosen: NDArray[np.int64]) -> CodeSymbols:
    return CodeSymbols([], code.addresses[chosen], code.sizes[chosen], code.is_global[chosen])


def _block(
    table: TypeTable, part: TypeTable, functions: NDArray[np.int64], prototypes: NDArray[np.int64], code: CodeSymbols
) -> EntryBlock:
    """Return the entries of functions whose prototypes are in one part of the types."""
    returns = part.references(part.third[prototypes])
    owners, parameters = parameter_rows(part, prototypes)
    columns = {
        Attribute.NAME: table.names[functions],
        Attribute.TYPE: returns,
        Attribute.EXTERNAL: code.is_global.astype(np.int64),
        Attribute.LOW_PC: code.addresses.view(np.int64),
        Attribute.HIGH_PC: code.sizes.view(np.int64),
    }
    kinds = np.where(returns > 0, DwarfEntry.FUNCTION, DwarfEntry.FUNCTION_OF_VOID).astype(np.uint8)
    return EntryBlock(Rows(kinds, columns), parameters, owners)
