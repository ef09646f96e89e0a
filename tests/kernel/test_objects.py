"""Kernels and memories as objects of Python: one line of text, and pickles without the dump."""

from __future__ import annotations

import pickle

import pytest

import kallsift
from tests.kernel.made_machine import Machine


@pytest.fixture(scope="module")
def kernel() -> kallsift.Kernel:
    return kallsift.recover(Machine().memory())


def test_one_line_tells_what_it_is(kernel: kallsift.Kernel) -> None:
    count = len(kernel.symbols)
    assert repr(kernel) == f"<Kernel 7.1.0-made x86-64: running at 0xffffffff81000000, proven, {count:,} symbols>"
    assert repr(kernel.memory).endswith(" bytes in 1 range>")
    assert len(repr(kernel.memory)) < 120


def test_a_pickle_has_the_table_and_not_the_dump(kernel: kallsift.Kernel) -> None:
    pickled = pickle.dumps(kernel)
    assert "init_task" in kernel.symbols
    assert len(pickle.dumps(kernel)) == len(pickled)
    assert len(pickled) < 1 << 20 < kernel.memory.size
    again = pickle.loads(pickled)
    assert again.symbols.same_as(kernel.symbols)
    assert (again.state, again.proven, again.evidence) == (kernel.state, True, kernel.evidence)
    assert again.memory.notes == ("its bytes are not here: it was pickled; open the source again to read them",)
    with pytest.raises(kallsift.UnmappedError):
        again.memory.read(again.physical_base, 1)
