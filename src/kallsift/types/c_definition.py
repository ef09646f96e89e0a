"""Print the definition of a type in C, with the offset and size of each member, in the form of pahole."""

from __future__ import annotations

from dataclasses import dataclass, field

from kallsift.kallsyms.escapes import escaped_text
from kallsift.kernel.access.btf_blob import Kind
from kallsift.types.c_declaration import Declarator, Room, base_name, declarator, keyword
from kallsift.types.type import COMPOSITE, ENUMS, Member, Type

TYPE_WIDTH, TEXT_WIDTH, TAB = 26, 49, 8
"""Columns of a member's type, of type and name before the comment, and of a tab."""


@dataclass
class _DefinitionWriter:
    """Lines under construction."""

    room: Room = field(default_factory=Room)
    lines: list[str] = field(default_factory=list)

    def line(self, depth: int, text: str, comment: str = "") -> None:
        """Add a line, with its comment in the column of comments."""
        self.room.take(depth)
        # a tab is eight columns; what is in other types gets fewer, so that comments stand below each other
        width = max(0, TEXT_WIDTH - TAB * (depth - 1))
        self.lines.append("\t" * depth + (f"{text:<{width}}{comment}" if comment else text))

    def body(self, type_: Type, depth: int, offset: int) -> None:
        """Add the members of a structure or union that begins at an offset in bits, or the enumerators."""
        if type_.kind in ENUMS:
            values = type_.enumerators
            width = max(map(len, map(escaped_text, values)), default=0)
            for name, value in values.items():
                self.line(depth, f"{escaped_text(name):<{width}} = {value},")
            return
        end, is_struct = offset, type_.kind is Kind.STRUCT
        for member in type_.members:
            at = offset + member.bit_offset
            if is_struct and at // 8 > (end + 7) // 8:
                self.hole(depth, at // 8 - (end + 7) // 8)
            end = max(end, at + (8 * member.type.size if member.bits is None else member.bits))
            self.member(member, depth, at)

    def hole(self, depth: int, size: int) -> None:
        """Add a comment on bytes between members."""
        self.lines.append("")
        self.line(depth, f"/* XXX {size} byte{'s' * (size > 1)} hole, try to pack */")
        self.lines.append("")

    def member(self, member: Member, depth: int, at: int) -> None:
        """Add a member that lies at an offset in bits; one of a type without a name with all that is in it."""
        declared = declarator(member.type, escaped_text(member.name), self.room, depth)
        bits = "" if member.bits is None else f":{member.bits}"
        comment = _comment(member, at)
        if declared.base.kind in (*COMPOSITE, *ENUMS) and not declared.base.name:
            self.line(depth, f"{declared.qualifiers}{keyword(declared.base)} {{")
            self.body(declared.base, depth + 1, 0 if "*" in declared.text else at)
            self.line(depth, f"}} {declared.text}".rstrip() + f"{bits};", comment)
        else:
            self.line(depth, f"{_columns(declared, depth)}{bits};", comment)

    def definition(self, type_: Type) -> None:
        """Add a structure, union or enumeration of its own."""
        self.line(0, f"{base_name(type_)} {{" if type_.name else f"{keyword(type_)} {{")
        self.body(type_, 1, 0)
        if type_.kind in COMPOSITE:
            self.lines.append("")
            self.line(1, f"/* size: {type_.size}, members: {len(type_.members)} */")
            padding = type_.size - max((_end(member) for member in type_.members), default=type_.size)
            if padding > 0:
                self.line(1, f"/* padding: {padding} */")
        self.line(0, "};")


def definition(type_: Type) -> str:
    """Return the definition of a type as C text with a line break at its end.

    Raises:
        BtfError: if the type makes no sense, or is too large to be printed.
    """
    writer = _DefinitionWriter()
    kind = type_.kind
    if kind in (*COMPOSITE, *ENUMS):
        writer.definition(type_)
    elif kind is Kind.TYPEDEF:
        declared = declarator(type_.target, escaped_text(type_.name), writer.room, 0)
        if declared.base.kind in (*COMPOSITE, *ENUMS) and not declared.base.name:
            writer.definition(declared.base)
            writer.lines[0] = f"typedef {declared.qualifiers}{writer.lines[0]}"
            writer.lines[-1] = f"}} {declared.text};"
        else:
            writer.line(0, f"typedef {declared};")
    elif kind in (Kind.FUNC, Kind.VAR):
        writer.line(0, f"{declarator(type_, escaped_text(type_.name), writer.room, 0)};")
    elif kind in (Kind.INT, Kind.FLOAT):
        sign = ", signed" if type_.is_signed else ""
        writer.line(0, f"{escaped_text(type_.name)};", f"/* size: {type_.size}{sign} */")
    elif kind is Kind.DATASEC:
        writer.line(0, f"/* section {escaped_text(type_.name)}: {type_.size} bytes */")
    else:
        writer.line(0, f"{declarator(type_, '', writer.room, 0)};")
    return "\n".join(writer.lines) + "\n"


def _end(member: Member) -> int:
    """Return the offset behind a member, in bytes."""
    bits = 8 * member.type.size if member.bits is None else member.bits
    return (member.bit_offset + bits + 7) // 8


def _columns(declared: Declarator, depth: int) -> str:
    """Return a declaration with its name in the column of names; the stars of pointers go with the type."""
    text = declared.text.lstrip("*")
    stars = declared.text[: len(declared.text) - len(text)]
    left = f"{declared.qualifiers}{base_name(declared.base)} {stars}".rstrip()
    return f"{left:<{max(0, TYPE_WIDTH - TAB * (depth - 1))}} {text}" if text else left


def _comment(member: Member, at: int) -> str:
    """Return offset and size of a member; of a bit field, those of its unit and the bit in it."""
    size = member.type.size
    if member.bits is None:
        return f"/* {at // 8:>5} {size:>5} */"
    unit = 8 * max(size, 1)
    return f"/* {at // unit * size:>5}:{at % unit:>2} {size:>2} */"
