"""Where an image lies is told by what would be otherwise at another distance, or it is not called proven."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import kallsift
from kallsift.kernel.placement.distances import string_candidates
from kallsift.kernel.placement.pointers import Words
from kallsift.kernel.placement.window_facts import SharedWindows
from kallsift.memory.segments import BytesSegment
from tests.kallsyms.placed import candidates
from tests.kernel.made_machine import DATA, POINTERS, Machine
from tests.kernel.placed_images import Made, Parts, elf, flat, make, raw

pytestmark = pytest.mark.sampled(3)

ROM_TO_RAM = 0x0100_0000

TOLD = [
    Parts(lists=100),
    Parts(strings=200),
    Parts(lists=100, header=64),
    Parts(lists=100, strings=200, header=512, text_only=True),
    Parts(strings=200, banner=True, header=64, word_size=4),
    Parts(lists=100, header=64, first=0x1C000, word_size=4),
    Parts(lists=100, header=64, first=0x1C000, word_size=4, text_only=True),
    Parts(lists=100, header=8, first=0x1000, era="7.0"),
    Parts(lists=100, first=0x1000, era="2.6.32 arm", word_size=4),
]


def assert_exact(kernel: kallsift.Kernel, made: Made) -> None:
    assert kernel.symbols.addresses.tolist() == [symbol.address for symbol in made.blob.symbols]
    assert kernel.symbols.names() == [symbol.name for symbol in made.blob.symbols]


@pytest.mark.parametrize("parts", TOLD, ids=str)
def test_what_tells_the_distance(parts: Parts) -> None:
    made = make(parts)
    kernel = kallsift.recover(flat(made))
    assert_exact(kernel, made)
    assert kernel.distance == made.distance
    assert kernel.proven


def test_the_first_byte_is_not_taken_for_the_first_symbol() -> None:
    """Pointers equal symbols wherever the image is taken to lie: they confirm no distance."""
    made = make(Parts(first=0x1C000, word_size=4))
    assert not any(kernel.proven for kernel in kallsift.recover_all(flat(made)))


def test_one_landmark_is_no_proof() -> None:
    """It tells a distance, of which nothing else speaks then."""
    made = make(Parts(banner=True))
    kernel = kallsift.recover(flat(made))
    assert_exact(kernel, made)
    assert not kernel.proven


@pytest.mark.parametrize("banner", [False, True])
def test_data_that_lie_elsewhere(banner: bool) -> None:
    """Where code is executed in place, the data's list heads tell nothing of the tables' distance."""
    made = make(Parts(lists=200, lists_moved=ROM_TO_RAM, strings=200, banner=banner, word_size=4))
    kernel = kallsift.recover(flat(made))
    assert_exact(kernel, made)
    assert kernel.distance == made.distance


def test_execute_in_place_in_a_file_without_a_header() -> None:
    made = make(Parts(lists=200, lists_moved=1 << 29, strings=200, banner=True, word_size=4))
    kernel = kallsift.recover(raw(made))
    assert_exact(kernel, made)
    assert kernel.distance == made.distance


def test_a_header_that_is_wrong() -> None:
    """An ELF file around a bare kernel, at addresses that are not the kernel's; a load address that is none of it."""
    made = make(Parts(lists=100, strings=200, header=0x1000))
    for memory in (elf(made, 0x10000), flat(made, base=0x8_0000)):
        kernel = kallsift.recover(memory)
        assert_exact(kernel, made)
        assert kernel.distance == (made.distance - memory.segments[0].start) % (1 << 64)
        assert kernel.proven


@pytest.mark.parametrize("moved", [0, 96, 960])
def test_a_distance_that_many_pointers_fit_too(moved: int) -> None:
    """Bit 0 of pointers to code is set, and symbols lie at equal steps: some steps off many pointers equal another one.

    Lists speak for the wrong distance, as where data are mapped apart from the tables.
    """
    made = make(Parts(era="7.0", word_size=4, lists=100, lists_moved=moved, step=96, code_bit=True))
    proven = [kernel for kernel in kallsift.recover_all(flat(made)) if kernel.proven]
    assert [kernel.distance for kernel in proven] == [made.distance] * (not moved)


def test_a_header_that_nothing_confirms() -> None:
    made = make(Parts())
    kernel = kallsift.recover(flat(made, base=made.distance))
    assert_exact(kernel, made)
    assert not kernel.proven


def test_strings_place_no_addresses_that_pointers_are_far_from() -> None:
    """Most readings of tables are wrong, and counting what strings say of each would take long."""
    made = make(Parts(strings=200))
    window = BytesSegment(0, np.frombuffer(made.data, np.uint8))
    right = candidates(made.data, 0)[0]
    facts = SharedWindows().facts(window, Words(right.word_size, right.byte_order))
    assert [one.distance for one in string_candidates(right, facts)] == [made.distance]
    base = right.array.relative_base
    assert base is not None
    for away in (-1 << 30, 1 << 30):
        wrong = replace(right, array=replace(right.array, relative_base=base + away))
        assert not list(string_candidates(wrong, facts))


@pytest.mark.parametrize("behind", [4, 12])
def test_places_in_functions_speak_for_no_other_distance_of_memory_that_ran(behind: int) -> None:
    """A kernel that ran lists where its functions can be patched, and a text-only table has less that words equal."""
    machine = Machine()
    functions = {symbol.address for symbol in machine.symbols if symbol.address < machine.base + POINTERS}
    machine.put(machine.place + DATA + 0x8_0000, *(address + behind for address in sorted(functions)))
    assert kallsift.recover(machine.memory()).proven
