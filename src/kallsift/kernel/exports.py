"""Every symbol that the kernel and its loaded modules export: who, under which condition, with which checksum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from kallsift.errors import KallsiftError
from kallsift.kernel.export_entries import Export, read_array
from kallsift.kernel.kernel_exports import ExportsError, kernel_arrays
from kallsift.kernel.model import Kernel, State
from kallsift.kernel.module_exports import module_arrays
from kallsift.kernel.modules import modules
from kallsift.kernel.virtual import image_memory, virtual_memory

KERNEL = "vmlinux"
"""The owner of what the kernel itself exports, as Module.symvers calls it."""


@dataclass(frozen=True)
class Loaded:
    """A module that is there: its name, and its state as ``/proc/modules`` calls it."""

    name: str
    state: str


@dataclass(frozen=True, eq=False)
class Exports:
    """What a kernel and its modules export.

    Attributes:
        symbols: in the order in which the kernel looks through them: its own, then each module's.
        modules: the loaded modules, in the order of the kernel's list; none in an image.
        checksums: whether the kernel keeps checksums; None if that is not known.
        missing: what could not be read, one line each.
    """

    symbols: tuple[Export, ...]
    modules: tuple[Loaded, ...] = ()
    checksums: bool | None = None
    missing: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.symbols)

    def __iter__(self) -> Iterator[Export]:
        return iter(self.symbols)

    def of(self, owner: str) -> Exports:
        """What one of them exports, ``vmlinux`` or a module."""
        return replace(self, symbols=tuple(export for export in self.symbols if export.owner == owner))

    def all(self, name: str) -> tuple[Export, ...]:
        """Every export of that name, in the order in which the kernel finds them; empty if there is none."""
        return self._by_name.get(name, ())

    @cached_property
    def _by_name(self) -> dict[str, tuple[Export, ...]]:
        found: dict[str, tuple[Export, ...]] = {}
        for export in self.symbols:
            found[export.name] = (*found.get(export.name, ()), export)
        return found


def exports(kernel: Kernel) -> Exports:
    """All that a kernel exports and, if it runs, its modules.

    Raises:
        ExportsError: if nothing at all is found; says why.
    """
    runs = kernel.memory.image is None and kernel.state in (State.RUNNING, State.GUEST)
    memory = virtual_memory(kernel) if runs else image_memory(kernel)
    missing: list[str] = []
    own = None
    symbols: list[Export] = []
    try:
        own = kernel_arrays(kernel, memory)
    except ExportsError as error:
        missing.append(f"{KERNEL}: {error}")
    else:
        missing += (f"{KERNEL}: {line}" for line in own.missing)
        for array in own.arrays:
            found, lost = read_array(memory, array, KERNEL, own.checksums)
            symbols += found if runs or array.form.relative else (_addressed(kernel, export) for export in found)
            if lost:
                missing.append(f"{KERNEL}: {lost:,} of {array.count:,} entries at {array.start:#x} cannot be read")
    loaded: list[Loaded] = []
    if runs:
        try:
            listed = modules(kernel)
            loaded += (Loaded(module.name, module.state) for module in listed)
            found_arrays = module_arrays(memory, np.array([module.address for module in listed], np.uint64))
            checksums = own.checksums if own else None
            for module, arrays in zip(listed, found_arrays, strict=True):
                for array in arrays:
                    found, lost = read_array(memory, array, module.name, checksums)
                    symbols += found
                    if lost:
                        missing.append(f"{module.name}: {lost:,} of {array.count:,} entries cannot be read")
        except KallsiftError as error:
            missing.append(f"modules: {error}")
    if not symbols:
        raise ExportsError("; ".join(missing) or "the kernel exports nothing: it was built without modules")
    known = None if own is None or own.missing else own.checksums is not None
    return Exports(tuple(symbols), tuple(loaded), known, tuple(missing))


def _addressed(kernel: Kernel, export: Export) -> Export:
    """An image's export; where its loader has yet to fill in the address, with that of the one symbol of its name."""
    if export.address:
        return export
    named = kernel.symbols.all(export.name)
    return replace(export, address=named[0].address if len(named) == 1 else None)
