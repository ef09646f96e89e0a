"""Describe types where they are used: of members, of what pointers point at, of symbols.

A description names a structure, union or enumeration, which has an entry of its own. What cannot be described, since
its types are damaged or lead nowhere, is ``void``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from kallsift.kernel.access.btf_blob import BtfError, Kind
from kallsift.output.isf.base_types import base_name, is_described
from kallsift.types.btf import Btf
from kallsift.types.type import COMPOSITE, ENUMS, MAX_DEPTH, NAMES_FOR, Type

Description: TypeAlias = dict[str, Any]

VOID: Description = {"kind": "base", "name": "void"}
FUNCTION: Description = {"kind": "function"}


@dataclass(frozen=True, eq=False)
class Descriptions:
    """The descriptions of all types of a kernel, or of a module together with the kernel's.

    Attributes:
        btf: the types.
        names: names of the own structures, unions and enumerations by number.
        kinds: ``struct`` or ``union`` by the name of each entry of all scopes, which forward declarations mean.
        base: the descriptions of the types that these build on; None of a kernel's.
    """

    btf: Btf
    names: Mapping[int, str]
    kinds: Mapping[str, str]
    base: Descriptions | None = None
    # each with how many others it is made of, one in the other
    _known: dict[int, tuple[Description, int]] = field(default_factory=dict, repr=False)

    def of(self, number: int) -> Description:
        """Return the description of a type."""
        return self._described(number, 0)[0]

    def _described(self, number: int, depth: int) -> tuple[Description, int]:
        """Return a description and its height; ``void`` for what is more than `MAX_DEPTH` types high."""
        if self.base is not None and number < self.btf.first:
            return self.base._described(number, depth)
        known = self._known.get(number)
        if known is None:
            known = (VOID, 0)
            if depth < MAX_DEPTH:
                try:
                    known = self._made(number, depth)
                except BtfError:
                    known = (VOID, 0)
            self._known[number] = known = known if known[1] < MAX_DEPTH else (VOID, 0)
        return known

    def _made(self, number: int, depth: int) -> tuple[Description, int]:
        """Describe a type.

        Raises:
            BtfError: if it is damaged.
        """
        btf = self.btf
        kind = btf.info(number)[0]
        if kind in NAMES_FOR:
            return self._described(btf.third(number), depth + 1)
        if kind is Kind.PTR:
            target, height = self._described(btf.third(number), depth + 1)
            return {"kind": "pointer", "subtype": target}, height + 1
        if kind in COMPOSITE:
            return {"kind": kind.name.lower(), "name": self.names[number]}, 0
        if kind in ENUMS:
            return {"kind": "enum", "name": self.names[number]}, 0
        if kind is Kind.ARRAY:
            element, _, count = btf.behind(number)
            described, height = self._described(element, depth + 1)
            return {"kind": "array", "count": count, "subtype": described}, height + 1
        if kind in (Kind.INT, Kind.FLOAT):
            type_ = Type(btf, number)
            return ({"kind": "base", "name": base_name(type_)} if is_described(type_) else VOID), 0
        if kind in (Kind.FUNC, Kind.FUNC_PROTO):
            return FUNCTION, 0
        if kind is Kind.FWD and (name := btf.name(number)) in self.kinds:
            return {"kind": self.kinds[name], "name": name}, 0
        return VOID, 0
