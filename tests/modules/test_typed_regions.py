"""The parts of a module's memory as the kernel's types describe them."""

from __future__ import annotations

import pytest

from kallsift.kernel.access.btf_blob import Kind
from kallsift.modules.memory_regions import RegionPlace, typed_regions
from tests.kernel.made_types import MadeTypes
from tests.types.typed_kernel import types_of


def modules(form: str) -> MadeTypes:
    types = MadeTypes()
    number = types.integer("unsigned int", 4)
    pointer = types.pointer(0)
    node = types.struct("mod_tree_node", 56, [("mod", pointer, 0)])
    if form == "layout":
        sizes = [("size", number, 8), ("text_size", number, 12), ("ro_size", number, 16)]
        inner = types.struct("module_layout", 80, [("base", pointer, 0), *sizes, ("mtn", node, 24)])
        members = [("name", pointer, 24), ("core_layout", inner, 320), ("init_layout", inner, 400)]
    else:
        members = [("base", pointer, 0), ("size", number, 12), ("mtn", node, 16)]
        inner = types.struct("module_memory", 72, members)
        members = [("name", pointer, 24), ("mem", types.array(inner, 7), 320)]
    union = types.struct("", 16, [("one", pointer, 0), ("other", number, 8)], Kind.UNION)
    types.struct("module", 1024, [*members, ("", union, 900)])
    return types


def test_both_forms() -> None:
    core, init = typed_regions(types_of(modules("layout")))
    assert core == RegionPlace("core", 320, 328, 344, 332)
    assert init == RegionPlace("init", 400, 408, 424, 412)
    text, data, *_, last = typed_regions(types_of(modules("mem")))
    assert text == RegionPlace("text", 320, 332, 336)
    assert data == RegionPlace("data", 392, 404, 408)
    assert last.name == "init_rodata"


@pytest.mark.parametrize("form", ["layout", "mem"])
def test_a_part_that_lacks_its_size(form: str) -> None:
    made = modules(form)
    made.strings = made.strings.replace(b"\0size\0", b"\0none\0")
    assert typed_regions(types_of(made)) == ()
