"""Offer all queries about a kernel as attributes and methods of the kernel.

The queries are answered by layers above the kernel's own (modules, analysis, output). So this module is above them all,
and imports each at first use: a plain recovery loads none of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeAlias, TypeVar

from kallsift.errors import KallsiftError
from kallsift.kernel import kernel as kernels
from kallsift.kernel.recovery import from_address
from kallsift.kernel.recovery import recover as recovery
from kallsift.kernel.recovery.search import Progress
from kallsift.memory.memory import Memory
from kallsift.memory.on_demand import OnDemandMemory

if TYPE_CHECKING:
    from kallsift.analysis.address_space.layout import Layout
    from kallsift.analysis.comparison import Comparison
    from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols
    from kallsift.analysis.hypervisor.vcpus import VirtualProcessor
    from kallsift.analysis.listings.listing import Listing
    from kallsift.analysis.pointer_tables.pointer_tables import PointerTable
    from kallsift.analysis.symbol_lookup import Answer, Resolver
    from kallsift.kernel.access.virtual_memory import VirtualMemory
    from kallsift.modules.exports.exports import Exports
    from kallsift.modules.insmod.check import Verdict
    from kallsift.modules.insmod.kernel_config import Loader
    from kallsift.modules.inventory import Inventory
    from kallsift.types.types import Types

Known = TypeVar("Known")


@dataclass(frozen=True, eq=False, repr=False)
class KernelFacade(kernels.Kernel):
    """A kernel recovered from a source, with all queries about it.

    Its own fields are those of `kallsift.kernel.kernel.Kernel`. They, and results of queries,
    outlive the source. A property is computed at first use, then kept. They are not cached properties, because a
    prompt evaluates those to complete a name.
    """

    _known: dict[str, Any] = field(default_factory=dict, init=False)

    @classmethod
    def of(cls, found: kernels.Kernel) -> KernelFacade:
        """Return a recovered kernel with the queries."""
        return cls(**{each.name: getattr(found, each.name) for each in fields(found) if each.init})

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start without cached results.

        They read further in the memory, which is not pickled.
        """
        super().__setstate__(state | {"_known": {}})

    @property
    def modules(self) -> Inventory:
        """All loaded modules, also hidden ones: ``kernel.modules["xfs"].symbols``.

        Raises:
            KallsiftError: if the kernel does not run, or its list of modules is broken or cannot be found.
        """
        from kallsift.modules.inventory import inventory

        return self._once("modules", lambda: inventory(self))

    @property
    def exports(self) -> Exports:
        """Exports of the kernel and its modules: ``kernel.exports.all("printk")``.

        Raises:
            KallsiftError: if nothing at all is found.
        """
        from kallsift.modules.exports.exports import exports

        return self._once("exports", lambda: exports(self))

    @property
    def types(self) -> Types:
        """Its own types (BTF): ``kernel.types["task_struct"]["pid"].offset``.

        Raises:
            KallsiftError: if it carries none, or they cannot be read.
        """
        from kallsift.types.find import kernel_types

        return self._once("types", lambda: kernel_types(self, self._virtual))

    @property
    def layout(self) -> Layout:
        """The regions of its address space: ``kernel.layout.at(0xffff888000000000)``.

        Raises:
            KallsiftError: if neither its symbols nor a page table give a region.
        """
        from kallsift.analysis.address_space.layout import layout

        return self._once("layout", lambda: layout(self))

    @property
    def dynamic(self) -> DynamicSymbols:
        """Other lines of ``/proc/kallsyms``: of modules, BPF, ftrace and kprobes.

        Nothing for images and copies, where nothing runs. ``kernel.dynamic.missing`` says what could not be read.
        """
        from kallsift.analysis.dynamic.dynamic_symbols import dynamic_symbols

        return self._once("dynamic", lambda: dynamic_symbols(self))

    @property
    def resolver(self) -> Resolver:
        """Names and addresses as the kernel itself looks them up, its modules included."""
        from kallsift.analysis.symbol_lookup import Resolver

        return self._once("resolver", lambda: Resolver.of(self, self.dynamic))

    @property
    def virtual_processors(self) -> tuple[VirtualProcessor, ...]:
        """The processors of its virtual machines, found in the hypervisor's memory.

        Raises:
            KallsiftError: if it does not run.
        """
        from kallsift.analysis.hypervisor.vcpus import virtual_processors

        return self._once("virtual_processors", lambda: virtual_processors(self))

    def lookup(self, what: str | SupportsIndex) -> Answer | None:
        """Look up a name, ``module:name`` or an address; None if it is unknown.

        A name gives what ``kallsyms_lookup_name`` returns; all built-in symbols of a name are in ``symbols.all()``.
        """
        return self.resolver.lookup(what)

    def read(self, virt: int, size: int) -> bytes:
        """Copy bytes of its virtual memory; for an image, at link addresses.

        Raises:
            UnmappedError: if any byte is not mapped, or not in the source, or there are too many of them.
            KallsiftError: if nothing tells how its memory is mapped.
        """
        return self._virtual.read(virt, size).tobytes()

    def check(self, ko: str | os.PathLike[str]) -> Verdict:
        """Check whether it would load a module: ``kernel.check("driver.ko").loads``.

        Raises:
            KallsiftError: if nothing is found that the kernel exports, or the file cannot be read.
        """
        from kallsift.modules.insmod.check import check_file

        return check_file(self._loader, Path(ko))[1]

    def symbolize(self, log: str) -> str:
        """Return a log with the symbol of each address; for streams use an `Annotator`."""
        from kallsift.output.text.symbolize import Annotator

        annotator = Annotator(self.resolver)
        lines = log.encode("utf-8", "surrogateescape").splitlines(keepends=True)
        return b"".join(map(annotator.line, lines)).decode("utf-8", "surrogateescape")

    def pointer_table(self, name: str) -> PointerTable:
        """Read a table of pointers to functions, and check each entry.

        Raises:
            KallsiftError: if there is no such table, it cannot be read, or the kernel does not run.
        """
        from kallsift.analysis.pointer_tables.pointer_tables import pointer_table

        return self._once(f"table {name}", lambda: pointer_table(self, name, lambda: self.dynamic))

    def compare(self, other: KernelFacade | Listing) -> Comparison:
        """Compare its symbols with another kernel's or a saved list's (`kallsift.listed`).

        Raises:
            TypeError: if the other is neither, as None, which `kallsift.listed` returns for files that list nothing.
        """
        from kallsift.analysis.comparison import compare
        from kallsift.analysis.listings.listing import Listing

        after = other._listing if isinstance(other, KernelFacade) else other
        if not isinstance(after, Listing):
            raise TypeError(f"compare() takes a Kernel or a Listing, not {type(other).__name__}")
        return compare(self._listing, after)

    @property
    def _listing(self) -> Listing:
        from kallsift.analysis.listings.listing import Listing

        return Listing(self.symbols, self.dynamic)

    @property
    def _loader(self) -> Loader:
        from kallsift.modules.insmod.kernel_config import loader

        return self._once("loader", lambda: loader(self, self.exports))

    @property
    def _virtual(self) -> VirtualMemory:
        from kallsift.kernel.access.virtual_memory import readable_memory

        return self._once("virtual", lambda: readable_memory(self))

    def _once(self, name: str, find: Callable[[], Known]) -> Known:
        """Return what was found out under a name, or find it out now.

        Raises:
            KallsiftError: if it has to be read from bytes that were left out of a pickle.
        """
        if name not in self._known:
            if not self.memory.segments and self.memory.fetched is None:
                raise KallsiftError(f"{self.memory.source}: {self.memory.notes[-1]}")
            self._known[name] = find()
        known: Known = self._known[name]
        return known


def recover(memory: Memory, *, progress: Progress | None = None) -> KernelFacade:
    """Recover the best kernel of a source; ``kernel.proven`` tells if it is proven.

    Args:
        memory: what `kallsift.open` returned.
        progress: called with what is being done, how much of it is done, and how much there is.

    Raises:
        RecoveryError: if no table could be recovered; names the step that failed.
        TypeError: if ``memory`` is none, but the name of a file, say.
    """
    return KernelFacade.of(recovery.recover(memory, progress=progress))


def recover_all(memory: Memory, *, progress: Progress | None = None) -> tuple[KernelFacade, ...]:
    """Recover every kernel of a source, the best one first.

    A source that reads on request has one: the running kernel.

    Raises:
        RecoveryError: as `recover`.
        TypeError: as `recover`.
    """
    return tuple(map(KernelFacade.of, recovery.recover_all(memory, progress=progress)))


def recover_from_address(
    fetched: OnDemandMemory, *addresses: int, widest: int = from_address.REACHES[-1], progress: Progress | None = None
) -> KernelFacade:
    """Recover the kernel around addresses in its text, reading memory on demand.

    Args:
        fetched: virtual memory that a function of yours reads.
        addresses: to start from, beside those that the registers in ``fetched.hints`` give.
        widest: bytes around the token table that may be read at most.
        progress: as `recover`.

    Raises:
        RecoveryError: if none of the addresses leads to a table that could be recovered.
    """
    return KernelFacade.of(from_address.recover_from_address(fetched, *addresses, widest=widest, progress=progress))


Kernel: TypeAlias = KernelFacade
"""The name by which the package exports it."""
