"""Define every debugging entry that is written: tag, attributes, and how many bytes each takes.

Format: DWARF Debugging Information Format, version 4, section 7.5. Every value has a form of fixed size, so that all
entries of one kind are rows of one array. Numbers in LEB128 are padded to a fixed size, which the format allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from functools import cache

import numpy as np
from numpy.typing import NDArray


class Tag(IntEnum):
    """``DW_TAG_*`` (figure 18)."""

    ARRAY_TYPE = 0x01
    ENUMERATION_TYPE = 0x04
    FORMAL_PARAMETER = 0x05
    MEMBER = 0x0D
    POINTER_TYPE = 0x0F
    COMPILE_UNIT = 0x11
    STRUCTURE_TYPE = 0x13
    SUBROUTINE_TYPE = 0x15
    TYPEDEF = 0x16
    UNION_TYPE = 0x17
    UNSPECIFIED_PARAMETERS = 0x18
    SUBRANGE_TYPE = 0x21
    BASE_TYPE = 0x24
    CONST_TYPE = 0x26
    ENUMERATOR = 0x28
    SUBPROGRAM = 0x2E
    VARIABLE = 0x34
    VOLATILE_TYPE = 0x35
    RESTRICT_TYPE = 0x37


class Attribute(IntEnum):
    """``DW_AT_*`` (figure 20)."""

    LOCATION = 0x02
    NAME = 0x03
    BYTE_SIZE = 0x0B
    BIT_SIZE = 0x0D
    LOW_PC = 0x11
    HIGH_PC = 0x12
    LANGUAGE = 0x13
    CONST_VALUE = 0x1C
    PRODUCER = 0x25
    PROTOTYPED = 0x27
    COUNT = 0x37
    DATA_MEMBER_LOCATION = 0x38
    DECLARATION = 0x3C
    ENCODING = 0x3E
    EXTERNAL = 0x3F
    TYPE = 0x49
    DATA_BIT_OFFSET = 0x6B


class Form(IntEnum):
    """``DW_FORM_*`` (figure 21)."""

    ADDR = 0x01
    DATA2 = 0x05
    DATA4 = 0x06
    DATA8 = 0x07
    DATA1 = 0x0B
    FLAG = 0x0C
    SDATA = 0x0D
    STRP = 0x0E
    UDATA = 0x0F
    REF_ADDR = 0x10
    REF4 = 0x13
    EXPRLOC = 0x18
    FLAG_PRESENT = 0x19


class BaseTypeEncoding(IntEnum):
    """``DW_ATE_*`` (figure 24)."""

    BOOLEAN = 0x02
    FLOAT = 0x04
    SIGNED = 0x05
    SIGNED_CHAR = 0x06
    UNSIGNED = 0x07
    UNSIGNED_CHAR = 0x08


DW_LANG_C99 = 0x0C
DW_OP_ADDR = 0x03


class Value(Enum):
    """The form in which an attribute's value is stored."""

    NAME = "an offset into .debug_str"
    TYPE = "the place of another entry"
    BYTE = "1 byte"
    HALF = "2 bytes"
    WORD = "4 bytes"
    ADDRESS = "an address"
    LENGTH = "a number as wide as an address"
    FLAG = "0 or 1"
    PRESENT = "no bytes: true where the entry has it"
    SIGNED_32 = "5 bytes of signed LEB128"
    SIGNED_64 = "10 bytes of signed LEB128"
    UNSIGNED_64 = "10 bytes of unsigned LEB128"
    ADDRESS_EXPRESSION = "DW_OP_addr and an address, with its size before it"


LEB128 = {Value.SIGNED_32: 5, Value.SIGNED_64: 10, Value.UNSIGNED_64: 10}
"""Bytes of a padded number."""


@dataclass(frozen=True)
class Shape:
    """The tag and attributes that all entries of a kind have.

    Attributes:
        tag: their tag.
        values: their attributes and how each is stored.
        has_children: whether other entries follow inside of it.
    """

    tag: Tag
    values: dict[Attribute, Value]
    has_children: bool = False


class DwarfEntry(IntEnum):
    """Kinds of entries; the number is the abbreviation code. ``PLAIN`` ones lack what their neighbours have."""

    UNIT = 1
    BASE = 2
    POINTER = 3
    POINTER_TO_VOID = 4
    TYPEDEF = 5
    TYPEDEF_OF_VOID = 6
    CONST = 7
    CONST_VOID = 8
    VOLATILE = 9
    VOLATILE_VOID = 10
    RESTRICT = 11
    RESTRICT_VOID = 12
    ARRAY = 13
    ARRAY_OF_VOID = 14
    STRUCTURE = 15
    STRUCTURE_UNNAMED = 16
    STRUCTURE_DECLARED = 17
    UNION = 18
    UNION_UNNAMED = 19
    UNION_DECLARED = 20
    ENUMERATION = 21
    ENUMERATION_UNNAMED = 22
    ENUMERATION_DECLARED = 23
    PROTOTYPE = 24
    PROTOTYPE_OF_VOID = 25
    FUNCTION = 26
    FUNCTION_OF_VOID = 27
    VARIABLE = 28
    SUBRANGE = 29
    SUBRANGE_UNBOUNDED = 30
    MEMBER = 31
    MEMBER_UNNAMED = 32
    BIT_FIELD = 33
    BIT_FIELD_UNNAMED = 34
    ENUMERATOR = 35
    ENUMERATOR_64 = 36
    ENUMERATOR_UNSIGNED_64 = 37
    PARAMETER = 38
    PARAMETER_UNNAMED = 39
    PARAMETER_UNTYPED = 40
    VARIADIC = 41


NAME = {Attribute.NAME: Value.NAME}
TYPE = {Attribute.TYPE: Value.TYPE}
SIZE = {Attribute.BYTE_SIZE: Value.WORD}
DECLARED = NAME | {Attribute.DECLARATION: Value.PRESENT}
PROTOTYPED = {Attribute.PROTOTYPED: Value.PRESENT}
CODE = {Attribute.LOW_PC: Value.ADDRESS, Attribute.HIGH_PC: Value.LENGTH}
PLACE = {Attribute.DATA_MEMBER_LOCATION: Value.WORD}
BITS = {Attribute.BIT_SIZE: Value.BYTE, Attribute.DATA_BIT_OFFSET: Value.WORD}
FUNCTION = NAME | {Attribute.EXTERNAL: Value.FLAG} | PROTOTYPED | CODE
UNIT = {Attribute.PRODUCER: Value.NAME, Attribute.LANGUAGE: Value.HALF} | NAME | CODE

SHAPES: dict[DwarfEntry, Shape] = {
    DwarfEntry.UNIT: Shape(Tag.COMPILE_UNIT, UNIT, has_children=True),
    DwarfEntry.BASE: Shape(Tag.BASE_TYPE, NAME | SIZE | {Attribute.ENCODING: Value.BYTE}),
    DwarfEntry.POINTER: Shape(Tag.POINTER_TYPE, SIZE | TYPE),
    DwarfEntry.POINTER_TO_VOID: Shape(Tag.POINTER_TYPE, SIZE),
    DwarfEntry.TYPEDEF: Shape(Tag.TYPEDEF, NAME | TYPE),
    DwarfEntry.TYPEDEF_OF_VOID: Shape(Tag.TYPEDEF, NAME),
    DwarfEntry.CONST: Shape(Tag.CONST_TYPE, TYPE),
    DwarfEntry.CONST_VOID: Shape(Tag.CONST_TYPE, {}),
    DwarfEntry.VOLATILE: Shape(Tag.VOLATILE_TYPE, TYPE),
    DwarfEntry.VOLATILE_VOID: Shape(Tag.VOLATILE_TYPE, {}),
    DwarfEntry.RESTRICT: Shape(Tag.RESTRICT_TYPE, TYPE),
    DwarfEntry.RESTRICT_VOID: Shape(Tag.RESTRICT_TYPE, {}),
    DwarfEntry.ARRAY: Shape(Tag.ARRAY_TYPE, TYPE, has_children=True),
    DwarfEntry.ARRAY_OF_VOID: Shape(Tag.ARRAY_TYPE, {}, has_children=True),
    DwarfEntry.STRUCTURE: Shape(Tag.STRUCTURE_TYPE, NAME | SIZE, has_children=True),
    DwarfEntry.STRUCTURE_UNNAMED: Shape(Tag.STRUCTURE_TYPE, SIZE, has_children=True),
    DwarfEntry.STRUCTURE_DECLARED: Shape(Tag.STRUCTURE_TYPE, DECLARED),
    DwarfEntry.UNION: Shape(Tag.UNION_TYPE, NAME | SIZE, has_children=True),
    DwarfEntry.UNION_UNNAMED: Shape(Tag.UNION_TYPE, SIZE, has_children=True),
    DwarfEntry.UNION_DECLARED: Shape(Tag.UNION_TYPE, DECLARED),
    DwarfEntry.ENUMERATION: Shape(Tag.ENUMERATION_TYPE, NAME | SIZE, has_children=True),
    DwarfEntry.ENUMERATION_UNNAMED: Shape(Tag.ENUMERATION_TYPE, SIZE, has_children=True),
    DwarfEntry.ENUMERATION_DECLARED: Shape(Tag.ENUMERATION_TYPE, SIZE | DECLARED),
    DwarfEntry.PROTOTYPE: Shape(Tag.SUBROUTINE_TYPE, PROTOTYPED | TYPE, has_children=True),
    DwarfEntry.PROTOTYPE_OF_VOID: Shape(Tag.SUBROUTINE_TYPE, PROTOTYPED, has_children=True),
    DwarfEntry.FUNCTION: Shape(Tag.SUBPROGRAM, FUNCTION | TYPE, has_children=True),
    DwarfEntry.FUNCTION_OF_VOID: Shape(Tag.SUBPROGRAM, FUNCTION, has_children=True),
    DwarfEntry.VARIABLE: Shape(
        Tag.VARIABLE,
        NAME | TYPE | {Attribute.EXTERNAL: Value.FLAG, Attribute.LOCATION: Value.ADDRESS_EXPRESSION},
    ),
    DwarfEntry.SUBRANGE: Shape(Tag.SUBRANGE_TYPE, {Attribute.COUNT: Value.WORD}),
    DwarfEntry.SUBRANGE_UNBOUNDED: Shape(Tag.SUBRANGE_TYPE, {}),
    DwarfEntry.MEMBER: Shape(Tag.MEMBER, NAME | TYPE | PLACE),
    DwarfEntry.MEMBER_UNNAMED: Shape(Tag.MEMBER, TYPE | PLACE),
    DwarfEntry.BIT_FIELD: Shape(Tag.MEMBER, NAME | TYPE | BITS),
    DwarfEntry.BIT_FIELD_UNNAMED: Shape(Tag.MEMBER, TYPE | BITS),
    DwarfEntry.ENUMERATOR: Shape(Tag.ENUMERATOR, NAME | {Attribute.CONST_VALUE: Value.SIGNED_32}),
    DwarfEntry.ENUMERATOR_64: Shape(Tag.ENUMERATOR, NAME | {Attribute.CONST_VALUE: Value.SIGNED_64}),
    DwarfEntry.ENUMERATOR_UNSIGNED_64: Shape(Tag.ENUMERATOR, NAME | {Attribute.CONST_VALUE: Value.UNSIGNED_64}),
    DwarfEntry.PARAMETER: Shape(Tag.FORMAL_PARAMETER, NAME | TYPE),
    DwarfEntry.PARAMETER_UNNAMED: Shape(Tag.FORMAL_PARAMETER, TYPE),
    DwarfEntry.PARAMETER_UNTYPED: Shape(Tag.FORMAL_PARAMETER, NAME),
    DwarfEntry.VARIADIC: Shape(Tag.UNSPECIFIED_PARAMETERS, {}),
}
"""The shape of each kind; attributes are stored in the order given."""


@dataclass(frozen=True)
class DwarfTarget:
    """Byte order and address size of a machine.

    Attributes:
        order: ``<`` or ``>``.
        width: bytes of an address.
    """

    order: str
    width: int

    def form(self, value: Value, reference: Form) -> Form:
        """Return the form of a value; that of a type is ``reference``."""
        return {
            Value.NAME: Form.STRP,
            Value.TYPE: reference,
            Value.BYTE: Form.DATA1,
            Value.HALF: Form.DATA2,
            Value.WORD: Form.DATA4,
            Value.ADDRESS: Form.ADDR,
            Value.LENGTH: Form.DATA8 if self.width == 8 else Form.DATA4,
            Value.FLAG: Form.FLAG,
            Value.PRESENT: Form.FLAG_PRESENT,
            Value.SIGNED_32: Form.SDATA,
            Value.SIGNED_64: Form.SDATA,
            Value.UNSIGNED_64: Form.UDATA,
            Value.ADDRESS_EXPRESSION: Form.EXPRLOC,
        }[value]

    def stored(self, value: Value) -> np.dtype[np.void] | np.dtype[np.uint8] | str | None:
        """Return the NumPy type of a value; None where it takes no bytes."""
        if value in LEB128:
            return np.dtype((np.uint8, (LEB128[value],)))
        address = f"{self.order}u{self.width}"
        if value is Value.ADDRESS_EXPRESSION:
            return np.dtype([("size", "u1"), ("operation", "u1"), ("address", address)])
        return {
            Value.BYTE: "u1",
            Value.FLAG: "u1",
            Value.HALF: f"{self.order}u2",
            Value.NAME: f"{self.order}u4",
            Value.TYPE: f"{self.order}u4",
            Value.WORD: f"{self.order}u4",
            Value.ADDRESS: address,
            Value.LENGTH: address,
        }.get(value)


@cache
def record(entry: DwarfEntry, target: DwarfTarget) -> np.dtype[np.void]:
    """Return the packed structure of an entry's bytes: its code, then a field for each attribute that takes any."""
    fields = [(attribute.name, target.stored(value)) for attribute, value in SHAPES[entry].values.items()]
    return np.dtype([("code", "u1"), *((name, stored) for name, stored in fields if stored is not None)])


def abbreviations(target: DwarfTarget, reference: Form) -> bytes:
    """Return the table of abbreviations, in which types are named by a form."""
    rows = b""
    for entry, shape in SHAPES.items():
        rows += bytes([entry, shape.tag, shape.has_children])
        rows += b"".join(bytes([name, target.form(value, reference)]) for name, value in shape.values.items())
        rows += b"\0\0"
    return rows + b"\0"


def leb128(values: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """Return numbers in LEB128, each padded to so many bytes, shape (n, size); unsigned ones as uint64."""
    shifts = np.minimum(7 * np.arange(size), 63).astype(values.dtype)
    digits = (values[:, None] >> shifts).astype(np.uint8) & np.uint8(0x7F)
    digits[:, :-1] |= np.uint8(0x80)
    return digits
