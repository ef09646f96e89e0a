"""What a module from outside the kernel's tree can look names up with: which of the kernel's functions it exports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kallsift.addresses import VirtualAddress
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.kernel import Kernel
from kallsift.modules.exports.exports import KERNEL, exports
from kallsift.modules.exports.kernel import ExportsError

WAYS = {
    "kallsyms_lookup_name": "the address of any name",
    "kallsyms_on_each_symbol": "calls a function for each name and address",
    "register_kprobe": "a kprobe on a function tells the function's address, kallsyms_lookup_name's too",
    "sprint_symbol": "the name of an address, so a name is found by trying addresses",
    "__symbol_get": "the address of a name that is exported",
}
"""Functions that answer a module's question for a name, and what each gives it."""

EXPORT = "__ksymtab_"
"""How the name of an export's entry begins, where data are listed (include/linux/export.h)."""


@dataclass(frozen=True)
class Way:
    """One function that could answer.

    Attributes:
        name: the function's.
        purpose: what it gives a module.
        address: where it is; None where the kernel does not have it.
        exported: whether modules can use it; None where nothing tells.
    """

    name: str
    purpose: str
    address: VirtualAddress | None
    exported: bool | None

    def __str__(self) -> str:
        """One line, for whoever wants to write such a module."""
        if self.address is None:
            return f"{self.name} is not in this kernel"
        state = {True: "exported", False: "not exported", None: "not known to be exported"}[self.exported]
        return f"{self.name} at {self.address:#x} is {state}: {self.purpose}"


def ways(symbols: SymbolTable, kernel: Kernel | None = None) -> tuple[Way, ...]:
    """`WAYS`, and which of them the kernel exports: as its table names the entries of exports, else as these say.

    Args:
        symbols: the built-in ones.
        kernel: what they belong to; None where there is nothing but the table.
    """
    exported = _exported(symbols, kernel)
    found = []
    for name, purpose in WAYS.items():
        index = symbols.find(name)
        if index is None:
            found.append(Way(name, purpose, None, False))
        else:
            found.append(Way(name, purpose, symbols.symbol(index).address, exported(name)))
    return tuple(found)


def _exported(symbols: SymbolTable, kernel: Kernel | None) -> Callable[[str], bool | None]:
    """Tells of a name whether the kernel exports it; None where nothing tells."""
    if len(symbols.beginning(EXPORT.encode())):
        return lambda name: symbols.find(EXPORT + name) is not None
    if kernel is None:
        return lambda _: None
    try:
        found = exports(kernel)
    except ExportsError:
        return lambda _: None
    own = {export.name for export in found.of(KERNEL)}
    return lambda name: name in own if own else None
