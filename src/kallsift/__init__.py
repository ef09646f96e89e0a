"""kallsift recovers the Linux kernel's symbol table from a memory dump, kernel image or live guest.

import kallsift
with kallsift.open("memory.lime") as memory:
    kernel = kallsift.recover(memory)
    kernel.symbols["init_task"].address
    kernel.lookup("xfs:xfs_iread_extents")  # whatever one asks a kernel hangs on it: see dir(kernel)

Names of the package are imported when they are first used: importing all of them takes longer than importing NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kallsift.analysis.comparison import Change, Comparison, Difference, compare
    from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols, SymbolGroup, dynamic_symbols
    from kallsift.analysis.hypervisor.vcpus import VirtualProcessor, virtual_processors
    from kallsift.analysis.listings.listing import Listing
    from kallsift.analysis.listings.open import listed
    from kallsift.analysis.symbol_lookup import Answer, Resolver
    from kallsift.errors import KallsiftError, RecoveryError, SourceError, Step, UnmappedError
    from kallsift.facade import Kernel, recover, recover_all, recover_from_address
    from kallsift.image.open import open
    from kallsift.kallsyms.evidence import Check, CheckId, Outcome
    from kallsift.kallsyms.symbol_table import Location, Symbol, SymbolTable
    from kallsift.kernel.kernel import State, TableLocation
    from kallsift.memory.memory import AddressSpace, CpuState, Hints, Memory
    from kallsift.memory.on_demand import OnDemandMemory
    from kallsift.output.text.symbolize import Annotator

__version__ = "0.1.0"

_NAMES_OF = {
    "errors": ("KallsiftError", "RecoveryError", "SourceError", "Step", "UnmappedError"),
    "facade": ("Kernel", "recover", "recover_all", "recover_from_address"),
    "image.open": ("open",),
    "kallsyms.evidence": ("Check", "CheckId", "Outcome"),
    "kallsyms.symbol_table": ("Location", "Symbol", "SymbolTable"),
    "kernel.kernel": ("State", "TableLocation"),
    "memory.on_demand": ("OnDemandMemory",),
    "memory.memory": ("AddressSpace", "CpuState", "Hints", "Memory"),
    "output.text.symbolize": ("Annotator",),
    "analysis.comparison": ("Change", "Comparison", "Difference", "compare"),
    "analysis.dynamic.dynamic_symbols": ("DynamicSymbols", "SymbolGroup", "dynamic_symbols"),
    "analysis.listings.listing": ("Listing",),
    "analysis.listings.open": ("listed",),
    "analysis.symbol_lookup": ("Answer", "Resolver"),
    "analysis.hypervisor.vcpus": ("VirtualProcessor", "virtual_processors"),
}
"""Names of the package by the module that defines them; the imports above are the same for type checkers."""

_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}

_NEW_NAMES = {
    "Dynamic": "DynamicSymbols",
    "Fetched": "OnDemandMemory",
    "Group": "SymbolGroup",
    "TablePlace": "TableLocation",
    "recover_near": "recover_from_address",
}
"""Names of the package until 0.1.0, and what they are called now; the old ones go with the release after the next."""

__all__ = [
    "AddressSpace",
    "Annotator",
    "Answer",
    "Change",
    "Check",
    "CheckId",
    "Comparison",
    "CpuState",
    "Difference",
    "DynamicSymbols",
    "Hints",
    "KallsiftError",
    "Kernel",
    "Listing",
    "Location",
    "Memory",
    "OnDemandMemory",
    "Outcome",
    "RecoveryError",
    "Resolver",
    "SourceError",
    "State",
    "Step",
    "Symbol",
    "SymbolGroup",
    "SymbolTable",
    "TableLocation",
    "UnmappedError",
    "VirtualProcessor",
    "compare",
    "dynamic_symbols",
    "listed",
    "open",
    "recover",
    "recover_all",
    "recover_from_address",
    "virtual_processors",
]


if not TYPE_CHECKING:  # or else they would take every name for one of the package's

    def __getattr__(name: str) -> object:
        """Import the module that defines ``name``, and keep the name for next time (PEP 562)."""
        if name in _NEW_NAMES:
            from warnings import warn

            warn(f"kallsift.{name} is now kallsift.{_NEW_NAMES[name]}", DeprecationWarning, stacklevel=2)
            name = _NEW_NAMES[name]
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        return value


def __dir__() -> list[str]:
    """List every name of the package, imported or not."""
    return sorted(globals().keys() | _MODULE_OF.keys())
