"""List all symbols of ``/proc/kallsyms`` behind the built-in table, in its order.

The order is that of kernel/kallsyms.c: modules; traced functions of modules whose initial code is freed; trampolines of
ftrace; programs and trampolines of BPF; pages with instructions that kprobes replaced. Parts that cannot be read are
named, and never left out silently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.analysis.dynamic.bpf import bpf_programs
from kallsift.analysis.dynamic.ftrace import traced_functions, trampolines
from kallsift.analysis.dynamic.kprobes import kprobe_pages
from kallsift.analysis.listings.owned_lines import OwnedLines
from kallsift.errors import KallsiftError
from kallsift.kallsyms.escapes import escaped
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.access.generated_code import GeneratedCode
from kallsift.kernel.access.virtual_memory import VirtualMemory, virtual_memory
from kallsift.kernel.kernel import Kernel
from kallsift.modules.module_list import Module, modules
from kallsift.modules.struct_module import structures_at


@dataclass(frozen=True, eq=False, repr=False)
class SymbolGroup:
    """Symbols of one owner.

    Attributes:
        owner: the text that ``/proc/kallsyms`` writes in brackets.
        symbols: in the order in which it prints them.
        regions: memory of a module, its code first; if that is the only region, its data can lie anywhere else.
        sizes: size of each symbol in bytes, shape (n,), uint64; None if the kernel stores no sizes.
    """

    owner: str
    symbols: SymbolTable
    regions: tuple[range, ...] = ()
    sizes: NDArray[np.uint64] | None = None

    def __repr__(self) -> str:
        return f"<SymbolGroup {escaped(self.owner)}: {len(self.symbols):,} symbols>"


@dataclass(frozen=True, eq=False, repr=False)
class DynamicSymbols:
    """All symbols except the built-in ones.

    Attributes:
        groups: in the kernel's order.
        missing: parts that could not be read, one line each.
    """

    groups: tuple[SymbolGroup, ...] = ()
    missing: tuple[str, ...] = ()

    def __repr__(self) -> str:
        lacking = f", {len(self.missing)} incomplete" if self.missing else ""
        return f"<DynamicSymbols: {self.symbol_count:,} symbols in {len(self.groups)} groups{lacking}>"

    @property
    def symbol_count(self) -> int:
        """Number of symbols in all groups."""
        return sum(len(group.symbols) for group in self.groups)


def dynamic_symbols(kernel: Kernel, *, with_regions: bool = True) -> DynamicSymbols:
    """Return the symbols that a running kernel has beside its built-in ones.

    Images and copies of a kernel have none, because nothing runs there.

    Args:
        kernel: the kernel.
        with_regions: whether to find the memory regions of modules; for that the kernel's types are read.
    """
    if not kernel.has_memory:
        return DynamicSymbols()
    groups: list[SymbolGroup] = []
    missing: list[str] = []
    try:
        memory = virtual_memory(kernel)
    except KallsiftError as error:
        return DynamicSymbols((), (f"all but the built-in symbols: {error}",))
    found: tuple[Module, ...] = ()
    try:
        listed = modules(kernel)
    except KallsiftError as error:
        missing.append(f"modules: {error}")
    else:
        found = listed.modules
        missing += (f"modules: {line}" for line in listed.missing)
    regions = _regions(kernel, memory, found) if with_regions else {}
    groups += (
        SymbolGroup(module.name, module.symbols, regions.get(module.address, ()))
        for module in found
        if module.symbols is not None
    )
    functions = [module.symbols.addresses for module in found if module.symbols is not None]
    code = GeneratedCode(kernel, memory, np.concatenate([np.empty(0, np.uint64), *functions]))
    owners = np.array(sorted(module.address for module in found), np.uint64)
    sources: tuple[tuple[str, Callable[[], Iterator[OwnedLines | str]]], ...] = (
        ("functions of modules that were traced", lambda: traced_functions(code, owners)),
        ("trampolines of ftrace", lambda: trampolines(code)),
        ("BPF programs", lambda: bpf_programs(code)),
        ("pages of kprobes", lambda: kprobe_pages(code)),
    )
    for name, source in sources:
        try:
            for part in source():
                if isinstance(part, OwnedLines):
                    groups.append(SymbolGroup(part.owner, part.table(memory.words.size), sizes=part.sizes))
                else:
                    missing.append(f"{name}: {part}")
        except KallsiftError as error:
            missing.append(f"{name}: {error}")
    return DynamicSymbols(tuple(groups), tuple(missing))


def _regions(kernel: Kernel, memory: VirtualMemory, found: Sequence[Module]) -> dict[int, tuple[range, ...]]:
    """Return the memory regions of modules, by the addresses of their structures.

    The code that reads them is imported here, because other callers do not need it.
    """
    from kallsift.modules.field_inference import region_places
    from kallsift.modules.memory_regions import bounds

    addresses = [module.address for module in found if module.symbols is not None]
    places = region_places(kernel, memory, structures_at(memory, np.array(addresses, np.uint64)))
    return {address: bounds(memory, address, places) for address in addresses}
