"""Give each structure, union and enumeration one name: a symbol file has only one of each name.

Of several types of one name, that with most members keeps it, as in `Types.get`. A type without a name gets that of the
first typedef which stands directly for it (``kernel_cap_t`` since 6.3), unless a type has this name. All others get
names that no C program can have.
"""

from __future__ import annotations

from collections.abc import Container

import numpy as np

from kallsift.arrays import is_in
from kallsift.kernel.access.btf_blob import BtfError, Kind
from kallsift.types.btf import Btf
from kallsift.types.type import COMPOSITE, ENUMS


def type_names(btf: Btf, kinds: tuple[Kind, ...], taken: Container[str] = (), scope: str = "") -> dict[int, str]:
    """Return the name of each own type of some kinds by its number.

    Args:
        btf: all types.
        kinds: structures and unions, or enumerations: these share no names with those.
        taken: names that other types have.
        scope: name of the module whose types they are; empty for the kernel.
    """
    called = {number: _text(btf, number) for number in _own(btf, *kinds)}
    holders: dict[str, int] = {}
    for number, name in called.items():
        if name and name not in taken:
            before = holders.get(name)
            if before is None or btf.info(number)[1] >= btf.info(before)[1]:
                holders[name] = number
    for typedef in _own(btf, Kind.TYPEDEF):
        target = btf.third(typedef)
        if called.get(target) == "" and (name := _text(btf, typedef)) not in taken and name not in holders:
            holders[name] = target
            called[target] = name
    kept = {number: name for name, number in holders.items() if name}
    return {number: kept.get(number) or f"{name or 'unnamed'}@{scope}{number}" for number, name in called.items()}


def structure_names(btf: Btf, taken: Container[str] = (), scope: str = "") -> dict[int, str]:
    """Return the names of all own structures and unions."""
    return type_names(btf, COMPOSITE, taken, scope)


def enum_names(btf: Btf, taken: Container[str] = (), scope: str = "") -> dict[int, str]:
    """Return the names of all own enumerations."""
    return type_names(btf, ENUMS, taken, scope)


def _own(btf: Btf, *kinds: Kind) -> list[int]:
    """Return the numbers of the own types of some kinds, ascending."""
    return (np.flatnonzero(is_in(btf.blob.kinds, np.array(kinds, np.uint8))) + btf.first).tolist()


def _text(btf: Btf, number: int) -> str:
    """Return a type's name; empty where it is damaged."""
    try:
        return btf.name(number)
    except BtfError:
        return ""
