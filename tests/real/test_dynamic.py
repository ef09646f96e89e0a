"""All of ``/proc/kallsyms``: modules, ftrace, BPF and kprobes behind the built-in table, as the guest printed them."""

from __future__ import annotations

import os

import numpy as np
import pytest

import kallsift
from kallsift.analysis.dynamic.dynamic_symbols import dynamic_symbols
from tests.lab import guest_named, guests_of_set
from tests.real.conftest import GUESTS, Taken, memory_of, writable
from tests.real.dynamic_table import BUILT_IN, owners, printed, without_types
from tests.real.listed import text_only

TRACED = [guest.name for guest in guests_of_set(os.environ.get("KALLSIFT_LAB_DYNAMIC", "dynamic-test"))]
"""Names of guests whose scenario is being traced: the lab's set ``dynamic-test``, or the one the variable names."""

OFFERED = {
    "amd64": BUILT_IN,
    "i386": ("bpf", "__builtin__kprobes"),
    "arm64": ("bpf", "__builtin__kprobes"),
    "s390x": ("__builtin__kprobes",),
}
"""What Debian's kernels of an architecture list when they are traced; those of s390x compile no BPF."""


@pytest.mark.parametrize("guest", [*GUESTS, *TRACED])
def test_the_whole_file(taken: Taken, guest: str) -> None:
    capture = taken(guest)
    with kallsift.open(capture.dump("elf")) as memory:
        assert printed(memory) == (capture.truth("kallsyms"), ())


@pytest.mark.parametrize("guest", TRACED)
def test_the_whole_file_without_types(taken: Taken, guest: str) -> None:
    capture = taken(guest)
    memory = without_types(capture)
    if memory is None:
        pytest.skip("this kernel has no types of its own")
    assert printed(memory) == (capture.truth("kallsyms"), ())


@pytest.mark.parametrize("guest", TRACED)
def test_lists_that_no_symbol_names(taken: Taken, guest: str) -> None:
    """Where a kernel's table names no data, the lists are recognised by what stands in them."""
    with kallsift.open(taken(guest).dump("elf")) as memory:
        kernel = kallsift.recover(memory)
        named, recognised = dynamic_symbols(kernel), dynamic_symbols(text_only(kernel))
        assert recognised.missing == ()
        assert [group.owner for group in recognised.groups] == [group.owner for group in named.groups]
        for one, other in zip(recognised.groups, named.groups, strict=True):
            assert one.symbols.same_as(other.symbols)


@pytest.mark.parametrize("guest", TRACED)
def test_what_is_compared(taken: Taken, guest: str) -> None:
    """The guests really have what the test above is about."""
    capture = taken(guest)
    counts = owners(capture.truth("kallsyms"))
    offered = OFFERED[guest_named(guest).architecture]
    assert [name for name in BUILT_IN if counts[name]] == list(offered)
    if capture.manifest["counts"]["modules"]:
        assert capture.manifest["counts"]["modules"] >= 60
    loaded = capture.truth("bpf.tsv").splitlines()
    assert loaded[-1] == b"done"


def test_settings_that_hide_programs(taken: Taken) -> None:
    """The guest tried each setting; here its memory is given what it would have had then."""
    capture = taken("amd64-7.2-traced")
    for line in capture.truth("bpf.settings").decode().splitlines():
        name, value, lines = line.split("\t")
        data = writable(capture)
        kernel = kallsift.recover(memory_of(data))
        place = kernel.symbols[name].address - kernel.distance
        data[place : place + 4] = np.array([int(value)], "<u4").view(np.uint8)
        assert sum(len(group.symbols) for group in dynamic_symbols(kernel).groups if group.owner == "bpf") == int(lines)
