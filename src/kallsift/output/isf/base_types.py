"""Describe integers and floating-point numbers by the names that DWARF gives them, which Volatility asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kallsift.kernel.access.btf_blob import BtfError, Kind
from kallsift.types.type import Type
from kallsift.types.types import SPELLINGS, Types

MAX_SIZE = 16
"""Highest size of a number in bytes, that of ``__int128``."""

TAKEN = ("void", "pointer", "array", "enum", "bitfield", "function", "struct", "union")
"""Names that mean something else in a symbol file."""

CHARACTERS = ("char", "signed char", "unsigned char")

BOOLEAN = "_Bool"

STANDARD: tuple[tuple[str, int | None, bool], ...] = (
    ("char", 1, True),
    ("unsigned char", 1, False),
    (BOOLEAN, 1, False),
    ("short int", 2, True),
    ("short unsigned int", 2, False),
    ("int", 4, True),
    ("unsigned int", 4, False),
    ("long int", None, True),
    ("long unsigned int", None, False),
    ("long long int", 8, True),
    ("long long unsigned int", 8, False),
)
"""Numbers that every C compiler has: name, size in bytes (None of a word's), and whether with a sign.

BTF has those alone that the kernel uses; Volatility asks for others too.
"""


def base_types(types: Types, endian: str) -> dict[str, dict[str, Any]]:
    """Return the entries of all numbers, and of ``void`` and pointers."""
    word = types.btf.word_size
    found = {"void": _entry("void", 0, False, endian), "pointer": _entry("int", word, False, endian)}
    for number in types.btf.of_kind(Kind.INT).tolist():
        type_ = Type(types.btf, number)
        if is_described(type_):
            name = base_name(type_)
            found.setdefault(name, _entry(_kind(name), type_.size, type_.is_signed, endian))
    for number in types.btf.of_kind(Kind.FLOAT).tolist():
        type_ = Type(types.btf, number)
        if is_described(type_):
            found.setdefault(type_.name, _entry("float", type_.size, True, endian))
    for name, size, is_signed in STANDARD:
        found.setdefault(name, _entry(_kind(name), size or word, is_signed, endian))
    return found


def is_described(type_: Type) -> bool:
    """Tell whether a symbol file can have a number; not if its name is damaged."""
    try:
        return 0 < type_.size <= MAX_SIZE and bool(type_.name) and type_.name not in TAKEN
    except BtfError:
        return False


def base_name(type_: Type) -> str:
    """Return a number's name as GCC writes it into DWARF, also where Clang wrote the types."""
    return SPELLINGS.get(type_.name, type_.name)


def name_by_size(entries: Mapping[str, Mapping[str, Any]], size: int, is_signed: bool) -> str:
    """Return the name of an integer of a size, which enumerations are stored in."""
    names = (name for name, *_ in STANDARD if name != BOOLEAN)
    wanted = (size, is_signed)
    return next((name for name in names if (entries[name]["size"], entries[name]["signed"]) == wanted), "unsigned int")


def _kind(name: str) -> str:
    return "bool" if name == BOOLEAN else "char" if name in CHARACTERS else "int"


def _entry(kind: str, size: int, is_signed: bool, endian: str) -> dict[str, Any]:
    return {"size": size, "signed": is_signed, "kind": kind, "endian": endian}
