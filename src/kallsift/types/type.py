"""Decode a single type: kind, size, and members, enumerators or parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from kallsift.by_name import ByName
from kallsift.kallsyms.escapes import escaped_text
from kallsift.kernel.access.btf_blob import BtfError, Kind
from kallsift.types.btf import Btf

MAX_DEPTH = 32
"""Highest number of types that are followed from one to the next, through names, qualifiers and arrays."""

MAX_SIZE = 1 << 48
"""Highest size of a type in bytes."""

MAX_MEMBERS = 1 << 20
"""Highest number of members, enumerators or parameters of a type."""

MAX_UNNAMED = 1 << 12
"""Highest number of unnamed members inside of one type that are followed."""

NAMES_FOR = (Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG)
"""Kinds that stand for another type."""

COMPOSITE = (Kind.STRUCT, Kind.UNION)
ENUMS = (Kind.ENUM, Kind.ENUM64)
SIZED = (Kind.INT, *COMPOSITE, *ENUMS, Kind.FLOAT, Kind.DATASEC)

SIGNED = 1
"""Bit of an integer's encoding, ``BTF_INT_SIGNED``."""


@dataclass(frozen=True, repr=False)
class Member:
    """A member of a structure or union.

    Attributes:
        name: empty where it has none.
        type: its type.
        bit_offset: bits from the beginning of the type that was asked.
        bits: width of a bit field; None for all others.
    """

    name: str
    type: Type
    bit_offset: int
    bits: int | None = None

    @property
    def offset(self) -> int:
        """Offset in bytes in the outermost type; of a bit field, that of its first bit's byte."""
        return self.bit_offset // 8

    def __repr__(self) -> str:
        bits = "" if self.bits is None else f", bit {self.bit_offset % 8}, {self.bits} wide"
        return f"<Member {escaped_text(self.name)} at {self.offset}{bits}>"


@dataclass(frozen=True, repr=False)
class Parameter:
    """A parameter of a function; its type is ``void`` and its name empty for ``...``."""

    name: str
    type: Type

    def __repr__(self) -> str:
        return f"<Parameter {escaped_text(self.name)}: {self.type._shown()}>"


@dataclass(frozen=True, repr=False)
class Type(ByName[Member]):
    """A type by its number; ``type_["name"]`` is a member of a structure or union.

    Attributes:
        btf: all types.
        number: its own.
    """

    btf: Btf
    number: int

    def __repr__(self) -> str:
        return f"<Type {self.number}: {self._shown()}>"

    def _shown(self) -> str:
        """Return its spelling and size, shortened; of a damaged one, what is wrong with it."""
        try:
            return f"{self.spelled()[:100]}, {self.size} bytes"
        except BtfError as error:
            return str(error)

    @property
    def kind(self) -> Kind:
        """Kind of the type.

        Raises:
            BtfError: if there is no such type, or it is of a kind that is not known here.
        """
        return self.btf.info(self.number)[0]

    @cached_property
    def name(self) -> str:
        """Its own name, without ``struct`` and the like; empty where it has none."""
        return self.btf.name(self.number)

    @property
    def target(self) -> Type:
        """The type that a pointer, array, typedef or function is made of.

        Raises:
            BtfError: if it is none of these.
        """
        kind = self.kind
        if kind is Kind.ARRAY:
            return Type(self.btf, self.btf.behind(self.number)[0])
        if kind in (Kind.VOID, Kind.FWD, *SIZED):
            raise BtfError(f"type {self.number} is not made of another type")
        return Type(self.btf, self.btf.third(self.number))

    @property
    def length(self) -> int:
        """Number of elements of an array; 1 for other types."""
        resolved = self.resolved
        return self.btf.behind(resolved.number)[2] if resolved.kind is Kind.ARRAY else 1

    @property
    def resolved(self) -> Type:
        """The type that a name or a qualified type stands for.

        Raises:
            BtfError: if it stands for nothing.
        """
        found = self
        for _ in range(MAX_DEPTH):
            if found.kind not in NAMES_FOR:
                return found
            found = found.target
        raise BtfError(f"the chain of typedefs from type {self.number} does not end")

    @property
    def size(self) -> int:
        """Bytes; 0 where it has none, as functions and ``void``.

        Raises:
            BtfError: if its types lead nowhere, or to more than `MAX_SIZE`.
        """
        factor, found = 1, self
        for _ in range(MAX_DEPTH):
            found = found.resolved
            kind = found.kind
            if kind not in (Kind.ARRAY, Kind.VAR):
                own = self.btf.third(found.number) if kind in SIZED else 0
                size = factor * (self.btf.word_size if kind is Kind.PTR else own)
                if size > MAX_SIZE:
                    break
                return size
            factor *= found.length
            found = found.target
        raise BtfError(f"type {self.number} is larger than any type, or does not end")

    @property
    def is_signed(self) -> bool:
        """True if it is an integer or an enumeration with a sign."""
        resolved = self.resolved
        kind, _, flag = self.btf.info(resolved.number)
        if kind is Kind.INT:
            return bool(self.btf.behind(resolved.number)[0] >> 24 & SIGNED)
        return kind in ENUMS and (flag or (kind is Kind.ENUM and not self.btf.has_signed_enums))

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """Members of a structure or union in their order; empty for other types.

        Raises:
            BtfError: if there are more than `MAX_MEMBERS`.
        """
        return tuple(self._members())

    def _members(self) -> Iterator[Member]:
        resolved = self.resolved
        if resolved.kind in COMPOSITE:
            for name, number, offset, bits in member_rows(self.btf, resolved.number):
                yield Member(name, Type(self.btf, number), offset, bits)

    def get(self, name: str) -> Member | None:
        """Return the member of a name, also in anonymous members, or None."""
        waiting: list[tuple[Type, int]] = [(self.resolved, 0)]
        seen = {self.resolved.number}
        for type_, offset in waiting:
            for member in type_.members:
                if member.name == name and name:
                    return Member(name, member.type, offset + member.bit_offset, member.bits)
                if not member.name and (inner := member.type.resolved).kind in COMPOSITE and inner.number not in seen:
                    seen.add(inner.number)
                    if len(waiting) < MAX_UNNAMED:
                        waiting.append((inner, offset + member.bit_offset))
        return None

    @property
    def enumerators(self) -> dict[str, int]:
        """Values of an enumeration by name, in its order; empty of all others.

        Raises:
            BtfError: if there are more than `MAX_MEMBERS`.
        """
        resolved = self.resolved
        kind, count, _ = self.btf.info(resolved.number)
        if kind not in ENUMS:
            return {}
        if count > MAX_MEMBERS:
            raise BtfError(f"type {self.number} has more enumerators than any type")
        width = 32 if kind is Kind.ENUM else 64
        limit = 1 << width - 1 if resolved.is_signed else 1 << width
        values = {}
        for name, low, *high in self.btf.records(resolved.number).tolist():
            value = low + (high[0] << 32 if high else 0)
            values[self.btf.text(name)] = value - (1 << width) if value >= limit else value
        return values

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters of a function or prototype in their order; empty for other types."""
        prototype = self._prototype
        if prototype is None:
            return ()
        rows = self.btf.records(prototype.number)[:MAX_MEMBERS].tolist()
        return tuple(Parameter(self.btf.text(name), Type(self.btf, number)) for name, number in rows)

    @property
    def returns(self) -> Type | None:
        """Type of a function's result; None for other types."""
        return None if self._prototype is None else self._prototype.target

    @property
    def _prototype(self) -> Type | None:
        found = self.resolved
        if found.kind is Kind.FUNC:
            found = found.target
        return found if found.kind is Kind.FUNC_PROTO else None

    def spelled(self, name: str = "") -> str:
        """Return the type in C, or with a name the declaration of that name."""
        from kallsift.types.c_declaration import declaration

        return declaration(self, name)

    def c(self) -> str:
        """Return its definition in C, with offsets and sizes as pahole prints them."""
        from kallsift.types.c_definition import definition

        return definition(self)


def member_rows(btf: Btf, number: int) -> Iterator[tuple[str, int, int, int | None]]:
    """Yield the members of a structure or union.

    Each has a name, the number of its type, its offset in bits, and the width of a bit field.

    Raises:
        BtfError: if there are more than `MAX_MEMBERS`, or one has no name that ends.
    """
    _, count, has_bits = btf.info(number)
    if count > MAX_MEMBERS:
        raise BtfError(f"type {number} has more members than any type")
    for name, type_number, position in btf.records(number).tolist():
        # with the flag, the upper byte is a bit field's width
        offset, bits = (position & 0xFFFFFF, position >> 24 or None) if has_bits else (position, None)
        yield btf.text(name), type_number, offset, bits
