"""What is no running kernel is told apart: copies of one that ran, images as the linker made them, guests."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import kallsift
from kallsift import Memory
from kallsift.memory.memory import AddressSpace
from kallsift.memory.segments import BytesSegment
from tests.lab import Capture
from tests.real.conftest import GUESTS, Taken

MIB = 1 << 20
DATA = 14 * MIB
"""How much behind the last symbol is copied: data, where only text is listed."""


def largest(capture: Capture) -> BytesSegment:
    """The largest range of a guest's memory, as a copy."""
    with kallsift.open(capture.dump("elf")) as memory:
        segment = max(memory.segments, key=lambda segment: segment.size)
        return BytesSegment(segment.start, np.array(segment.read()))


def of(segment: BytesSegment) -> Memory:
    return Memory("test", "raw", AddressSpace.PHYSICAL, (segment,))


def image(kernel: kallsift.Kernel, segment: BytesSegment) -> slice:
    """Where a kernel's image lies in the segment's data."""
    mask = (1 << 8 * kernel.symbols.word_size) - 1
    last = (int(kernel.symbols.addresses[-1]) - kernel.distance) & mask
    assert kernel.physical_base is not None
    low = (kernel.physical_base - segment.start) // MIB * MIB
    return slice(low, max(last, max(table.physical + table.size for table in kernel.tables)) - segment.start + DATA)


def place_for(data: NDArray[np.uint8], taken: slice, size: int) -> int:
    """Where a copy overwrites nothing of the image, and next to nothing else: the blank part that it fits best."""
    starts = [
        start
        for start in range(0, len(data) - size, 4 * MIB)
        if start + size + 16 * MIB < taken.start or start > taken.stop + 16 * MIB
    ]
    blank = np.logical_not(data[: len(data) // MIB * MIB].reshape(-1, MIB).any(axis=1))
    return max(starts, key=lambda start: int(np.count_nonzero(blank[start // MIB : (start + size) // MIB])))


@pytest.mark.parametrize("guest", GUESTS)
def test_a_copy_of_a_kernel_that_ran(taken: Taken, guest: str) -> None:
    segment = largest(taken(guest))
    kernel = kallsift.recover(of(segment))
    where = image(kernel, segment)
    copy = segment.data[where].copy()
    place = place_for(segment.data, where, len(copy))
    segment.data[place : place + len(copy)] = copy
    found = kallsift.recover_all(of(segment))
    assert found[0].proven
    assert found[0].tables == kernel.tables
    copies = [k for k in found if place <= k.tables[0].physical - segment.start < place + len(copy)]
    assert [k.state for k in copies] == [kallsift.State.STALE]
    assert not copies[0].proven
    assert np.array_equal(copies[0].symbols.addresses, kernel.symbols.addresses)


@pytest.mark.parametrize("guest", GUESTS)
@pytest.mark.parametrize("places", ["all lower", "higher"])
def test_memory_that_is_not_at_its_addresses(taken: Taken, guest: str, places: str) -> None:
    """As of a file with the RAM alone, or behind a header that nobody knows."""
    segment = largest(taken(guest))
    there = segment.start - segment.start // 2 // MIB * MIB if places == "all lower" and segment.start else 0x1234_5000
    kernel = kallsift.recover(of(BytesSegment(there, segment.data)))
    right = kallsift.recover(of(segment))
    assert kernel.proven
    assert kernel.symbols.same_as(right.symbols)
    assert kernel.physical_base == right.physical_base


@pytest.mark.parametrize(("host", "guest"), [("amd64-7.2", "arm64-6.12"), ("arm64-6.12", "i386-6.1-686")])
def test_a_guest_in_its_hosts_memory(taken: Taken, host: str, guest: str) -> None:
    outer, inner = largest(taken(host)), largest(taken(guest))
    data = np.concatenate((outer.data, inner.data))
    found = kallsift.recover_all(of(BytesSegment(outer.start, data)))
    assert [kernel.state for kernel in found] == [kallsift.State.RUNNING, kallsift.State.GUEST]
    assert [kernel.proven for kernel in found] == [True, False]
    assert found[0].symbols.same_as(kallsift.recover(of(outer)).symbols)
    assert found[1].symbols.same_as(kallsift.recover(of(inner)).symbols)


@pytest.mark.parametrize("guest", GUESTS)
def test_an_image_as_the_linker_made_it(taken: Taken, guest: str) -> None:
    """Loaded into memory where nothing else is: it never ran, whatever the memory's size."""
    with kallsift.open(taken(guest).kernel_image) as source:
        try:
            whole = kallsift.recover(source).proven
        except kallsift.RecoveryError:
            whole = False
        if not whole:
            pytest.skip("the addresses of this image are filled in when it boots")
        # what lies far from the rest is an area of per-CPU data, linked at address 0
        main = max(source.segments, key=lambda part: part.size).start
        parts = [part for part in source.segments if abs(part.start - main) < 256 * MIB]
        size = parts[-1].end - parts[0].start
        data = np.zeros(512 * MIB, np.uint8)
        for part in parts:
            data[64 * MIB + part.start - parts[0].start :][: part.size] = part.read()
    assert size < 256 * MIB
    states = [kernel.state for kernel in kallsift.recover_all(of(BytesSegment(0, data)))]
    assert states == [kallsift.State.IMAGE]
