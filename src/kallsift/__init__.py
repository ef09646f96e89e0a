"""kallsift recovers the Linux kernel's symbol table from a memory dump, kernel image or live guest.

import kallsift
with kallsift.open("memory.lime") as memory:
    kernel = kallsift.recover(memory)
    kernel.symbols["init_task"].address

Names of the package are imported when they are first used: importing all of them takes longer than importing NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kallsift.errors import KallsiftError, RecoveryError, SourceError, UnmappedError
    from kallsift.image.sources import open
    from kallsift.kallsyms.evidence import Check, Outcome
    from kallsift.kallsyms.table import Location, Symbol, SymbolTable
    from kallsift.kernel.live import recover, recover_all
    from kallsift.kernel.model import Kernel, State, TablePlace
    from kallsift.kernel.near import recover_near
    from kallsift.memory.fetched import Fetched
    from kallsift.memory.model import AddressSpace, CpuState, Hints, Memory
    from kallsift.output.annotation import Annotator
    from kallsift.questions.comparison import Change, Comparison, Difference, compare
    from kallsift.questions.dynamic import Dynamic, Group, dynamic_symbols
    from kallsift.questions.listing import Listing
    from kallsift.questions.listings import listed
    from kallsift.questions.resolver import Answer, Resolver
    from kallsift.questions.virtual_processors import VirtualProcessor, virtual_processors

__version__ = "0.1.0"

_NAMES_OF = {
    "errors": ("KallsiftError", "RecoveryError", "SourceError", "UnmappedError"),
    "image.sources": ("open",),
    "kallsyms.evidence": ("Check", "Outcome"),
    "kallsyms.table": ("Location", "Symbol", "SymbolTable"),
    "kernel.live": ("recover", "recover_all"),
    "kernel.model": ("Kernel", "State", "TablePlace"),
    "kernel.near": ("recover_near",),
    "memory.fetched": ("Fetched",),
    "memory.model": ("AddressSpace", "CpuState", "Hints", "Memory"),
    "output.annotation": ("Annotator",),
    "questions.comparison": ("Change", "Comparison", "Difference", "compare"),
    "questions.dynamic": ("Dynamic", "Group", "dynamic_symbols"),
    "questions.listing": ("Listing",),
    "questions.listings": ("listed",),
    "questions.resolver": ("Answer", "Resolver"),
    "questions.virtual_processors": ("VirtualProcessor", "virtual_processors"),
}
"""Names of the package by the module that defines them; the imports above are the same for type checkers."""

_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}

__all__ = [
    "AddressSpace",
    "Annotator",
    "Answer",
    "Change",
    "Check",
    "Comparison",
    "CpuState",
    "Difference",
    "Dynamic",
    "Fetched",
    "Group",
    "Hints",
    "KallsiftError",
    "Kernel",
    "Listing",
    "Location",
    "Memory",
    "Outcome",
    "RecoveryError",
    "Resolver",
    "SourceError",
    "State",
    "Symbol",
    "SymbolTable",
    "TablePlace",
    "UnmappedError",
    "VirtualProcessor",
    "compare",
    "dynamic_symbols",
    "listed",
    "open",
    "recover",
    "recover_all",
    "recover_near",
    "virtual_processors",
]


if not TYPE_CHECKING:  # or else they would take every name for one of the package's

    def __getattr__(name: str) -> object:
        """Import the module that defines ``name``, and keep the name for next time (PEP 562)."""
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        return value


def __dir__() -> list[str]:
    """List every name of the package, imported or not."""
    return sorted(globals().keys() | _MODULE_OF.keys())
