"""List the kernel functions with which an out-of-tree module can look up names.

For each function, the result says whether the kernel exports it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kallsift.addresses import VirtualAddress
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.kernel import Kernel
from kallsift.modules.exports.exports import KERNEL, exports
from kallsift.modules.exports.kernel import ExportsError

LOOKUP_FUNCTIONS = {
    "kallsyms_lookup_name": "returns the address of any name",
    "kallsyms_on_each_symbol": "calls a function for each name and address",
    "register_kprobe": "a kprobe on a function gives that function's address, so kallsyms_lookup_name's too",
    "sprint_symbol": "prints the name of an address, so a name can be found by trying addresses",
    "__symbol_get": "returns the address of an exported name",
}
"""Functions that answer a module's question for a name, and the answer of each."""

EXPORT = "__ksymtab_"
"""Prefix of the symbol of an export's entry (include/linux/export.h).

Only tables that list data have such symbols.
"""


@dataclass(frozen=True)
class LookupFunction:
    """One function that can answer.

    Attributes:
        name: name of the function.
        purpose: the answer that it gives a module.
        address: its address; None if the kernel does not have it.
        exported: whether modules can use it; None if unknown.
    """

    name: str
    purpose: str
    address: VirtualAddress | None
    exported: bool | None

    def __str__(self) -> str:
        """Return one line for the author of such a module."""
        if self.address is None:
            return f"{self.name} is not in this kernel"
        state = {True: "exported", False: "not exported", None: "not known to be exported"}[self.exported]
        return f"{self.name} at {self.address:#x} is {state}: {self.purpose}"


def lookup_functions(symbols: SymbolTable, kernel: Kernel | None = None) -> tuple[LookupFunction, ...]:
    """Return the functions in `LOOKUP_FUNCTIONS`, and whether the kernel exports each of them.

    The symbol table tells if it names the entries of exports; otherwise the exports are read.

    Args:
        symbols: the built-in symbols.
        kernel: the kernel that they belong to; None if there is only the table.
    """
    exported = _exported(symbols, kernel)
    found = []
    for name, purpose in LOOKUP_FUNCTIONS.items():
        index = symbols.find(name)
        if index is None:
            found.append(LookupFunction(name, purpose, None, False))
        else:
            found.append(LookupFunction(name, purpose, symbols.symbol(index).address, exported(name)))
    return tuple(found)


def _exported(symbols: SymbolTable, kernel: Kernel | None) -> Callable[[str], bool | None]:
    """Return a function that tells whether the kernel exports a name.

    It returns None if that is unknown.
    """
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
