"""An address as the kernel's messages write it: the symbol that holds it, and the distance from there."""

from __future__ import annotations

from kallsift.kernel.dynamic import Dynamic
from kallsift.kernel.model import Kernel
from kallsift.memory.model import printable


def name_of(kernel: Kernel, dynamic: Dynamic, address: int) -> str | None:
    """``symbol+0xoffset/0xsize [module]``, safe to print; None where no symbol is known to hold the address."""
    holder, owner = dynamic.at(address), ""
    if holder is not None:
        owner, location = f" [{printable(holder[0])}]", holder[1]
    else:
        found = kernel.symbols.at(address)
        image = kernel.virtual_base is not None and address >= kernel.virtual_base
        if found is None or not image or (found.size is None and found.offset):
            return None
        location = found
    size = "" if location.size is None else f"/{location.size:#x}"
    return f"{printable(location.symbol.name)}+{location.offset:#x}{size}{owner}"
