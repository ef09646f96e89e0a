"""Modules: as the guest's own /proc/modules and /sys/module have them, and those that somebody took out of the list."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import kallsift
from kallsift import Kernel
from kallsift.analysis.dynamic.dynamic_symbols import dynamic_symbols
from kallsift.kernel.access.virtual_memory import virtual_memory
from kallsift.modules.field_inference import infer_layout
from kallsift.modules.field_offsets import ModuleLayout, layout_from_btf
from kallsift.modules.hidden_modules import CROSS_VIEWS as VIEW_FINDERS
from kallsift.modules.inventory import Inventory, LoadedModule, inventory
from kallsift.modules.module_list import listed_structures
from kallsift.output.symbols.kallsyms import kallsyms_text
from kallsift.output.text.modules import module_table, modules_document, section_lines
from tests.lab import Capture, load_guests
from tests.real.conftest import GUESTS, Taken, memory_of, writable
from tests.real.listed import running
from tests.real.proc_modules import proc_text, proc_truth

SHOWN = (".text", ".data", ".init.text", ".gnu.linkonce.this_module")
"""Sections whose addresses the guests write down."""

POISON = (0xDEAD_0000_0000_0100, 0xDEAD_0000_0000_0122)
"""What ``list_del()`` leaves in the links of what it removed (include/linux/poison.h, x86-64)."""

HIDDEN = "overlay"
"""The module that is hidden; nothing uses it, and it uses nothing."""

TYPED = [guest for guest in GUESTS if not guest.startswith("i386")]
"""Guests whose kernels carry types; Debian's for i386 list no data, so that nothing says where theirs are."""

HIDING = [guest.name for guest in load_guests().values() if "modules" in guest.sets]
"""Guests that load modules of the lab's own, of which two take themselves off the list, one out of /sys/module too."""

WITNESSES = ("tree", "kobject", "bug list", "memory")
"""All that know such a module, beside the list."""


@cache
def inventory_of(dump: Path) -> Inventory:
    """The modules in a dump, listed once for all tests."""
    return inventory(running(dump))


@pytest.mark.parametrize("guest", GUESTS)
def test_the_file_that_the_kernel_prints(taken: Taken, guest: str) -> None:
    capture = taken(guest)
    loaded = inventory_of(capture.dump("elf"))
    assert proc_text(loaded) == proc_truth(capture)
    assert len(list(module_table(loaded, loaded.modules))) == 1 + len(loaded.modules)
    assert (loaded.unlisted, loaded.missing) == ((), ())
    assert all(set(WITNESSES) <= set(module.found_by) for module in loaded.modules)


@pytest.mark.parametrize("guest", GUESTS)
def test_sections(taken: Taken, guest: str) -> None:
    capture = taken(guest)
    loaded = inventory_of(capture.dump("elf"))
    lines = [line.split("\t") for line in section_lines(loaded, loaded.modules)]
    found = {
        f"/sys/module/{name}/sections/{section}\t{address}" for name, section, address in lines if section in SHOWN
    }
    assert found == set(capture.truth("sections.tsv").decode().splitlines())


@pytest.mark.parametrize("guest", TYPED)
def test_equations_say_what_the_types_say(taken: Taken, guest: str) -> None:
    kernel = running(taken(guest).dump("elf"))
    memory = virtual_memory(kernel)
    listed = listed_structures(kernel, memory)
    typed = layout_from_btf(kernel, memory, listed)
    assert typed is not None
    assert typed.unknown == ()
    assert infer_layout(memory, listed) == typed


class Edited:
    """A guest's memory that is written into through its own page table.

    Attributes:
        data: physical memory, copied on write.
        kernel: the one that was found in it.
    """

    def __init__(self, capture: Capture) -> None:
        self.data: NDArray[np.uint8] = writable(capture)
        self.kernel: Kernel = kallsift.recover(memory_of(self.data))
        self.memory = virtual_memory(self.kernel)
        fields = layout_from_btf(self.kernel, self.memory, listed_structures(self.kernel, self.memory))
        assert fields is not None
        self.fields: ModuleLayout = fields
        self._before: list[tuple[int, NDArray[np.uint8]]] = []

    def forget_types(self) -> None:
        """Leaves zeros where the kernel's types are, but for the first words, by which they are known as such."""
        low, high = (self.kernel.symbols[name].address for name in ("__start_BTF", "__stop_BTF"))
        physical, mapped = self.memory.physical(np.arange(low + 8, high, dtype=np.uint64))
        assert mapped.all()
        self.data[physical.astype(np.int64)] = 0

    def word(self, address: int, value: int) -> None:
        """Writes one word."""
        place = int(self.memory.physical(np.array([address], np.uint64))[0][0])
        self._before.append((place, self.data[place : place + 8].copy()))
        self.data[place : place + 8] = np.frombuffer(value.to_bytes(8, "little"), np.uint8)

    def restore(self) -> None:
        """Takes back all words that were written."""
        while self._before:
            place, word = self._before.pop()
            self.data[place : place + 8] = word

    def unlink(self, node: int) -> None:
        """As ``list_del()``."""
        after, before = self.memory.value(node), self.memory.value(node + 8)
        self.word(before, after)
        self.word(after + 8, before)
        for offset, value in zip((0, 8), POISON, strict=True):
            self.word(node + offset, value)

    def leave_tree(self, node: int, root: int) -> None:
        """Takes a node out of the red-black tree whose root stands at an address; what was below it stays in order."""
        parent, right, left = (self.memory.value(node + offset) for offset in (0, 8, 16))
        for link in ((parent & ~3) + 8, (parent & ~3) + 16) if parent & ~3 else (root,):
            if self.memory.value(link) == node:
                self.word(link, right or left)
        if right:
            self.word(right, parent)
            lowest = right
            while (below := self.memory.value(lowest + 16)) != 0:
                lowest = below
            self.word(lowest + 16, left)
        if left:
            self.word(left, lowest if right else parent)
        self.word(node, node)  # as RB_CLEAR_NODE()

    def found(self) -> tuple[Kernel, Inventory]:
        """What is found in the memory as it is now."""
        kernel = kallsift.recover(memory_of(self.data))
        return kernel, inventory(kernel)


def _from_list(edited: Edited, module: LoadedModule) -> None:
    edited.unlink(module.address + 8)


def _from_objects(edited: Edited, module: LoadedModule) -> None:
    assert edited.fields.kobject is not None
    edited.unlink(module.address + edited.fields.kobject + 8)


def _from_bugs(edited: Edited, module: LoadedModule) -> None:
    assert edited.fields.bug_list is not None
    edited.unlink(module.address + edited.fields.bug_list)


def _from_trees(edited: Edited, module: LoadedModule) -> None:
    trees = edited.kernel.symbols["mod_tree"].address
    for place, region in zip(edited.fields.regions, module.regions or (), strict=True):
        if place.node is not None and region.size:
            for tree in range(2):
                edited.leave_tree(module.address + place.node + 8 + 24 * tree, trees + 8 + 8 * tree)


WAYS: dict[str, Callable[[Edited, LoadedModule], None]] = {
    "list": _from_list,
    "kobject": _from_objects,
    "bug list": _from_bugs,
    "tree": _from_trees,
}


@pytest.mark.parametrize("guest", ["amd64-7.2", "amd64-5.10"])
@pytest.mark.parametrize(
    ("removed", "types"),
    [(("list",), True), (("list", "kobject"), False), (("list", "tree"), True), (tuple(WAYS), False)],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else "types" if value else "no types",
)
def test_hidden(taken: Taken, guest: str, removed: tuple[str, ...], types: bool) -> None:
    capture = taken(guest)
    edited = Edited(capture)
    before = inventory(edited.kernel)
    module = next(one for one in before.modules if one.name == HIDDEN)
    shown, symbols = modules_document(before, [module])["modules"][0], module.symbols
    assert symbols is not None
    for way in removed:
        WAYS[way](edited, module)
    if not types:
        edited.forget_types()
    kernel, after = edited.found()
    (found,) = after.unlisted
    assert found.name == HIDDEN
    assert found.found_by == tuple(way for way in WITNESSES if way not in removed)
    assert after.missing == ()
    hidden = modules_document(after, [found])["modules"][0]
    for fact in ("listed", "found_by"):
        assert hidden.pop(fact) != shown.pop(fact)
    assert hidden == shown
    assert found.symbols is not None
    assert found.symbols.same_as(symbols)
    assert after.at(int(found.symbols.addresses.max())) is found
    # neither /proc/modules nor /proc/kallsyms would show it
    lines = proc_truth(capture).splitlines(keepends=True)
    assert proc_text(after) == b"".join(line for line in lines if not line.startswith(f"{HIDDEN} ".encode()))
    lines = capture.truth("kallsyms").splitlines(keepends=True)
    expected = b"".join(line for line in lines if not line.endswith(f"\t[{HIDDEN}]\n".encode()))
    assert b"".join(kallsyms_text(kernel, dynamic_symbols(kernel))) == expected
    assert any(f"NO ({', '.join(found.found_by)})" in line for line in module_table(after, after.modules))


@pytest.mark.parametrize("guest", ["amd64-7.2", "amd64-5.10"])
def test_the_trees_know_none_that_left_them(taken: Taken, guest: str) -> None:
    """Whatever its place in the trees is, the root's included: a boot decides where a module's node stands."""
    edited = Edited(taken(guest))
    for module in inventory(edited.kernel).modules:
        assert module.address in _known_by_trees(edited), module.name
        _from_list(edited, module)
        assert module.address in _known_by_trees(edited), module.name
        _from_trees(edited, module)
        assert module.address not in _known_by_trees(edited), module.name
        edited.restore()


def _known_by_trees(edited: Edited) -> set[int]:
    listed = listed_structures(edited.kernel, edited.memory)
    return set(VIEW_FINDERS["tree"](edited.kernel, edited.memory, edited.fields, listed).tolist())


@pytest.mark.skipif(not HIDING, reason="the lab has no guest whose modules hide themselves")
@pytest.mark.parametrize("guest", HIDING)
@pytest.mark.parametrize("types", [True, False], ids=["types", "no types"])
def test_modules_that_hide_themselves(taken: Taken, guest: str, types: bool) -> None:
    capture = taken(guest)
    edited = Edited(capture)
    if not types:
        edited.forget_types()
    loaded = inventory(edited.kernel)
    assert proc_text(loaded) == proc_truth(capture)
    assert b" (OE)\n" in proc_text(loaded)
    found = {module.name: module for module in loaded.unlisted}
    assert {name: module.found_by for name, module in found.items()} == {
        "labunlisted": WITNESSES,
        "labhidden": tuple(way for way in WITNESSES if way != "kobject"),
    }
    assert {(module.state, module.taints, module.permanent) for module in found.values()} == {("Live", "OE", True)}
    shown = set(capture.truth("sections.tsv").decode().splitlines())
    lines = [line.split("\t") for line in section_lines(loaded, [found["labunlisted"]])]
    assert {f"/sys/module/{name}/sections/{part}\t{place}" for name, part, place in lines if part in SHOWN} < shown
    for name, module in found.items():
        assert module.symbols is not None
        function = module.symbols[f"{name}_function"].address
        assert loaded.at(function) is module
        assert f"\t[{name}]".encode() not in capture.truth("kallsyms")


def test_nothing_is_listed(taken: Taken) -> None:
    edited = Edited(taken("amd64-7.2"))
    before = inventory(edited.kernel)
    head = edited.kernel.symbols["modules"].address
    for offset in (0, 8):
        edited.word(head + offset, head)
    after = inventory(edited.kernel)
    assert after.listed == ()
    assert {module.name for module in after.unlisted} == {module.name for module in before.modules}
    assert all(module.found_by == ("tree", "kobject", "bug list") for module in after.unlisted)


@pytest.mark.parametrize("guest", TYPED)
def test_without_types_the_same_is_known(taken: Taken, guest: str) -> None:
    capture = taken(guest)
    edited = Edited(capture)
    before = inventory(edited.kernel)
    known = modules_document(before, before.modules)
    edited.forget_types()
    after = inventory(edited.kernel)
    assert after.unknown == ()
    assert modules_document(after, after.modules) == known


def test_what_nothing_tells_is_unknown(taken: Taken) -> None:
    edited = Edited(taken("amd64-7.2"))
    before = inventory(edited.kernel)
    edited.forget_types()
    assert edited.fields.srcversion is not None
    for module in before.modules:
        edited.word(module.address + edited.fields.srcversion, 0)
    after = inventory(edited.kernel)
    assert after.unknown == ("version", "srcversion")
    assert {module.version for module in after.modules} == {None}
    assert proc_text(after) == proc_text(before)


def test_pages_that_hold_something_else(taken: Taken) -> None:
    """Random words in modules' structures make facts wrong or unknown, never more than that."""
    edited = Edited(taken("amd64-7.2"))
    before = inventory(edited.kernel)
    random = np.random.default_rng(5)
    for _ in range(4):
        for module in before.modules:
            offset = 8 * int(random.integers(10, 150))
            edited.word(module.address + offset, int(random.integers(0, 1 << 64, dtype=np.uint64)))
        loaded = inventory(edited.kernel)
        assert len(proc_text(loaded).splitlines()) == len(before.modules)
        assert len(modules_document(loaded, loaded.modules)["modules"]) == len(loaded.modules)
