"""Answer questions for a name or an address as the kernel itself does.

By name as ``kallsyms_lookup_name`` does: the first built-in symbol, else the first of the modules in the order of their
list, or, for ``module:name``, that module's. By address as ``kallsyms_lookup`` and ``sprint_symbol`` do
(kernel/kallsyms.c, kernel/module/kallsyms.c, include/linux/kallsyms.h).

One thing differs from kernels up to 6.19, which print wrong sizes in two cases: for data in modules, and for symbols in
another region of the module than the address. They take the end of the code for the end of everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from operator import index as as_index
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray

from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols, SymbolGroup
from kallsift.errors import UnmappedError
from kallsift.kallsyms.escapes import escaped
from kallsift.kallsyms.format.seqs_of_names import name_cut, read_order
from kallsift.kallsyms.symbol_table import Location, Symbol, SymbolTable
from kallsift.kernel.kernel import Kernel

NO_MODULES = frozenset(("bpf", "__builtin__ftrace", "__builtin__kprobes"))
"""Owners in ``/proc/kallsyms`` that are no modules."""

ALL_SYMBOLS = "_end"
"""A symbol that only kernels with CONFIG_KALLSYMS_ALL list."""

WHOLE_KERNEL = (("_stext", "_end"), ("__init_begin", "__init_end"))
"""Symbols around the kernel's addresses if all symbols are listed.

Source: ``is_kernel()`` in the kernel.
"""

TEXT_ALONE = (("_stext", "_etext"), ("_sinittext", "_einittext"))
"""Symbols around the kernel's addresses if only functions are listed."""

MODULE_NAME_SIZE = 64
"""Size of a module's name and a word, in bytes (MODULE_NAME_LEN).

The module's name in ``module:name`` must be shorter than this size less one word.
"""

MAX_ALIASES = 64
"""Highest number of symbols at one address that are compared with the regions."""

NO_ADDRESSES = np.frombuffer(b"aAnNuU?", np.uint8)
"""Type letters of modules' symbols that are no addresses in them.

They are per-CPU offsets and absolute values.
"""


@dataclass(frozen=True, repr=False)
class Answer:
    """The symbol that an address belongs to.

    Attributes:
        location: the symbol, the offset into it and its size.
        owner: the module's name; empty for the kernel itself, and for BPF, as the kernel prints it.
    """

    location: Location
    owner: str = ""

    def __str__(self) -> str:
        """Return the text that ``sprint_symbol`` writes, safe to print.

        An unknown size is left out.
        """
        return f"{self.location} [{escaped(self.owner)}]" if self.owner else str(self.location)

    def __repr__(self) -> str:
        return f"<Answer {self}>"

    @property
    def symbol(self) -> Symbol:
        """Return the symbol that the address belongs to."""
        return self.location.symbol


@dataclass(frozen=True, eq=False, repr=False)
class Resolver:
    """Answers from one kernel's symbols.

    Attributes:
        symbols: the built-in ones.
        dynamic: all others.
        cut: the text at which this kernel cuts names when it compares and prints them; empty if it does not.
    """

    symbols: SymbolTable
    dynamic: DynamicSymbols = field(default_factory=DynamicSymbols)
    cut: bytes = b""

    def __repr__(self) -> str:
        return f"<Resolver of {len(self.symbols):,} built-in symbols and {self.dynamic.symbol_count:,} others>"

    @classmethod
    def of(cls, kernel: Kernel, dynamic: DynamicSymbols | None = None) -> Resolver:
        """Return the resolver of a recovered kernel."""
        return cls(kernel.symbols, dynamic or DynamicSymbols(), _cut_of(kernel))

    def named(self, name: str) -> tuple[Symbol, ...]:
        """Return the built-in symbols that this kernel takes for a name, in its order."""
        text = name.encode("latin-1", "replace")
        if not self.cut:
            return self.symbols.all(name)
        found = set() if self.cut in text else set(self.symbols.beginning(text + self.cut).tolist())
        if self.cut == b"." or self.cut not in text:
            found |= {symbol.index for symbol in self.symbols.all(name)}
        return tuple(self.symbols.symbol(index) for index in sorted(found))

    def resolve(self, name: str) -> tuple[Symbol, str] | None:
        """Return the symbol that ``kallsyms_lookup_name`` finds, and its module's name.

        The module's name is "" for built-in symbols. The result is None if the kernel's function returns 0.

        Args:
            name: a name, or ``module:name``.
        """
        if found := self.named(name):
            return found[0], ""
        module, colon, own = name.partition(":")
        if colon and len(module) < MODULE_NAME_SIZE - self.symbols.word_size:
            groups = [group for group in self._modules if group.owner == module][:1]
        else:
            groups, own = list(self._modules), name
        for group in groups:
            for symbol in group.symbols.all(own):
                if symbol.type not in "uU":
                    if symbol.address:
                        return symbol, group.owner
                    break
        return None

    def lookup(self, what: str | SupportsIndex) -> Answer | None:
        """Return the answer to a name (`resolve`) or an address (`at`), or None.

        The answer to a name has offset 0.
        """
        if not isinstance(what, str):
            return self.at(as_index(what))
        found = self.resolve(what)
        if found is None:
            return None
        symbol, owner = found
        there = self.at(symbol.address)
        # what begins there ends there, whatever the first symbol at that address is called
        size = there.location.size if there is not None and not there.location.offset else None
        return Answer(Location(symbol, 0, size), owner)

    def at(self, address: int) -> Answer | None:
        """Return the answer of ``kallsyms_lookup`` for an address; None if it has no name.

        Of several symbols at one address, the first counts. Code that kprobes and ftrace made is listed by the kernel
        but not looked up; it is known at its first byte.
        """
        if not 0 <= address < 1 << 64:
            return None
        if self._is_kernel(address):
            location = self.symbols.at(address)
            if location is None:
                return None
            if location.size is None:
                # the last symbol ends where its section ends
                end = next((high for low, high in self._ranges if low <= address < high), None)
                location = Location(location.symbol, location.offset, end and end - location.symbol.address)
            return Answer(self._as_printed(location))
        return self._in_module(address) or self._elsewhere(address)

    def backtrace(self, address: int) -> Answer | None:
        """Return what a stack trace prints for a return address (``sprint_backtrace``).

        A return address belongs to the call before it.
        """
        before = self.at(address - 1)
        if before is None:
            return None
        found = before.location
        return Answer(Location(found.symbol, found.offset + 1, found.size), before.owner)

    @cached_property
    def _modules(self) -> tuple[SymbolGroup, ...]:
        return tuple(g for g in self.dynamic.groups if g.sizes is None and g.owner not in NO_MODULES)

    @cached_property
    def _ranges(self) -> tuple[tuple[int, int], ...]:
        """Bounds of the kernel's own symbols; empty if the table lacks the bounds."""
        every = self.symbols.find(ALL_SYMBOLS) is not None
        bounds = WHOLE_KERNEL if every else TEXT_ALONE
        found = [[self.symbols.find(name) for name in pair] for pair in bounds]
        return tuple(
            (self.symbols.symbol(low).address, self.symbols.symbol(high).address)
            for low, high in found
            if low is not None and high is not None
        )

    def _is_kernel(self, address: int) -> bool:
        if self._ranges:
            return any(low <= address < high for low, high in self._ranges)
        location = self.symbols.at(address)
        return location is not None and _bounded(location, 8 * self.symbols.word_size)

    def _in_module(self, address: int) -> Answer | None:
        """Return the nearest symbol at or below an address in the module that contains it.

        Its size ends at the next symbol or at the end of the region. Symbol and address must lie in the same region. If
        the regions are unknown, the address must be that of a symbol, or lie between two symbols of the same module.
        """
        addresses, owners = self._places
        after = int(np.searchsorted(addresses, np.uint64(address), side="right"))
        if not after:
            return None
        start = int(addresses[after - 1])
        first = int(np.searchsorted(addresses, np.uint64(start), side="left"))
        aliases = owners[first : min(after, first + MAX_ALIASES)].tolist()
        inside = (one for one in aliases if any(address in region for region in self._modules[one[0]].regions))
        number, index = next(inside, aliases[0])
        group = self._modules[number]
        ends = [int(addresses[after])] if after < len(addresses) and int(owners[after][0]) == number else []
        region = next((region for region in group.regions if address in region), None)
        if region is not None:
            if start not in region:
                return None
            ends.append(region.stop)
        elif len(group.regions) > 1 or any(start in known for known in group.regions):
            return None
        if not ends and address != start:
            return None
        size = min(ends) - start if ends else None
        return Answer(self._as_printed(Location(group.symbols.symbol(index), address - start, size)), group.owner)

    @cached_property
    def _places(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Addresses of modules' symbols, ascending, shape (n,), and their owners.

        The owners are the number of the module and the index in its table, shape (n, 2).
        """
        addresses, owners = [np.empty(0, np.uint64)], [np.empty((0, 2), np.int64)]
        for number, group in enumerate(self._modules):
            table = group.symbols
            kept = np.flatnonzero(~np.isin(table.types(), NO_ADDRESSES) & ~_labels(table))
            addresses.append(table.addresses[kept])
            owners.append(np.stack((np.full(len(kept), number), kept), axis=1))
        joined = np.concatenate(addresses)
        order = np.argsort(joined, kind="stable")
        return joined[order], np.concatenate(owners)[order]

    def _elsewhere(self, address: int) -> Answer | None:
        """Return an answer for code of BPF, ftrace and kprobes, and traced functions.

        A symbol with a size contains the address; one without must begin at it.
        """
        for group in self.dynamic.groups:
            starts = group.symbols.addresses
            if group.sizes is not None:
                inside = np.flatnonzero(np.uint64(address) - starts < group.sizes)
            elif group.owner in NO_MODULES:
                inside = np.flatnonzero(starts == np.uint64(address))
            else:
                continue
            if len(inside):
                index = int(inside[0])
                size = None if group.sizes is None else int(group.sizes[index])
                location = Location(group.symbols.symbol(index), address - int(starts[index]), size)
                return Answer(self._as_printed(location), "" if group.owner == "bpf" else group.owner)
        return None

    def _as_printed(self, location: Location) -> Location:
        name, symbol = location.symbol.name, location.symbol
        if self.cut and (short := name.partition(self.cut.decode())[0]) != name:
            symbol = Symbol(symbol.address, symbol.type, short, symbol.index)
        return Location(symbol, location.offset, location.size)


def _cut_of(kernel: Kernel) -> bytes:
    """Return the text at which a kernel cuts names; empty if it does not cut them.

    It is the text that explains the order of its seqs_of_names. Without that table (up to 6.1) only the code tells.
    From 5.13 on, kernels built with LTO cut at the first dot, and their names (``.llvm.``) show LTO.
    """
    place = next((table for table in kernel.tables if table.name == "seqs_of_names"), None)
    symbols = kernel.symbols
    if place is None:
        return b"." if b".llvm." in symbols.characters.tobytes() else b""
    try:
        data = kernel.memory.read(place.physical, place.size)
    except UnmappedError:
        return b""
    order = read_order(data, len(symbols), kernel.byte_order)
    return (order is not None and name_cut(order, symbols.characters, symbols.bounds)) or b""


def _labels(table: SymbolTable) -> NDArray[np.bool_]:
    """Mark compilers' labels, which the kernel skips: ``$``, ``.L``, ``L0``."""
    ends = table.bounds[1:]
    last = max(0, len(table.characters) - 1)
    first, second = (table.characters[np.minimum(table.bounds[:-1] + place, last)] for place in (1, 2))
    pairs = ((first == ord(".")) & (second == ord("L"))) | ((first == ord("L")) & (second == ord("0")))
    marked: NDArray[np.bool_] = (first == ord("$")) | (pairs & (ends - table.bounds[:-1] > 2))
    return marked


def _bounded(location: Location, bits: int) -> bool:
    """Tell whether a symbol contains an address if the kernel's bounds are unknown.

    The last symbol contains its own address only. The same holds for a symbol below the kernel's half of the address
    space (the last per-CPU offset) whose next symbol is in that half: the range between the two belongs to neither.
    """
    start, half = location.symbol.address, 1 << (bits - 1)
    open_ended = location.size is None or start < half <= start + location.size
    return location.offset == 0 or not open_ended
