"""Read tables of pointers to kernel functions, and tell where each entry leads.

Examples are ``sys_call_table`` and the interrupt table. A kernel's own tables lead into its text, to the beginnings of
functions. An entry that leads elsewhere was changed later: it leads into a module, into memory that no module owns, or
nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols, dynamic_symbols
from kallsift.analysis.pointer_tables.syscall_search import find_system_calls
from kallsift.analysis.symbol_lookup import Answer, Resolver
from kallsift.arch import arm64, x86
from kallsift.errors import KallsiftError, UnmappedError
from kallsift.kallsyms.escapes import escaped
from kallsift.kernel.access.image_sections import address_of
from kallsift.kernel.access.virtual_memory import VirtualMemory, virtual_memory
from kallsift.kernel.kernel import Kernel

SYSTEM_CALLS, GATES, VECTORS = "sys_call_table", "idt_table", "vectors"
"""Tables that are more than an array of pointers, or need no symbol to be found."""

TEXT, INITIAL_TEXT = ("_stext", "_etext"), ("_sinittext", "_einittext")
"""Symbols around the kernel's functions, and around those that run only at boot."""

INITIAL = ("__init_begin", "__init_end")
"""Symbols around everything that is needed only at boot."""

MAX_ENTRIES = 1 << 16

THUMB = 1
"""Bit that is set in pointers to Thumb code."""


@dataclass(frozen=True, repr=False)
class Entry:
    """One entry of a table.

    Attributes:
        number: its index.
        address: address of the entry.
        target: address that it leads to; 0 for nowhere.
        symbol: symbol of that address, as the kernel writes it; None if unknown.
        fault: reason why it cannot be the kernel's own; empty if it can.
    """

    number: int
    address: int
    target: int
    symbol: str | None
    fault: str = ""

    def __repr__(self) -> str:
        fault = f", {self.fault}" if self.fault else ""
        return f"<Entry {self.number} at {self.address:#x}: {self.target:#x} {self.symbol or '?'}{fault}>"


@dataclass(frozen=True, repr=False)
class PointerTable:
    """A table of pointers to functions.

    Attributes:
        name: name that was asked for.
        entries: all of them.
        evidence: source of its bounds.
        missing: parts of the modules that could not be read, if entries lead out of the text; one line each.
    """

    name: str
    entries: tuple[Entry, ...]
    evidence: str
    missing: tuple[str, ...] = ()

    def __repr__(self) -> str:
        marked = sum(bool(entry.fault) for entry in self.entries)
        return f"<PointerTable {escaped(self.name)}: {len(self.entries):,} entries, {marked:,} of them marked>"

    @property
    def clean(self) -> bool:
        """True if all entries can be the kernel's own."""
        return not any(entry.fault for entry in self.entries)


@dataclass(frozen=True, eq=False)
class _FoundTable:
    """A table as it stands in memory.

    Attributes:
        places: address of each entry, shape (n,).
        targets: address that each leads to, shape (n,).
        evidence: source of its bounds.
        beginnings: whether targets must be beginnings of functions.
        initial: whether targets may be in the code that runs only at boot.
    """

    places: NDArray[np.uint64]
    targets: NDArray[np.uint64]
    evidence: str
    beginnings: bool = True
    initial: bool = False


def pointer_table(kernel: Kernel, name: str, known: Callable[[], DynamicSymbols] | None = None) -> PointerTable:
    """Read the table of a name: a well-known one, or that at any symbol.

    A table at a symbol has entries of one word each and extends to the next symbol. ``idt_table`` on x86 has gates.
    ``vectors`` on arm64 has code, whose branches count. ``sys_call_table`` is found by its content if no symbol names
    it, and ``idt_table`` by a processor's register.

    Args:
        kernel: the kernel.
        name: name of the table.
        known: returns the symbols of modules and the like, if any entry leads there; by default they are read then.

    Raises:
        KallsiftError: if there is no such table, it cannot be read, or the kernel does not run.
    """
    memory = virtual_memory(kernel)
    try:
        found = _found(kernel, memory, name)
    except UnmappedError as error:
        raise KallsiftError(f"the table {name} cannot be read: {error}") from error
    inside, own = _judged(kernel, found)
    dynamic = DynamicSymbols() if own.all() else dynamic_symbols(kernel) if known is None else known()
    entries = tuple(_entries(kernel, memory, found, inside, own, dynamic))
    return PointerTable(name, entries, found.evidence, dynamic.missing)


def _found(kernel: Kernel, memory: VirtualMemory, name: str) -> _FoundTable:
    x86_like = (kernel.architecture or "").startswith("x86")
    bounds = _bounds(kernel, name)
    if name == GATES and x86_like:
        return _gates(kernel, memory, bounds)
    if bounds is None:
        if name != SYSTEM_CALLS:
            raise KallsiftError(f"there is no symbol called {name}; name the symbol that the table begins at")
        start, end, evidence = find_system_calls(kernel, memory)
    else:
        start, end = bounds
        evidence = f"from the symbol {name} to the next symbol"
    if name == VECTORS and kernel.architecture == "arm64":
        places, targets = arm64.vector_branches(memory.read(start, min(end - start, arm64.VECTORS_SIZE)), start)
        return _FoundTable(places, targets, f"{evidence}: the branch targets of each vector's code", beginnings=False)
    found = _pointers(kernel, memory, start, end, evidence)
    text = _between(kernel, TEXT)
    # some kernels have tables in their text, so a symbol there can be a table or code
    if text and text[0] <= start < text[1] and not np.isin(_addresses(kernel, found), _functions(kernel)).any():
        raise KallsiftError(f"{name} is code, not a table: none of its words points to a function")
    return found


def _bounds(kernel: Kernel, name: str) -> tuple[int, int] | None:
    """Return the address of the first symbol of a name, and the next symbol's address.

    None if there is no such symbol.

    Raises:
        KallsiftError: if no symbol with a higher address follows.
    """
    index = kernel.symbols.find(name)
    if index is None:
        return None
    location = kernel.symbols.at(kernel.symbols.symbol(index).address)
    if location is None or not location.size:
        raise KallsiftError(f"the end of {name} is unknown: no symbol follows it")
    return int(location.symbol.address), int(location.symbol.address) + location.size


def _pointers(kernel: Kernel, memory: VirtualMemory, start: int, end: int, evidence: str) -> _FoundTable:
    """Read entries of one word each, or of half a word, as s390x had them.

    The size with more pointers to functions is taken; the word, if both have equally many.
    """
    best: tuple[int, _FoundTable] | None = None
    functions = _functions(kernel)
    for size in sorted({memory.words.size, 4}, reverse=True):
        count = min((end - start) // size, MAX_ENTRIES)
        targets = memory.read(start, count * size).view(f"{memory.words.byte_order}u{size}").astype(np.uint64)
        # words behind the last entry are padding before the next symbol, or other data, and lead nowhere
        leads = np.flatnonzero((targets != 0) & memory.physical(targets)[1])
        targets = targets[: int(leads[-1]) + 1 if len(leads) else 0]
        places = np.uint64(start) + np.arange(len(targets), dtype=np.uint64) * np.uint64(size)
        hits = int(np.isin(targets, functions).sum())
        if best is None or hits > best[0]:
            best = hits, _FoundTable(places, targets, evidence)
    assert best is not None
    return best[1]


def _gates(kernel: Kernel, memory: VirtualMemory, bounds: tuple[int, int] | None) -> _FoundTable:
    """Read the gates of the interrupt table.

    Its symbol or a processor's register gives its address.
    """
    size = x86.gate_size(memory.words.size)
    if bounds is None:
        bases = {cpu.registers.get("idt_base", 0) for cpu in kernel.memory.hints.cpus} - {0}
        if not bases:
            raise KallsiftError(
                "neither a symbol nor a register gives the address of the interrupt table; give it with --idt"
            )
        start, end = min(bases), min(bases) + size * x86.MAX_GATES
        evidence = f"no symbol names it; a processor's IDT register points to {start:#x}"
    else:
        start, end = bounds
        evidence = f"from the symbol {GATES}"
    count = min((end - start) // size, x86.MAX_GATES)
    present, handlers = x86.gates(memory.read(start, count * size), memory.words.size)
    places = np.uint64(start) + np.arange(count, dtype=np.uint64) * np.uint64(size)
    return _FoundTable(places, np.where(present, handlers, np.uint64(0)), evidence, beginnings=False, initial=True)


def _between(kernel: Kernel, names: tuple[str, str]) -> tuple[int, int] | None:
    """Return the addresses of two symbols; None if one is missing."""
    low, high = (address_of(kernel, name) for name in names)
    return None if low is None or high is None else (low, high)


def _functions(kernel: Kernel, names: tuple[str, str] = TEXT) -> NDArray[np.uint64]:
    """Return the addresses of symbols between two others, the second one included.

    Raises:
        KallsiftError: if one of the two is missing, or nothing is between them.
    """
    bounds = _between(kernel, names)
    if bounds is None or bounds[0] >= bounds[1]:
        raise KallsiftError(
            f"the symbols {names[0]} and {names[1]}, which enclose the kernel's functions, are not both known"
        )
    addresses = kernel.symbols.addresses
    found: NDArray[np.uint64] = addresses[(addresses >= np.uint64(bounds[0])) & (addresses < np.uint64(bounds[1]))]
    return np.append(found, np.uint64(bounds[1]))


def _judged(kernel: Kernel, found: _FoundTable) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Mark the targets in the text, and those that can be the kernel's own.

    Both arrays have shape (n,). An entry that leads nowhere can be the kernel's own.
    """
    functions = _functions(kernel)
    targets = _addresses(kernel, found)
    inside = (targets >= functions[0]) & (targets < functions[-1])
    own = inside & (np.isin(targets, functions[:-1]) | (not found.beginnings))
    initial = _between(kernel, INITIAL)
    if found.initial or (initial and len(found.places) and initial[0] <= int(found.places[0]) < initial[1]):
        early = _functions(kernel, INITIAL_TEXT)
        own |= (targets >= early[0]) & (targets < early[-1])
    return inside, own | (found.targets == 0)


def _addresses(kernel: Kernel, found: _FoundTable) -> NDArray[np.uint64]:
    """Return the targets as addresses of instructions."""
    return found.targets & ~np.uint64(THUMB) if kernel.architecture == "arm" else found.targets


def _entries(
    kernel: Kernel,
    memory: VirtualMemory,
    found: _FoundTable,
    inside: NDArray[np.bool_],
    own: NDArray[np.bool_],
    dynamic: DynamicSymbols,
) -> Iterator[Entry]:
    """Yield the entries, each with the symbol that it leads to."""
    resolver = Resolver.of(kernel, dynamic)
    columns = (found.places, found.targets, _addresses(kernel, found), inside, own)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for number, (place, stored, target, in_text, right) in enumerate(rows):
        answer = resolver.at(target) if stored else None
        fault = ""
        if not right:
            fault = "not at the beginning of a function" if in_text else _elsewhere(memory, target, answer)
        yield Entry(number, place, stored, None if answer is None else str(answer), fault)


def _elsewhere(memory: VirtualMemory, target: int, answer: Answer | None) -> str:
    """Return why a target outside of the text cannot be the kernel's own."""
    if answer is not None:
        return "in a module" if answer.owner else "outside of the kernel's text"
    mapped = bool(memory.physical(np.array([target], np.uint64))[1][0])
    return "in memory that belongs to no listed module" if mapped else "not mapped"
