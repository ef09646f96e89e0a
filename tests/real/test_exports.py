"""Exports of real kernels: Debian's ``Module.symvers`` of that kernel, and the guest's own table, say the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from kallsift import Kernel
from kallsift.kernel.access.virtual_memory import virtual_memory
from kallsift.modules.exports.exports import KERNEL, Exports, exports
from kallsift.modules.exports.kernel import kernel_arrays
from kallsift.modules.exports.ksymtab_entries import EXPORT_SYMBOL
from kallsift.output.text.exports import symvers_lines
from tests.lab import Capture
from tests.lab.errors import LabError
from tests.lab.symvers import module_symvers
from tests.real.conftest import GUESTS, Taken
from tests.real.listed import running

SOURCES = ("memory.elf", "vmlinuz")


@cache
def exports_of(path: Path) -> Exports:
    return exports(running(path))


def symvers(capture: Capture) -> dict[str, Counter[str]]:
    """The lines of the kernel's Module.symvers by owner, which is a module's name instead of its path."""
    try:
        text = module_symvers(capture).read_text()
    except LabError as error:
        pytest.skip(f"no headers package of {capture.name}: {error.message}")
    found: dict[str, Counter[str]] = {}
    for line in text.splitlines():
        crc, name, path, macro, namespace = line.split("\t")
        owner = path.rpartition("/")[2].replace("-", "_")
        found.setdefault(owner, Counter())["\t".join((crc, name, owner, macro, namespace))] += 1
    return found


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("guest", GUESTS)
def test_module_symvers_says_the_same(taken: Taken, guest: str, source: str) -> None:
    """Of the kernel and of every loaded module: each symbol, its checksum, its macro and its namespace."""
    capture = taken(guest)
    truth = symvers(capture)
    found = exports_of(capture.folder / source)
    assert found.missing == ()
    ours: dict[str, Counter[str]] = {}
    for export, line in zip(found, symvers_lines(found), strict=True):
        ours.setdefault(export.owner, Counter())[line.removesuffix("\n")] += 1
    loaded = {module.name for module in found.modules}
    assert bool(loaded) is (source == "memory.elf")
    for owner in (KERNEL, *loaded):
        assert ours.get(owner, Counter()) == truth.get(owner, Counter())
    assert len(truth[KERNEL]) > 5000


@pytest.mark.parametrize("guest", GUESTS)
def test_addresses_are_those_of_the_guests_table(taken: Taken, guest: str) -> None:
    """Each export has the name of a symbol at its address; a module's for everybody has an upper-case letter."""
    capture = taken(guest)
    lines = [line.split() for line in capture.truth("kallsyms").decode("latin-1").splitlines()]
    table = {(int(words[0], 16), words[2], words[3][1:-1] if len(words) > 3 else KERNEL): words[1] for words in lines}
    named = {name for _, name, _ in table}
    found = exports_of(capture.dump("elf"))
    listed = [export for export in found if export.name in named]
    assert len(listed) > 0.6 * len(found)
    for export in listed:
        letter = table[export.address or 0, export.name, export.owner]
        if export.owner != KERNEL and export.macro == EXPORT_SYMBOL:
            assert letter.isupper()


@pytest.mark.parametrize("guest", GUESTS)
def test_the_arrays_are_found_without_the_symbols_that_bound_them(taken: Taken, guest: str) -> None:
    """As in tables that list text alone, up to 6.11; those of kernels with flags always list the bounds."""
    kernel = running(taken(guest).dump("elf"))
    seen = virtual_memory(kernel)
    wanted, found = kernel_arrays(kernel, seen), kernel_arrays(without(kernel, "__start___ksymtab"), seen)
    if any(array.flags for array in wanted.arrays):
        assert [(one.start, one.count) for one in found.arrays] == [(one.start, one.count) for one in wanted.arrays]
    else:
        assert found == wanted


def without(kernel: Kernel, name: str) -> Kernel:
    """The kernel as if its table had another symbol instead of this one; unchanged if it has none of the name."""
    if name not in kernel.symbols:
        return kernel
    characters = kernel.symbols.characters.copy()
    characters[int(kernel.symbols.bounds[kernel.symbols[name].index]) + 1] = ord("x")
    return replace(kernel, symbols=replace(kernel.symbols, characters=characters))
