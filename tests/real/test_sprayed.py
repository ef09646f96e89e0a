"""A machine on which an ordinary user has filled a quarter of the memory with what a recovery looks for."""

from __future__ import annotations

import pytest

import kallsift
from tests.lab.guests import guests_of_set
from tests.real.conftest import Taken
from tests.real.dynamic_table import printed

SPRAYED = [guest.name for guest in guests_of_set("sprayed")]


@pytest.mark.parametrize("guest", SPRAYED)
@pytest.mark.parametrize("container", ["elf", "raw"])
def test_the_answer_is_the_same(taken: Taken, guest: str, container: str) -> None:
    capture = taken(guest)
    assert capture.truth("labspray") == b"LAB-SPRAY done\n"
    with kallsift.open(capture.dump(container)) as memory:
        assert kallsift.recover(memory).proven
        assert printed(memory) == (capture.truth("kallsyms"), ())
