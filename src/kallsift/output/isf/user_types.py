"""Write the entries of structures, unions and enumerations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kallsift.kernel.access.btf_blob import BtfError, Kind
from kallsift.output.isf.base_types import name_by_size
from kallsift.output.isf.descriptions import Description, Descriptions
from kallsift.types.type import COMPOSITE, ENUMS, MAX_DEPTH, Type, member_rows

MAX_FIELDS = 1 << 16
"""Highest number of fields or enumerators of a type, those of unnamed members included; kernels have some thousand."""


class UserTypes:
    """Writes the structures and unions of one scope."""

    def __init__(self, descriptions: Descriptions, is_big_endian: bool) -> None:
        """Take the descriptions of all types of the scope."""
        self._descriptions = descriptions
        self._is_big_endian = is_big_endian
        self._counts: dict[int, int] = {}

    def entries(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield name and entry of each structure and union; those that are damaged are left out."""
        for number, name in self._descriptions.names.items():
            try:
                if self._descriptions.btf.info(number)[0] in COMPOSITE:
                    yield name, self._entry(number)
            except BtfError:
                continue

    def _entry(self, number: int) -> dict[str, Any]:
        """Return the entry of a structure or union.

        Raises:
            BtfError: if it is damaged.
        """
        btf, of = self._descriptions.btf, self._descriptions.of
        kind, count, _ = btf.info(number)
        if count > MAX_FIELDS:
            raise BtfError(f"type {number} has more members than any type")
        fields: dict[str, Any] = {}
        for index, (name, member, offset, bits) in enumerate(member_rows(btf, number)):
            if bits is not None:
                if (described := self._bit_field(Type(btf, member), offset, bits)) is not None:
                    fields[name] = described
            elif name:
                fields[name] = {"offset": offset // 8, "type": of(member)}
            elif self._count(Type(btf, member), 0) < MAX_FIELDS:
                fields[f"unnamed_field_{index}"] = {"offset": offset // 8, "type": of(member), "anonymous": True}
        return {"kind": kind.name.lower(), "size": btf.third(number), "fields": fields}

    def _count(self, type_: Type, depth: int) -> int:
        """Return how many fields an unnamed member has, all in it included; `MAX_FIELDS` if too many, or none.

        Readers put them beside the fields of the outer type, one level after the other.
        """
        number = type_.resolved.number
        if number not in self._counts:
            # what is in itself has no end
            self._counts[number] = MAX_FIELDS
            members = Type(type_.btf, number).members
            if depth < MAX_DEPTH and members:
                inner = sum(1 if each.name else self._count(each.type, depth + 1) for each in members)
                self._counts[number] = min(inner, MAX_FIELDS)
        return self._counts[number]

    def _bit_field(self, type_: Type, bit_offset: int, bits: int) -> dict[str, Any] | None:
        """Return the entry of a bit field; None if no unit of its type holds it.

        As DWARF has them: the unit is aligned, and the position counts from its lowest bit.
        """
        type_ = type_.resolved
        if type_.kind is not Kind.INT and type_.kind not in ENUMS:
            return None
        width = 8 * type_.size
        offset = bit_offset // width * width if width else 0
        if bit_offset + bits > offset + width:
            # in a packed structure
            offset = bit_offset // 8 * 8
        position = bit_offset - offset
        if self._is_big_endian:
            position = width - position - bits
        if not 0 <= position <= width - bits:
            return None
        described: Description = {
            "kind": "bitfield",
            "bit_position": position,
            "bit_length": bits,
            "type": self._descriptions.of(type_.number),
        }
        return {"offset": offset // 8, "type": described}


def enum_entries(
    descriptions: Descriptions, base_types: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and entry of each enumeration; those that are damaged are left out."""
    for number, name in descriptions.names.items():
        type_ = Type(descriptions.btf, number)
        try:
            if type_.kind in ENUMS and type_.btf.info(number)[1] <= MAX_FIELDS:
                base = name_by_size(base_types, type_.size, type_.is_signed)
                yield name, {"size": type_.size, "base": base, "constants": type_.enumerators}
        except BtfError:
            continue
