"""Read BTF, the types that a kernel describes in its own image, as far as structures and their members are concerned.

Format: Documentation/bpf/btf.rst and include/uapi/linux/btf.h of the kernel. Types have no index; the length of each
follows from its kind and its number of members.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import is_in
from kallsift.errors import KallsiftError, UnmappedError
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.kernel import Kernel

MAGIC = 0xEB9F
HEADER = 24
MAX_SIZE = 1 << 26
"""Highest size of all types in bytes; a kernel has some 6 MB of them."""

MAX_TYPE_SIZE = 1 << 32
"""Highest size of a single type in bytes."""

MAX_UNNAMED = 256
"""Highest number of unnamed structures inside of one structure that are followed."""

MAX_SAME = 64
"""Highest number of places among the strings at which a name is found; kernels have each string once."""

MAX_DEPTH = 32
"""Highest number of types that are followed from one to the next, through names, qualifiers and arrays."""

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT = range(1, 12)
FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(12, 20)
KINDS = 20

NAMES_FOR = (TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG)
"""Kinds that stand for another type."""

WORDS = 3
"""Number of 32-bit words that each type has: name, kind and count, size or type."""

FIXED = {INT: 1, ARRAY: 3, VAR: 1, DECL_TAG: 1}
"""Number of words behind these, by kind."""

EACH = {STRUCT: 3, UNION: 3, ENUM: 2, FUNC_PROTO: 2, DATASEC: 3, ENUM64: 3}
"""Number of words behind these for each member, by kind."""


class BtfError(KallsiftError):
    """Raised where types are absent or invalid."""


@dataclass(frozen=True)
class Member:
    """A member of a structure.

    Attributes:
        offset: offset from the structure's beginning, in bytes; for a bit field, of the byte in which it begins.
        type: number of its type.
    """

    offset: int
    type: int


@dataclass(frozen=True)
class Struct:
    """A structure or union.

    Attributes:
        size: size in bytes.
        members: members by name; members of an unnamed member count as its own.
    """

    size: int
    members: Mapping[str, Member]


@dataclass(frozen=True, eq=False)
class Btf:
    """All types of one kernel.

    Attributes:
        words: the types, shape (n,), uint32.
        strings: the names, each with a NUL behind it.
        word_size: bytes of a pointer.
    """

    words: NDArray[np.uint32]
    strings: bytes
    word_size: int

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        """Index in ``words`` of each complete type; the entry of void, type 0, is unused."""
        kinds, counts = (self.words >> np.uint32(24)).astype(np.uint8) & np.uint8(0x1F), self.words & np.uint32(0xFFFF)
        fixed, each = np.zeros(32, np.uint32), np.zeros(32, np.uint32)
        fixed[list(FIXED)], each[list(EACH)] = list(FIXED.values()), list(EACH.values())
        sizes = each[kinds] * counts + fixed[kinds] + np.uint32(WORDS)
        # the kind is in a type's second word, hence the shift by one; single items of a memoryview are read quickly
        steps, places, place, last = memoryview(sizes[1:]), [0], 0, len(self.words) - WORDS
        while place <= last:
            places.append(place)
            place += steps[place]
        # the last type may be incomplete
        return np.array(places if place <= len(self.words) else places[:-1], np.int64)

    def _kind(self, number: int) -> int:
        if not 0 < number < len(self._places):
            raise BtfError(f"there is no type {number}")
        return int(self.words[self._places[number] + 1]) >> 24 & 0x1F

    def _is_struct(self, number: int) -> bool:
        return self._kind(number) in (STRUCT, UNION)

    def _third(self, number: int) -> int:
        """Return a type's size, or the number of the type that it refers to."""
        return int(self.words[self._places[number] + 2])

    def _name(self, offset: int) -> str:
        end = self.strings.find(b"\0", offset)
        return self.strings[offset : max(offset, end)].decode("latin-1")

    def struct(self, name: str) -> Struct | None:
        """Return the first structure or union of a name, or None."""
        wanted = f"\0{name}\0".encode("latin-1", "replace")
        names: list[int] = []
        place = self.strings.find(wanted)
        while place >= 0 and len(names) < MAX_SAME:
            names.append(place + 1)
            place = self.strings.find(wanted, place + 1)
        named = np.flatnonzero(is_in(self.words[self._places[1:]], np.array(names, np.uint32))) + 1
        found = (number for number in named.tolist() if self._is_struct(number))
        return next((self._struct(number, set()) for number in found), None)

    def struct_of(self, number: int) -> Struct | None:
        """Return the structure that a type is, or is an array of.

        None if it is something else.
        """
        number = self.resolved(number)
        if self._kind(number) == ARRAY:
            number = self.resolved(int(self.words[self._places[number] + WORDS]))
        return self._struct(number, set()) if self._is_struct(number) else None

    def length(self, number: int) -> int:
        """Return the number of elements of an array; 1 for other types."""
        number = self.resolved(number)
        return int(self.words[self._places[number] + WORDS + 2]) if self._kind(number) == ARRAY else 1

    def size(self, number: int, depth: int = 0) -> int:
        """Return the size of a type in bytes; 0 where it has none.

        Raises:
            BtfError: if its types do not exist, do not end, or take more than `MAX_TYPE_SIZE` bytes.
        """
        number = self.resolved(number)
        kind = self._kind(number)
        if depth > MAX_DEPTH:
            raise BtfError(f"the types from {number} on do not end")
        if kind == PTR:
            return self.word_size
        if kind == ARRAY:
            element, count = (int(self.words[self._places[number] + WORDS + index]) for index in (0, 2))
            if (whole := self.size(element, depth + 1) * count) > MAX_TYPE_SIZE:
                raise BtfError(f"type {number} is larger than any can be")
            return whole
        return self._third(number) if kind in (INT, STRUCT, UNION, ENUM, FLOAT, ENUM64) else 0

    def resolved(self, number: int) -> int:
        """Return the type that a name or a qualified type stands for.

        Raises:
            BtfError: if it stands for nothing.
        """
        for _ in range(MAX_DEPTH):
            if self._kind(number) not in NAMES_FOR:
                return number
            number = self._third(number)
        raise BtfError(f"the names from type {number} on do not end")

    def _struct(self, number: int, seen: set[int]) -> Struct:
        """Return a structure with its members.

        ``seen`` are the unnamed structures around it; none of them can be inside of it again.
        """
        seen.add(number)
        place = int(self._places[number])
        info = int(self.words[place + 1])
        records = self.words[place + WORDS : place + WORDS + 3 * (info & 0xFFFF)].reshape(-1, 3)
        members: dict[str, Member] = {}
        for name, kind, position in records.tolist():
            # if the structure's flag is set, the upper byte is a bit field's width
            offset = (position & 0xFFFFFF if info >> 31 else position) // 8
            if name:
                members.setdefault(self._name(name), Member(offset, kind))
            elif len(seen) <= MAX_UNNAMED and (inner := self.resolved(kind)) not in seen and self._is_struct(inner):
                for inner_name, member in self._struct(inner, seen).members.items():
                    members.setdefault(inner_name, Member(offset + member.offset, member.type))
        return Struct(self._third(number), members)


def parse(data: NDArray[np.uint8], word_size: int) -> Btf:
    """Read types that begin with their header.

    Raises:
        BtfError: if there is no header, or its sizes exceed the data.
    """
    order = "<" if len(data) > HEADER and data[0] == MAGIC & 0xFF else ">"
    if len(data) < HEADER or int(data[:2].view(f"{order}u2")[0]) != MAGIC:
        raise BtfError("no types stand where the kernel's symbols say")
    header, *sizes = (int(word) for word in data[4:HEADER].view(f"{order}u4"))
    type_offset, type_size, string_offset, string_size = sizes
    if max(header + type_offset + type_size, header + string_offset + string_size) > len(data) or type_size % 4:
        raise BtfError("the types' header tells of more than there is")
    words = np.ascontiguousarray(data[header + type_offset :][:type_size]).view(f"{order}u4").astype(np.uint32)
    return Btf(words, data[header + string_offset :][:string_size].tobytes(), word_size)


def kernel_types(kernel: Kernel, memory: VirtualMemory) -> Btf:
    """Return the types of a running kernel.

    Raises:
        BtfError: if it has none, or they cannot be read.
    """
    start, stop = kernel.symbols.find("__start_BTF"), kernel.symbols.find("__stop_BTF")
    if start is None or stop is None:
        raise BtfError("no symbol of the kernel's table names its types")
    low, high = kernel.symbols.symbol(start).address, kernel.symbols.symbol(stop).address
    if not HEADER <= high - low < MAX_SIZE:
        raise BtfError("the kernel has no types of its own")
    try:
        return parse(memory.read(low, high - low), kernel.symbols.word_size)
    except UnmappedError as error:
        raise BtfError(f"the kernel's types cannot be read: {error}") from error
