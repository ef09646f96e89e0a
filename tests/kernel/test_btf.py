"""Types that a kernel carries of itself, made up: what they say of modules, and nonsense that ends."""

from __future__ import annotations

import numpy as np
import pytest

from kallsift.kernel.access.btf import ARRAY, INT, PTR, STRUCT, TYPEDEF, UNION, Btf, BtfError
from kallsift.modules.memory_regions import RegionPlace, typed_regions

FLAG = 1 << 31


class Types:
    """Types that are written one after the other; the first has number 1."""

    def __init__(self) -> None:
        self.words: list[int] = []
        self.strings = b"\0"
        self.count = 0

    def name(self, text: str) -> int:
        if not text:
            return 0
        self.strings += text.encode() + b"\0"
        return len(self.strings) - len(text) - 1

    def add(self, kind: int, name: str, last: int, *behind: int, count: int = 0) -> int:
        self.words += [self.name(name), kind << 24 | count, last, *behind]
        self.count += 1
        return self.count

    def struct(self, name: str, size: int, members: list[tuple[str, int, int]], kind: int = STRUCT) -> int:
        """A structure of members: name, type and offset in bytes."""
        rows = [word for own, number, offset in members for word in (self.name(own), number, 8 * offset)]
        return self.add(kind, name, size, *rows, count=len(members))

    def btf(self) -> Btf:
        return Btf(np.array(self.words, np.uint32), self.strings, 8)


def modules(form: str) -> Types:
    types = Types()
    number = types.add(INT, "unsigned int", 4, 32)
    pointer = types.add(PTR, "", 0)
    node = types.struct("mod_tree_node", 56, [("mod", pointer, 0)])
    if form == "layout":
        sizes = [("size", number, 8), ("text_size", number, 12), ("ro_size", number, 16)]
        inner = types.struct("module_layout", 80, [("base", pointer, 0), *sizes, ("mtn", node, 24)])
        members = [("name", pointer, 24), ("core_layout", inner, 320), ("init_layout", inner, 400)]
    else:
        members = [("base", pointer, 0), ("size", number, 12), ("mtn", node, 16)]
        inner = types.struct("module_memory", 72, members)
        array = types.add(ARRAY, "", 0, inner, number, 7)
        members = [("name", pointer, 24), ("mem", array, 320)]
    union = types.struct("", 16, [("one", pointer, 0), ("other", number, 8)], UNION)
    types.struct("module", 1024, [*members, ("", union, 900)])
    return types


def test_both_forms() -> None:
    core, init = typed_regions(modules("layout").btf())
    assert core == RegionPlace("core", 320, 328, 344, 332)
    assert init == RegionPlace("init", 400, 408, 424, 412)
    text, data, *_, last = typed_regions(modules("mem").btf())
    assert text == RegionPlace("text", 320, 332, 336)
    assert data == RegionPlace("data", 392, 404, 408)
    assert last.name == "init_rodata"


def test_members_of_what_has_no_name() -> None:
    module = modules("mem").btf().struct("module")
    assert module is not None
    assert (module.members["one"].offset, module.members["other"].offset) == (900, 908)


def test_a_structure_in_itself_ends() -> None:
    """Each of some without a name has all of them, several times."""
    types = Types()
    numbers = range(1, 31)
    for _ in numbers:
        types.struct("", 8, [("", number, 0) for number in numbers] * 4)
    types.struct("module", 8, [("", number, 0) for number in numbers])
    module = types.btf().struct("module")
    assert module is not None
    assert module.members == {}


def test_names_that_lead_in_circles() -> None:
    types = Types()
    types.add(TYPEDEF, "module", 1)
    with pytest.raises(BtfError, match="do not end"):
        types.btf().size(1)


def test_one_name_again_and_again() -> None:
    """Bounded by how often a name is looked for; without that it would take minutes."""
    words = np.array([9, STRUCT << 24, 8] * 60_000, np.uint32)
    assert Btf(words, b"\0" + b"module\0" * 400_000, 8).struct("module") is None


def test_arrays_of_arrays_are_too_large() -> None:
    types = Types()
    number = types.add(INT, "int", 4, 32)
    for _ in range(20):
        number = types.add(ARRAY, "", 0, number, 1, 0xFFFF_FFFF)
    with pytest.raises(BtfError, match="larger than any"):
        types.btf().size(number)


def test_types_that_are_cut_off() -> None:
    whole = modules("mem")
    for end in range(len(whole.words)):
        btf = Btf(np.array(whole.words[:end], np.uint32), whole.strings, 8)
        assert btf.struct("module") is None
        for number in range(-1, 10):
            try:
                btf.size(number), btf.struct_of(number), btf.length(number)
            except BtfError:
                continue


@pytest.mark.parametrize("form", ["layout", "mem"])
def test_any_words(form: str) -> None:
    random, whole = np.random.default_rng(3), modules(form)
    for _ in range(500):
        words = np.array(whole.words, np.uint32)
        for place in random.integers(0, len(words), 3).tolist():
            few = int(random.integers(0, 20))
            words[place] = random.choice([few, few << 24, few << 24 | FLAG | few, int(random.integers(0, 1 << 32))])
        try:
            typed_regions(Btf(words, whole.strings, 8))
        except BtfError:
            continue
