"""MIPS: modules lie in segments that the processor does not map itself; nothing names the tables that map them."""

from __future__ import annotations

import re

import numpy as np
import pytest

import kallsift
from kallsift import Kernel
from kallsift.arch.page_table_ranges import MappedRanges, mapped_ranges
from kallsift.arch.paging import Segmented
from kallsift.kallsyms.evidence import Outcome
from kallsift.kernel.access.virtual_memory import virtual_memory
from kallsift.modules.inventory import inventory
from tests.lab import Capture, load_guests
from tests.lab.capture import cached
from tests.real.conftest import GUESTS, Taken
from tests.real.dynamic_table import printed
from tests.real.proc_modules import proc_text, proc_truth

NOT_VMALLOC = 1 << 16
"""Bytes beside vmalloc that are mapped at most: fixed addresses."""


@pytest.fixture(params=[guest.name for guest in load_guests().values() if guest.architecture.startswith("mips")])
def there(taken: Taken, request: pytest.FixtureRequest) -> Capture:
    """Captures of MIPS guests that have been taken; they are taken for this only where the set of guests has them."""
    guest = load_guests()[request.param]
    if guest.name not in GUESTS and cached(guest) is None:
        pytest.skip(f"{guest.name} has not been taken, and is not in the set of guests (KALLSIFT_LAB_SET)")
    return taken(guest.name)


def test_the_whole_file(there: Capture) -> None:
    with kallsift.open(there.dump("elf")) as memory:
        assert printed(memory) == (there.truth("kallsyms"), ())


def test_modules_are_those_that_the_guest_printed(there: Capture) -> None:
    with kallsift.open(there.dump("elf")) as memory:
        loaded = inventory(kallsift.recover(memory))
        assert proc_text(loaded) == proc_truth(there)
    assert (loaded.unlisted, loaded.missing, loaded.unknown) == ((), (), ())


def mapped(kernel: Kernel) -> MappedRanges:
    """All that the tables beside the windows map."""
    mapping = virtual_memory(kernel).mapping
    assert isinstance(mapping, Segmented)
    return mapped_ranges(kernel.memory, mapping.tables, kernel.page_table_root or 0)


def test_as_much_is_mapped_as_the_guest_says(there: Capture) -> None:
    """VmallocUsed, in KiB: what the tables map, but for few pages that are not of vmalloc."""
    with kallsift.open(there.dump("elf")) as memory:
        kernel = kallsift.recover(memory)
        ranges = mapped(kernel)
    (used,) = re.findall(rb"VmallocUsed: +(\d+) kB", there.truth("meminfo"))
    assert 0 <= int(ranges.sizes.sum()) - (int(used) << 10) <= NOT_VMALLOC
    (check,) = (check for check in kernel.evidence if check.name == "mapped segments")
    assert check.outcome is Outcome.PASSED


def test_all_that_is_mapped_is_memory(there: Capture) -> None:
    """Each page that the tables map is one of the machine's, and no two are the same."""
    with kallsift.open(there.dump("elf")) as memory:
        ranges = mapped(kallsift.recover(memory))
        bounds = zip(ranges.physical.tolist(), (ranges.physical + ranges.sizes).tolist(), strict=True)
        pages = np.concatenate([np.arange(low, high, 1 << 12, dtype=np.uint64) for low, high in bounds])
        held = memory.words(pages, np.dtype("u1"))[1]
    assert held.all()
    assert len(np.unique(pages)) == len(pages)
