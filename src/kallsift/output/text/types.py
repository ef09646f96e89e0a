"""Write types: as C, as counts, and as values for JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kallsift.kallsyms.symbol_table import Symbol
from kallsift.kernel.access.btf_blob import Kind
from kallsift.types.type import Member, Type
from kallsift.types.types import Types

WORDS = {Kind.PTR: "pointer", Kind.FWD: "forward", Kind.FUNC: "function", Kind.FUNC_PROTO: "prototype"}
"""What kinds are called that a reader may not know by the name in the format."""


@dataclass(frozen=True)
class FoundType:
    """The type, enumerator or symbol that a name means.

    Attributes:
        asked: the name.
        type: its type.
        symbol: the symbol that has the type, if the name means one.
    """

    asked: str
    type: Type
    symbol: Symbol | None = None


def find_all(types: Types, name: str) -> list[FoundType]:
    """Return what a name means: types, else the enumeration that has it, else the type of a symbol."""
    found = [FoundType(name, type_) for type_ in types.all(name) if type_.kind is not Kind.VAR]
    if not found and (enumeration := types.enumerator(name)) is not None:
        found = [FoundType(name, enumeration)]
    if not found and (typed := types.typed_symbol(name)) is not None:
        symbol, type_ = typed
        found = [FoundType(name, type_, symbol)]
    return found


def definition_text(found: FoundType, word_size: int) -> str:
    """Return what a name means as C text; of a symbol, its declaration behind its address."""
    if found.symbol is None:
        return found.type.c()
    address = f"{found.symbol.address:0{2 * word_size}x}"
    return f"{found.type.spelled(found.asked)};{'':8}/* at {address}, size: {found.type.size} */\n"


def count_lines(types: Types) -> Iterator[str]:
    """Yield how many types there are, and how many of each kind."""
    yield f"{len(types):,} types from {types.source}"
    for kind, count in types.counts().items():
        yield f"{count:>9,} {kind_name(kind)}"


def kind_name(kind: Kind) -> str:
    """Return what a kind is called."""
    return WORDS.get(kind, kind.name.lower())


def types_document(types: Types, found: list[FoundType]) -> Mapping[str, Any]:
    """Return the source of types, how many there are of each kind, and those that were asked for, for JSON."""
    return {
        "types_from": types.source,
        "type_counts": [{"kind": kind_name(kind), "count": count} for kind, count in types.counts().items()],
        "types": [_document(each) for each in found],
    }


def _document(found: FoundType) -> dict[str, Any]:
    type_ = found.type
    # it fails for types that are too large, before each part of them is spelled on its own
    text = type_.c()
    returns = type_.returns
    return {
        "asked": found.asked,
        "address": None if found.symbol is None else f"{found.symbol.address:#x}",
        "name": type_.name,
        "kind": kind_name(type_.kind),
        "type": type_.spelled(),
        "size": type_.size,
        "members": [_member(member) for member in type_.members],
        "enumerators": [{"name": name, "value": str(value)} for name, value in type_.enumerators.items()],
        "parameters": [{"name": each.name, "type": each.type.spelled()} for each in type_.parameters],
        "returns": None if returns is None else returns.spelled(),
        "c": text,
    }


def _member(member: Member) -> dict[str, Any]:
    return {
        "name": member.name,
        "type": member.type.spelled(),
        "offset": member.offset,
        "bit_offset": member.bit_offset,
        "bits": member.bits,
        "size": member.type.size,
    }
