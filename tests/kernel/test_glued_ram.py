"""Bare RAM whose kernel lies in front of a hole that the file leaves out: what is behind it belongs elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

import kallsift
from kallsift import Kernel, Outcome
from kallsift.kernel.ram.iomem import FLAGS, NAME
from tests.kernel.made_machine import LISTS, MIB, Machine, memory_of

HOLE = (24 * MIB, 32 * MIB)
RAM = 48 * MIB
RESOURCES, TEXT = 5 * MIB, 5 * MIB + 0x1000


def machine(*, named: bool = True, counted: bool = True) -> Machine:
    """A machine with a hole in its RAM, which its resources name and its number of pages tells."""
    made = Machine(size=RAM, variables={"max_pfn": RAM >> 12 if counted else 0})
    made.data[slice(*HOLE)] = 0
    made.data[HOLE[1] + 5 * MIB] = 77
    if named:
        made.data[TEXT : TEXT + len(NAME)] = np.frombuffer(NAME, np.uint8)
        for number, (start, end) in enumerate(((0, HOLE[0]), (HOLE[1], RAM))):
            # the text has to be of the image: at the image's distance
            made.put(RESOURCES + 64 * number, start, end - 1, made.base + TEXT - made.place, FLAGS[0])
    return made


def glued(made: Machine) -> kallsift.Memory:
    return memory_of(np.concatenate((made.data[: HOLE[0]], made.data[HOLE[1] :])))


def said(kernel: Kernel) -> dict[str, Outcome]:
    return {check.name: check.outcome for check in kernel.evidence if check.name in ("ranges", "hole", "RAM")}


def test_what_lies_behind_a_hole_is_put_where_it_belongs() -> None:
    made = machine()
    kernel = kallsift.recover(glued(made))
    assert kernel.proven
    assert [(held.start, held.end) for held in kernel.memory.segments] == [(0, HOLE[0]), (HOLE[1], RAM)]
    assert kernel.memory.read(HOLE[1] + 5 * MIB, 1).tolist() == [77]
    assert said(kernel) == {"ranges": Outcome.PASSED}
    assert kernel.others == ()
    assert [(each.proven, len(each.memory.segments)) for each in kallsift.recover_all(glued(made))] == [(True, 2)]


def test_what_cannot_be_mended_is_said() -> None:
    kernel = kallsift.recover(glued(machine(named=False)))
    assert said(kernel) == {"RAM": Outcome.FAILED}
    assert kernel.proven


@pytest.mark.parametrize(("broken", "name"), [(20, "ranges"), (60, "RAM")])
def test_few_lists_prove_no_layout(broken: int, name: str) -> None:
    """They show that the kernel runs, but some close in RAM that is laid out wrong too."""
    made = machine()
    for number in range(broken):
        element = made.word(made.place + LISTS + 48 * number) - made.direct
        made.put(element, 0, 0)
    kernel = kallsift.recover(glued(made))
    assert kernel.proven
    assert said(kernel) == {name: Outcome.PASSED if name == "ranges" else Outcome.FAILED}


@pytest.mark.parametrize("counted", [True, False])
def test_ram_without_holes_is_left_alone(counted: bool) -> None:
    made = machine(counted=counted)
    kernel = kallsift.recover(made.memory())
    assert (kernel.proven, said(kernel)) == (True, {})
    assert len(kernel.memory.segments) == 1
