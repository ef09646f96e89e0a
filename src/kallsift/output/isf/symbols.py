"""Write the entries of symbols: link addresses, and types as far as BTF or a name tells them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import numpy as np

from kallsift.kernel.access.btf_blob import BtfError
from kallsift.kernel.access.image_sections import PER_CPU
from kallsift.kernel.kernel import Kernel
from kallsift.output.isf.base_types import name_by_size
from kallsift.output.isf.descriptions import VOID, Description, Descriptions
from kallsift.output.isf.shims import ALIASES, OMISSIONS, TABLE_PREFIX, Omission
from kallsift.output.symbols.system_map import linked_addresses
from kallsift.types.symbol_types import SYMBOL_TYPES, per_cpu_variables, well_known
from kallsift.types.type import Type
from kallsift.types.types import Types

BANNER = "linux_banner"
BANNER_END = b"\n\0"
"""What stands behind the banner in memory; Volatility compares it too."""


def symbol_entries(
    types: Types, descriptions: Descriptions, base_types: dict[str, dict[str, Any]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and entry of each symbol of a kernel whose KASLR slide is known, one of each name."""
    kernel = types.kernel
    linked = linked_addresses(kernel)
    places = _places(kernel, linked.tolist())
    typed = _per_cpu(types, descriptions, places)
    for name in SYMBOL_TYPES:
        if (found := well_known(types, name)) is not None:
            symbol, type_ = found
            index = np.flatnonzero(kernel.symbols.addresses == np.uint64(symbol.address))[0]
            places[name], typed[name] = int(linked[index]), _description(type_, descriptions)
    _add_aliases(places, typed)
    _add_tables(kernel, places, typed, base_types)
    for omission in OMISSIONS:
        if _lacks(types, omission):
            places.pop(omission.name, None)
    banner = banner_data(kernel)
    if banner is not None and BANNER in places:
        data = b64encode(banner).decode("ascii")
        yield BANNER, {"type": VOID, "address": places.pop(BANNER), "constant_data": data}
    for name, address in places.items():
        yield name, {"type": typed.get(name, VOID), "address": address}


def banner_data(kernel: Kernel) -> bytes | None:
    """Return the banner as it stands in memory; None if it is unknown."""
    return None if kernel.banner is None else kernel.banner.rstrip("\n").encode("latin-1", "replace") + BANNER_END


def _places(kernel: Kernel, linked: list[int]) -> dict[str, int]:
    """Return the link address of each name: of several symbols the global one, else the first."""
    symbols = kernel.symbols
    names, letters = symbols.names(), symbols.types()
    known = symbols.named if symbols.known_addresses is None else symbols.named & symbols.known_addresses
    is_global = (letters & np.uint8(0x20)) == 0
    # of equal names, the last one written stays
    places: dict[str, int] = {}
    for mask in (known & ~is_global, known & is_global):
        indices = np.flatnonzero(mask)[::-1].tolist()
        places.update((names[index], linked[index]) for index in indices)
    return places


def _per_cpu(types: Types, descriptions: Descriptions, places: dict[str, int]) -> dict[str, Description]:
    """Describe the per-CPU variables that stand where the types say."""
    start = places.get(PER_CPU[0])
    if start is None:
        return {}
    return {
        name: descriptions.of(number)
        for name, offset, number in per_cpu_variables(types)
        if places.get(name) == start + offset
    }


def _description(type_: Type, descriptions: Descriptions) -> Description:
    """Describe the type of a well-known symbol, which may be an array or a pointer that the kernel's types lack."""
    if type_.btf is descriptions.btf:
        return descriptions.of(type_.number)
    return Descriptions(type_.btf, {}, descriptions.kinds, descriptions).of(type_.number)


def _lacks(types: Types, omission: Omission) -> bool:
    """Tell whether the structure is there without its member."""
    try:
        structure = types.get(f"struct {omission.structure}")
        return structure is not None and omission.member not in structure
    except BtfError:
        return False


def _add_aliases(places: dict[str, int], typed: dict[str, Description]) -> None:
    for alias in ALIASES:
        described = typed.get(alias.target, VOID)
        if alias.name not in places and described["kind"] == "array":
            places[alias.name], typed[alias.name] = places[alias.target], described["subtype"]


def _add_tables(
    kernel: Kernel, places: dict[str, int], typed: dict[str, Description], base_types: dict[str, dict[str, Any]]
) -> None:
    """Add the kernel's symbol tables where it does not list them."""
    slide = kernel.kaslr_slide or 0
    for table in kernel.tables if kernel.is_placed else ():
        name = TABLE_PREFIX + table.name
        if name not in places:
            places[name] = table.virtual - slide & (1 << 8 * kernel.symbols.word_size) - 1
            if table.size <= kernel.symbols.word_size:
                typed[name] = {"kind": "base", "name": name_by_size(base_types, table.size, False)}
