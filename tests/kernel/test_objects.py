"""Kernels and memories as objects of Python: one line of text, and pickles without the dump."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

import kallsift
from kallsift.arch.paging import PagingMode, Windows, translate
from kallsift.arch.registry import MODES, WINDOWS, mapping_named
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


@pytest.mark.parametrize("bits", [0, 1 << 47])
def test_a_pickle_knows_how_addresses_are_translated(kernel: kallsift.Kernel, bits: int) -> None:
    assert isinstance(kernel.mapping, PagingMode)
    mapping = kernel.mapping.with_attributes(bits)
    again = pickle.loads(pickle.dumps(replace(kernel, mapping=mapping)))
    assert again.mapping is not None
    assert (again.paging, again.attribute_bits) == ("4-level", bits)
    addresses = np.array([kernel.symbols["init_task"].address], np.uint64)
    expected = translate(kernel.memory, mapping, kernel.page_table_root, addresses)
    found = translate(kernel.memory, again.mapping, again.page_table_root, addresses)
    assert [column.tolist() for column in found] == [column.tolist() for column in expected]


@pytest.mark.parametrize("order", ["<", ">"])
def test_each_way_to_translate_addresses_has_a_name_of_its_own(order: str) -> None:
    known: tuple[PagingMode | Windows, ...] = (*MODES, *WINDOWS)
    for mapping in known:
        if order in mapping.byte_orders:
            assert mapping_named(mapping.architecture, mapping.name, order) is mapping
