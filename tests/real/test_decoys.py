"""Other kernels' images, cut tables and stale copies in free memory do not fool the recovery."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

import kallsift
from tests.lab import Capture
from tests.real.comparison import compare, text_of
from tests.real.conftest import Taken, memory_of, writable
from tests.real.images import flat_image, vmlinux
from tests.real.listed import without_hints

LARGE_PAGE = 2 << 20


def free_place(data: NDArray[np.uint8], size: int) -> int:
    """The first run of zeros that holds ``size`` bytes from a large page's start on."""
    pages = data[: len(data) // LARGE_PAGE * LARGE_PAGE].reshape(-1, LARGE_PAGE)
    blank = [not page.any() for page in pages]
    needed = -(-size // LARGE_PAGE)
    for start in range(16, len(blank) - needed):
        if all(blank[start : start + needed]):
            return start * LARGE_PAGE
    raise AssertionError(f"no {size} bytes of free memory in this guest")


def plant(data: NDArray[np.uint8], place: int, decoy: bytes) -> None:
    data[place : place + len(decoy)] = np.frombuffer(decoy, np.uint8)


def assert_the_running_kernel_is_found(data: NDArray[np.uint8], capture: Capture) -> kallsift.Kernel:
    kernel = kallsift.recover(memory_of(data))
    assert kernel.proven
    assert kernel.state is kallsift.State.RUNNING
    assert compare(text_of(kernel), capture.core_kallsyms(), {}).same
    return kernel


Decoy = Callable[[Taken], bytes]

DECOYS: dict[str, Decoy] = {
    "another kernel's image file": lambda taken: vmlinux(taken("amd64-6.1").kernel_image),
    "another kernel as it is loaded": lambda taken: flat_image(vmlinux(taken("amd64-6.1").kernel_image))[1],
    "its own image file": lambda taken: vmlinux(taken("amd64-7.2").kernel_image),
    "its own image as it is loaded": lambda taken: flat_image(vmlinux(taken("amd64-7.2").kernel_image))[1],
}


@pytest.mark.parametrize("decoy", DECOYS)
def test_images_in_free_memory(taken: Taken, decoy: str) -> None:
    capture = taken("amd64-7.2")
    data, image = writable(capture), DECOYS[decoy](taken)
    place = free_place(data, len(image))
    plant(data, place, image)
    assert_the_running_kernel_is_found(data, capture)
    others = [k for k in kallsift.recover_all(memory_of(data)) if k.state is not kallsift.State.RUNNING]
    assert [place <= k.tables[0].physical < place + len(image) for k in others] == [True]
    assert not others[0].proven


def test_its_own_image_where_it_was_linked(taken: Taken) -> None:
    """The page tables inside the image file map it just there: only a running kernel's lists tell them apart.

    Whether the planted bytes hit something that the running kernel needs is up to KASLR, so all that is asked is that
    the copy never counts as running.
    """
    capture = taken("amd64-7.2")
    data = writable(capture)
    place, image = flat_image(vmlinux(capture.kernel_image))
    plant(data, place, image)
    kernels = kallsift.recover_all(memory_of(data))
    copies = [kernel for kernel in kernels if place <= kernel.tables[0].physical < place + len(image)]
    assert copies
    assert not any(copy.proven or copy.state is kallsift.State.RUNNING for copy in copies)
    for kernel in kernels:
        assert not kernel.proven or compare(text_of(kernel), capture.core_kallsyms(), {}).same


@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
@pytest.mark.parametrize("guest", ["amd64-5.10", "amd64-7.2"])
def test_cut_copies_of_the_tables(taken: Taken, guest: str, share: float) -> None:
    capture = taken(guest)
    data = writable(capture)
    tables = without_hints(capture.dump("raw")).tables
    first, last = tables[0].physical, tables[-1].physical + tables[-1].size
    for number, cut in enumerate(
        (slice(first, first + int((last - first) * share)), slice(last - int((last - first) * share), last))
    ):
        copy = bytes(data[cut])
        plant(data, free_place(data, len(copy) + 8) + 8 * number, copy)
    assert_the_running_kernel_is_found(data, capture)


def test_a_damaged_kernel_comes_before_the_whole_copy_beside_it(taken: Taken) -> None:
    capture = taken("amd64-7.2")
    data, image = writable(capture), flat_image(vmlinux(capture.kernel_image))[1]
    names = next(table for table in without_hints(capture.dump("raw")).tables if table.name == "names")
    plant(data, free_place(data, len(image)), image)
    data[names.physical + names.size // 2 :][:4096] = 0
    damaged, copy = kallsift.recover_all(memory_of(data))
    assert (damaged.state, copy.state) == (kallsift.State.RUNNING, kallsift.State.IMAGE)
    assert not damaged.proven
    assert not copy.proven
    failed = [check.name for check in damaged.evidence if check.outcome is kallsift.Outcome.FAILED]
    assert failed == ["damage"]
    assert 0 < np.count_nonzero(~damaged.symbols.named) < 1000
