"""Landmarks on pages that the source could not read: they are missing there, not wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

import kallsift
from kallsift.errors import RecoveryError
from kallsift.kallsyms.evidence import CheckId, Outcome
from kallsift.memory.lazy_segment import LazySegment
from kallsift.memory.memory import Memory
from kallsift.memory.unreadable import UnreadablePages
from tests.kernel.made_machine import BANNER, VARIABLES, Machine

PAGE = 4096
NO_BTF = 0x1234


def memory(*unreadable: int) -> Memory:
    """Return a machine's memory in which no BTF is where a symbol says, and some pages cannot be read."""
    machine = Machine(variables={"__start_BTF": NO_BTF})
    pages = UnreadablePages()
    for place in unreadable:
        page = machine.place + place // PAGE * PAGE
        pages.add(0, page, page + PAGE)
        machine.data[page : page + PAGE] = 0
    segment = LazySegment(0, machine.size, machine.size, lambda _: machine.data, unreadable_pages=pages)
    return replace(machine.memory(), segments=(segment,), unreadable=pages)


def test_a_contradiction_is_one_where_the_page_was_read() -> None:
    with pytest.raises(RecoveryError, match="__start_BTF does not point at a BTF header"):
        kallsift.recover(memory())


def test_what_could_not_be_read_contradicts_nothing() -> None:
    kernel = kallsift.recover(memory(VARIABLES, BANNER))
    outcomes = {check.name: check.outcome for check in kernel.evidence}
    assert outcomes[CheckId.LINUX_BANNER] is outcomes[CheckId.START_BTF] is Outcome.ABSENT
