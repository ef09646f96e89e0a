"""Spell types as C declares them: pointers, arrays and functions around the name."""

from __future__ import annotations

from dataclasses import dataclass

from kallsift.kallsyms.escapes import escaped_text
from kallsift.kernel.access.btf_blob import BtfError, Kind
from kallsift.types.type import COMPOSITE, ENUMS, MAX_DEPTH, Parameter, Type

MAX_PARTS = 1 << 16
"""Highest number of declarations and lines in the text of one type."""

MAX_NESTED = 32
"""Highest depth of prototypes and unnamed types inside of each other."""

QUALIFIERS = {Kind.CONST: "const ", Kind.VOLATILE: "volatile ", Kind.RESTRICT: "restrict "}

NOT_SPELLED = (Kind.TYPE_TAG, Kind.VAR, Kind.FUNC, Kind.DECL_TAG)
"""Kinds that C does not spell: what they are made of is."""


@dataclass
class Room:
    """The rest of the limit on the text of one type.

    Attributes:
        left: declarations and lines.
    """

    left: int = MAX_PARTS

    def take(self, depth: int) -> None:
        """Take one of them.

        Raises:
            BtfError: if none is left, or it is in too many others.
        """
        self.left -= 1
        if self.left < 0 or depth > MAX_NESTED:
            raise BtfError("the type is too large to print, or contains itself")


@dataclass(frozen=True)
class Declarator:
    """A declaration in its two parts.

    Attributes:
        base: the type that stands first.
        qualifiers: what stands before it.
        text: the name with what is around it.
    """

    base: Type
    qualifiers: str
    text: str

    def __str__(self) -> str:
        return f"{self.qualifiers}{base_name(self.base)} {self.text}".rstrip()


def declaration(type_: Type, name: str) -> str:
    """Return the declaration of a name with a type; without a name, the type.

    Raises:
        BtfError: if the type does not end.
    """
    return str(declarator(type_, escaped_text(name), Room(), 0))


def declarator(type_: Type, text: str, room: Room, depth: int) -> Declarator:
    """Return the parts of a declaration: what is around the name, from the inside out.

    Raises:
        BtfError: if the type does not end.
    """
    room.take(depth)
    qualifiers, found = "", type_
    for _ in range(MAX_DEPTH):
        kind = found.kind
        if kind in QUALIFIERS:
            qualifiers += QUALIFIERS[kind]
        elif kind is Kind.PTR:
            text, qualifiers = f"*{qualifiers}{text}".rstrip(), ""
        elif kind is Kind.ARRAY:
            text = f"{_grouped(text)}[{found.length}]"
        elif kind is Kind.FUNC_PROTO:
            text = f"{_grouped(text)}({_parameters(found.parameters, room, depth + 1)})"
        elif kind not in NOT_SPELLED:
            return Declarator(found, qualifiers, text)
        found = found.target
    raise BtfError(f"the chain of types from {type_.number} does not end")


def _grouped(text: str) -> str:
    """Return what is around a name, in parentheses if it is a pointer: an array or a function would bind first."""
    return f"({text})" if text.startswith("*") else text


def base_name(base: Type) -> str:
    """Return the name of a type with ``struct`` and the like before it."""
    kind, _, flag = base.btf.info(base.number)
    word = keyword(base) if kind in (*COMPOSITE, *ENUMS) else ""
    if kind is Kind.FWD:
        word = "union" if flag else "struct"
    name = escaped_text(base.name)
    return f"{word} {name or '{...}'}" if word else name or f"(kind {int(kind)})"


def keyword(type_: Type) -> str:
    """Return the word that C has for a kind of type."""
    return {Kind.STRUCT: "struct", Kind.UNION: "union"}.get(type_.kind, "enum")


def _parameters(parameters: tuple[Parameter, ...], room: Room, depth: int) -> str:
    if not parameters:
        return "void"
    parts = []
    for parameter in parameters:
        if parameter.type.number:
            parts.append(str(declarator(parameter.type, escaped_text(parameter.name), room, depth)))
        else:
            parts.append("...")
    return ", ".join(parts)
