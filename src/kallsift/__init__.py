"""kallsift recovers the Linux kernel's symbol table from bytes that nobody prepared.

import kallsift
with kallsift.open("memory.lime") as memory:
    kernel = kallsift.recover(memory)
    kernel.symbols["init_task"].address
"""

from __future__ import annotations

from kallsift.errors import KallsiftError, RecoveryError, SourceError, UnmappedError
from kallsift.image.sources import open
from kallsift.kallsyms.evidence import Check, Outcome
from kallsift.kallsyms.table import Location, Symbol, SymbolTable
from kallsift.kernel.live import recover, recover_all
from kallsift.kernel.model import Kernel, State, TablePlace
from kallsift.kernel.near import recover_near
from kallsift.kernel.virtual_processors import VirtualProcessor, virtual_processors
from kallsift.memory.fetched import Fetched
from kallsift.memory.model import AddressSpace, CpuState, Hints, Memory

__version__ = "0.1.0"

__all__ = [
    "AddressSpace",
    "Check",
    "CpuState",
    "Fetched",
    "Hints",
    "KallsiftError",
    "Kernel",
    "Location",
    "Memory",
    "Outcome",
    "RecoveryError",
    "SourceError",
    "State",
    "Symbol",
    "SymbolTable",
    "TablePlace",
    "UnmappedError",
    "VirtualProcessor",
    "open",
    "recover",
    "recover_all",
    "recover_near",
    "virtual_processors",
]
