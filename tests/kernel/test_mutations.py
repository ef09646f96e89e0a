"""Inputs on which one equation is broken, and nothing else: what comes out is not called proven.

``docs/evidence.md`` has a row for each check, with the name of the mutation here that shows that it can fail.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import kallsift
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment
from tests.kernel.made_machine import BANNER, HEADS, LISTS, POINTERS, TABLES, Machine
from tests.kernel.placed_images import Parts, flat, make

pytestmark = pytest.mark.slow

Mutation = Callable[[Machine], None]


def place(machine: Machine, table: str) -> int:
    """Physical address of one of the kernel's tables."""
    blob = machine.blob
    return machine.place + TABLES + blob.tables[table].offset


def proves_itself(memory: Memory) -> bool:
    """Whether anything in a memory is called proven."""
    try:
        return any(kernel.proven for kernel in kallsift.recover_all(memory))
    except kallsift.RecoveryError:
        return False


def swap(machine: Machine, first: int, second: int, size: int) -> None:
    """Two ranges of bytes change places."""
    data = machine.data
    one = data[first : first + size].copy()
    data[first : first + size] = data[second : second + size]
    data[second : second + size] = one


def token_index(machine: Machine) -> None:
    machine.data[place(machine, "token_index") + 2 * 100] ^= 1


def token_table(machine: Machine) -> None:
    """The first token swallows the second."""
    start = place(machine, "token_table")
    machine.data[start + int(np.argmax(machine.data[start : start + 64] == 0))] = ord("x")


def markers(machine: Machine) -> None:
    machine.data[place(machine, "markers") + 4 * 3] ^= 1


def names(machine: Machine) -> None:
    """An entry becomes longer by one code."""
    machine.data[place(machine, "names")] += 1


def num_syms(machine: Machine) -> None:
    machine.data[place(machine, "num_syms")] ^= 1


def type_letter(machine: Machine) -> None:
    """The token of a letter becomes one of none."""
    start = place(machine, "token_table")
    text = machine.data[start : start + 1500].tobytes()
    machine.data[start + text.index(b"\0t\0") + 1] = ord("!")


def address_order(machine: Machine) -> None:
    start = place(machine, "offsets")
    swap(machine, start + 4 * 300, start + 4 * 700, 4)


def sequences(machine: Machine) -> None:
    start = place(machine, "seqs_of_names")
    swap(machine, start + 3 * 300, start + 3 * 700, 3)


def symbol_pointers(machine: Machine) -> None:
    machine.data[machine.place + POINTERS : machine.place + HEADS] = 0


def self_pointers(machine: Machine) -> None:
    machine.data[machine.place + HEADS : machine.place + BANNER] = 0


def banner(machine: Machine) -> None:
    machine.data[machine.place + BANNER] = ord("l")


def page_table(machine: Machine) -> None:
    """The kernel's own table maps its image one large page lower, and so do those of processes."""
    low, high = machine.place - (2 << 20), machine.place
    for step in (0, 2 << 20):
        machine.map_large(machine.root, machine.base + step, (low, high)[step > 0])


def alive(machine: Machine) -> None:
    """The lists' members lead nowhere; so does the list of processes."""
    for number in range(96):
        head = machine.place + LISTS + 48 * number
        element = machine.word(head) - machine.direct
        machine.put(element, 0, 0)


MUTATIONS: tuple[Mutation, ...] = (
    token_index,
    token_table,
    markers,
    names,
    num_syms,
    type_letter,
    address_order,
    sequences,
    symbol_pointers,
    self_pointers,
    banner,
    page_table,
    alive,
)


def test_without_a_mutation() -> None:
    assert proves_itself(Machine().memory())


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_broken_equation_is_not_proven(mutation: Mutation) -> None:
    machine = Machine()
    mutation(machine)
    assert not proves_itself(machine.memory())


NAMED = {
    "own_names": {"kallsyms_markers": 1},
    "btf": {"__start_BTF": 0x1234},
    "sinittext": {"other": 1, "_sinittext": 2},
}
"""Symbols that name something which is not where they say."""


@pytest.mark.parametrize("variables", NAMED.values(), ids=NAMED)
def test_a_landmark_that_is_elsewhere_is_not_proven(variables: dict[str, int]) -> None:
    assert not proves_itself(Machine(variables=dict(variables)).memory())


def test_strings() -> None:
    """Without the strings, one landmark is left, which is no proof."""
    made = make(Parts(strings=200, banner=True))
    assert proves_itself(flat(made))
    assert not proves_itself(flat(made.changed(made.data.index(b"message"), bytes(0x2000))))


def test_base() -> None:
    """Where the base is lost, pointers tell it, or nothing does."""
    for pointers, proven in ((400, True), (8, False)):
        made = make(Parts(lists=100, strings=200, pointers=pointers))
        lost = made.changed(made.offset("relative_base"), bytes(8))
        assert proves_itself(flat(lost, base=made.distance)) is proven


def test_a_marker_of_the_entry_behind() -> None:
    """All entries that begin at markers have their letters, but one is left out, and another one stands there twice."""
    made = make(Parts(lists=100, strings=200))
    heads, start = made.blob.heads, made.blob.tables["names"].offset
    marker = made.offset("markers") + 4 * 3
    assert proves_itself(flat(made))
    assert made.data[marker : marker + 4] == (heads[768] - start).to_bytes(4, "little")
    assert not proves_itself(flat(made.changed(marker, (heads[769] - start).to_bytes(4, "little"))))


@pytest.mark.parametrize("letter", ["t", "q", "_"])
def test_a_letter_of_none_of_nms_types(letter: str) -> None:
    """Encoded as such, so that nothing else is broken."""
    made = make(Parts(lists=100, strings=200, letter=letter))
    assert proves_itself(flat(made)) is (letter == "t")


@pytest.mark.parametrize("off", [0, 0x1000, 0x40])
def test_strings_of_memory_at_given_addresses(off: int) -> None:
    """Pointers equal symbols wherever the memory is said to lie, but lead to strings at its own addresses alone."""
    made = make(Parts(strings=200))
    segment = BytesSegment(made.distance + off, np.frombuffer(made.data, np.uint8))
    assert proves_itself(Memory("made", "raw", AddressSpace.VIRTUAL, (segment,))) is (off == 0)
