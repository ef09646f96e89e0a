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
