"""Make the entries of types: one for each, with its members, enumerators, parameters or its length inside."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import is_in
from kallsift.kernel.access.btf_blob import Kind
from kallsift.kernel.access.btf_index import WORDS
from kallsift.output.dwarf.blocks import Columns, EntryBlock, Rows
from kallsift.output.dwarf.entries import Attribute, BaseTypeEncoding, DwarfEntry
from kallsift.output.dwarf.type_table import TypeTable
from kallsift.types.type import COMPOSITE, ENUMS

MADE_OF: dict[Kind, tuple[DwarfEntry, DwarfEntry]] = {
    Kind.PTR: (DwarfEntry.POINTER, DwarfEntry.POINTER_TO_VOID),
    Kind.TYPEDEF: (DwarfEntry.TYPEDEF, DwarfEntry.TYPEDEF_OF_VOID),
    Kind.CONST: (DwarfEntry.CONST, DwarfEntry.CONST_VOID),
    Kind.VOLATILE: (DwarfEntry.VOLATILE, DwarfEntry.VOLATILE_VOID),
    Kind.RESTRICT: (DwarfEntry.RESTRICT, DwarfEntry.RESTRICT_VOID),
    Kind.ARRAY: (DwarfEntry.ARRAY, DwarfEntry.ARRAY_OF_VOID),
    Kind.FUNC_PROTO: (DwarfEntry.PROTOTYPE, DwarfEntry.PROTOTYPE_OF_VOID),
}
"""Entries of what is made of another type, and of what is made of ``void``."""

NAMED: dict[Kind, tuple[DwarfEntry, DwarfEntry]] = {
    Kind.STRUCT: (DwarfEntry.STRUCTURE, DwarfEntry.STRUCTURE_UNNAMED),
    Kind.UNION: (DwarfEntry.UNION, DwarfEntry.UNION_UNNAMED),
    Kind.ENUM: (DwarfEntry.ENUMERATION, DwarfEntry.ENUMERATION_UNNAMED),
    Kind.ENUM64: (DwarfEntry.ENUMERATION, DwarfEntry.ENUMERATION_UNNAMED),
}
"""Entries of what has a name, and of what has none."""

INT_SIGNED, INT_BOOL = 1, 4
"""``BTF_INT_*``: bits of an integer's encoding. That of characters is never set (pahole)."""

CHARACTERS = ("char", "signed char", "unsigned char")

BIT_FIELD_AT = 24
"""Where the flag of a structure is set, the bits from this one on are a member's width."""

Inner = tuple[NDArray[np.int64], Rows]
"""Entries inside of others, and the index of the type that each is in."""


def type_block(table: TypeTable) -> tuple[NDArray[np.int64], EntryBlock]:
    """Return the indices of a table's own types that have entries, in the order of these, and the entries."""
    kinds = _kinds(table)
    # of several structures of a name, debuggers find the first
    written = np.lexsort((_is_namesake(table), kinds == 0))[: np.count_nonzero(kinds)]
    row_of = np.zeros(len(kinds), np.int64)
    row_of[written] = np.arange(len(written))
    columns: Columns = {
        Attribute.NAME: table.names,
        Attribute.BYTE_SIZE: np.where(table.kinds == Kind.PTR, table.btf.word_size, table.third),
        Attribute.TYPE: _made_of(table),
        Attribute.ENCODING: _encodings(table),
    }
    prototypes = np.flatnonzero(table.kinds == Kind.FUNC_PROTO)
    owners, parameters = parameter_rows(table, prototypes)
    groups = [*_members(table), *_enumerators(table), _lengths(table), (prototypes[owners], parameters)]
    holders = row_of[np.concatenate([group for group, _ in groups])]
    order = np.argsort(holders, kind="stable")
    inner = taken(joined([rows for _, rows in groups]), order)
    return written, EntryBlock(taken(Rows(kinds, columns), written), inner, holders[order])


def _is_namesake(table: TypeTable) -> NDArray[np.bool_]:
    """Tell which structures and unions have the name of another that counts: the one with most members."""
    chosen = np.flatnonzero(table.is_kind(*COMPOSITE) & (table.names > 0))
    chosen = chosen[np.lexsort((-chosen, -table.counts[chosen], table.names[chosen]))]
    found = np.zeros(len(table.kinds), np.bool_)
    found[chosen[1:]] = np.diff(table.names[chosen]) == 0
    return found


def joined(parts: list[Rows]) -> Rows:
    """Return the rows of several parts one behind the other; a column that a part lacks is 0 there."""
    names = dict.fromkeys(name for part in parts for name in part.columns)
    columns = {
        name: np.concatenate([part.columns.get(name, np.zeros(len(part), np.int64)) for part in parts])
        for name in names
    }
    return Rows(np.concatenate([part.kinds for part in parts]), columns)


def taken(rows: Rows, order: NDArray[np.int64]) -> Rows:
    """Return some rows, in an order."""
    return Rows(rows.kinds[order], {name: column[order] for name, column in rows.columns.items()})


def _kinds(table: TypeTable) -> NDArray[np.uint8]:
    """Return the kind of entry of each type; 0 for what has none."""
    found = np.zeros(len(table.kinds), np.uint8)
    found[table.is_kind(Kind.INT, Kind.FLOAT)] = DwarfEntry.BASE
    for kind, (made, made_of_void) in MADE_OF.items():
        chosen = table.kinds == kind
        found[chosen] = np.where(_made_of(table)[chosen] > 0, made, made_of_void)
    for kind, (named, unnamed) in NAMED.items():
        chosen = table.kinds == kind
        found[chosen] = np.where(table.names[chosen] > 0, named, unnamed)
    # an enumeration that is only declared has no enumerators
    found[table.is_kind(*ENUMS) & (table.counts == 0)] = DwarfEntry.ENUMERATION_DECLARED
    declared = table.kinds == Kind.FWD
    found[declared] = np.where(table.flags[declared], DwarfEntry.UNION_DECLARED, DwarfEntry.STRUCTURE_DECLARED)
    return found


def _made_of(table: TypeTable) -> NDArray[np.int64]:
    """Return the number of the type that each is made of; 0 for none."""
    made_of = table.third.copy()
    arrays = np.flatnonzero(table.kinds == Kind.ARRAY)
    made_of[arrays] = table.btf.blob.words[table.starts[arrays] + WORDS]
    return table.references(made_of)


def _encodings(table: TypeTable) -> NDArray[np.int64]:
    """Return the encoding of each integer and number with a point."""
    found = np.full(len(table.kinds), BaseTypeEncoding.FLOAT, np.int64)
    integers = np.flatnonzero(table.kinds == Kind.INT)
    if not len(integers):
        return found
    bits = table.btf.blob.words[table.starts[integers] + WORDS] >> np.uint32(24)
    is_signed = (bits & INT_SIGNED).astype(np.bool_)
    found[integers] = np.where(is_signed, BaseTypeEncoding.SIGNED, BaseTypeEncoding.UNSIGNED)
    characters = is_in(table.btf.blob.names[integers], _offsets(table, CHARACTERS))
    found[integers[characters]] = np.where(is_signed, BaseTypeEncoding.SIGNED_CHAR, BaseTypeEncoding.UNSIGNED_CHAR)[
        characters
    ]
    found[integers[(bits & INT_BOOL).astype(np.bool_)]] = BaseTypeEncoding.BOOLEAN
    return found


def _offsets(table: TypeTable, names: tuple[str, ...]) -> NDArray[np.uint32]:
    return np.array([offset for name in names for offset in table.btf.offsets(name)], np.uint32)


def _members(table: TypeTable) -> Iterator[Inner]:
    """Yield the members of structures and of unions. One whose type is none is left out."""
    for kind in COMPOSITE:
        chosen = np.flatnonzero(table.kinds == kind)
        places, owners = table.records(chosen)
        words = table.btf.blob.words
        names, types = table.name_offsets(words[places]), table.references(words[places + 1])
        offsets, has_bits = words[places + 2].astype(np.int64), table.flags[chosen][owners]
        bits = np.where(has_bits, offsets >> BIT_FIELD_AT, 0)
        offsets = np.where(has_bits, offsets & (1 << BIT_FIELD_AT) - 1, offsets)
        kinds = np.where(names > 0, DwarfEntry.MEMBER, DwarfEntry.MEMBER_UNNAMED)
        kinds = np.where(bits > 0, np.where(names > 0, DwarfEntry.BIT_FIELD, DwarfEntry.BIT_FIELD_UNNAMED), kinds)
        rows = Rows(
            kinds.astype(np.uint8),
            {
                Attribute.NAME: names,
                Attribute.TYPE: types,
                Attribute.DATA_MEMBER_LOCATION: offsets // 8,
                Attribute.DATA_BIT_OFFSET: offsets,
                Attribute.BIT_SIZE: bits,
            },
        )
        known = np.flatnonzero(types)
        yield chosen[owners][known], taken(rows, known)


def _enumerators(table: TypeTable) -> Iterator[Inner]:
    """Yield the enumerators of enumerations of 32 and of 64 bits."""
    words = table.btf.blob.words
    for kind in ENUMS:
        chosen = np.flatnonzero(table.kinds == kind)
        places, owners = table.records(chosen)
        is_signed = table.flags[chosen][owners]
        if kind is Kind.ENUM64:
            values = words[places + 1].astype(np.uint64) | words[places + 2].astype(np.uint64) << np.uint64(32)
            kinds = np.where(is_signed, DwarfEntry.ENUMERATOR_64, DwarfEntry.ENUMERATOR_UNSIGNED_64)
            numbers = values.view(np.int64)
        else:
            low = words[places + 1]
            kinds = np.full(len(places), DwarfEntry.ENUMERATOR)
            is_signed = is_signed | (not table.btf.has_signed_enums)
            numbers = np.where(is_signed, low.view(np.int32).astype(np.int64), low.astype(np.int64))
        names = table.name_offsets(words[places])
        rows = Rows(kinds.astype(np.uint8), {Attribute.NAME: names, Attribute.CONST_VALUE: numbers})
        yield chosen[owners], rows


def _lengths(table: TypeTable) -> Inner:
    """Return how many elements arrays have. One of none is without an end, as the last member often is."""
    arrays = np.flatnonzero(table.kinds == Kind.ARRAY)
    counts = table.btf.blob.words[table.starts[arrays] + WORDS + 2].astype(np.int64)
    kinds = np.where(counts > 0, DwarfEntry.SUBRANGE, DwarfEntry.SUBRANGE_UNBOUNDED).astype(np.uint8)
    return arrays, Rows(kinds, {Attribute.COUNT: counts})


def parameter_rows(table: TypeTable, prototypes: NDArray[np.int64]) -> tuple[NDArray[np.int64], Rows]:
    """Return the parameters of prototypes, and for each of which of these it is.

    Args:
        table: the types that have the prototypes.
        prototypes: their indices, in any order, also several times.
    """
    places, owners = table.records(prototypes)
    words = table.btf.blob.words
    names, types = table.name_offsets(words[places]), table.references(words[places + 1])
    kinds = np.where(names > 0, DwarfEntry.PARAMETER, DwarfEntry.PARAMETER_UNNAMED)
    kinds = np.where(types > 0, kinds, DwarfEntry.PARAMETER_UNTYPED)
    kinds = np.where((words[places + 1] == 0) & (names == 0), DwarfEntry.VARIADIC, kinds)
    return owners, Rows(kinds.astype(np.uint8), {Attribute.NAME: names, Attribute.TYPE: types})
