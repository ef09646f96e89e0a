"""Damage is honest: whatever page of the tables is gone, no wrong line comes out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

import kallsift
from kallsift.arch.paging import walk
from kallsift.arch.registry import modes
from tests.real.comparison import text_of
from tests.real.conftest import GUESTS, Taken, memory_of, writable
from tests.real.damage_trials import Damaged
from tests.real.listed import without_hints

PAGE = 4096
TRIALS = 3

TOP_LEVEL = 4 * PAGE
"""Bytes of the largest top-level page table: s390x's and arm's."""

NOISY = ("amd64-5.10", "amd64-7.2", "s390x-7.2")
"""Guests whose pages are overwritten as well, which takes minutes: one of each way to store addresses."""

CASES = [(guest, "zeros") for guest in GUESTS] + [(guest, "noise") for guest in GUESTS if guest in NOISY]


def wrong_lines(kernel: kallsift.Kernel, truth: list[bytes]) -> list[bytes]:
    """Lines that say something else than the guest did in the same place; what is unknown says nothing."""
    lines = text_of(kernel).splitlines()
    if len(lines) != len(truth):
        return lines
    wrong = []
    for line, right in zip(lines, truth, strict=True):
        address, letter, name = line.split(b" ")
        true_address, true_letter, true_name = right.split(b" ")
        address_fits = address in (true_address, b"?" * len(address))
        name_fits = (letter, name) in ((true_letter, true_name), (b"?", b"?"))
        if not (address_fits and name_fits):
            wrong.append(line)
    return wrong


@pytest.mark.parametrize(("guest", "filler"), CASES)
def test_no_wrong_line_when_a_page_is_gone(taken: Taken, guest: str, filler: str) -> None:
    capture = taken(guest)
    data = writable(capture)
    truth = capture.core_kallsyms().splitlines()
    whole = without_hints(capture.dump("raw"))
    assert not wrong_lines(whole, truth)
    noise = np.random.default_rng(7).integers(0, 256, PAGE, np.uint8)
    for page, table in chosen_pages(whole).items():
        place = slice(page * PAGE, page * PAGE + PAGE)
        kept = data[place].copy()
        data[place] = 0 if filler == "zeros" else noise
        assert_honest(data, truth, f"{table} at {page * PAGE:#x}")
        data[place] = kept


def assert_honest(data: NDArray[np.uint8], truth: list[bytes], lost: str) -> None:
    """Nothing that comes out of damaged memory is wrong, and a table that lacks symbols is not called proven."""
    try:
        kernel = kallsift.recover(memory_of(data))
    except kallsift.RecoveryError:
        return
    if kernel.state is kallsift.State.IMAGE:
        # a file that memory holds, where nothing of the running kernel's table could be found
        assert not kernel.proven
        return
    assert not wrong_lines(kernel, truth), lost
    assert len(kernel.symbols) == len(truth) or not kernel.proven


def chosen_pages(kernel: kallsift.Kernel) -> dict[int, str]:
    """The first and the last page of each table; one that several tables share is chosen once."""
    pages: dict[int, str] = {}
    for table in kernel.tables:
        for place in (table.physical, table.physical + table.size - 1):
            pages.setdefault(place // PAGE, table.name)
    return pages


@pytest.mark.parametrize("guest", [guest for guest in GUESTS if guest in NOISY])
@pytest.mark.parametrize("percent", [1, 10, 25])
def test_almost_all_that_survives_comes_out(taken: Taken, guest: str, percent: float) -> None:
    """A few of the trials that `python -m tests.real damage` makes a hundred of: they vary more than the mean does."""
    source = Damaged(taken(guest).kernel_image)
    trials = [source.trial(percent, seed) for seed in range(TRIALS)]
    assert not any(trial.wrong for trial in trials)
    assert all(trial.recovered for trial in trials if trial.survivors)
    share = sum(trial.recovered for trial in trials) / sum(trial.survivors for trial in trials)
    assert share >= 0.99


@pytest.mark.parametrize("lost", [("token_index",), ("num_syms", "markers")], ids="-".join)
def test_what_tells_where_tables_lie_is_lost_in_a_dump(taken: Taken, lost: tuple[str, ...]) -> None:
    """Of this guest's token table a part lies on another page, so that some names survive either loss."""
    if "s390x-6.12" not in GUESTS:
        pytest.skip("s390x-6.12 is not in the lab's set")
    capture = taken("s390x-6.12")
    data = writable(capture)
    whole = without_hints(capture.dump("raw"))
    for table in whole.tables:
        if table.name in lost:
            first, last = table.physical // PAGE, (table.physical + table.size - 1) // PAGE
            data[first * PAGE : last * PAGE + PAGE] = 0
    kernel = kallsift.recover(memory_of(data))
    assert len(kernel.symbols) == len(whole.symbols)
    assert kernel.symbols.named.any()
    assert not kernel.proven
    assert not wrong_lines(kernel, capture.core_kallsyms().splitlines())


@pytest.mark.parametrize("guest", GUESTS)
def test_without_a_page_table_nothing_is_called_proven(taken: Taken, guest: str) -> None:
    """No top-level table maps the kernel any more, no process's either: how many have a say hangs on the boot."""
    capture = taken(guest)
    data = writable(capture)
    truth = capture.core_kallsyms().splitlines()
    whole = without_hints(capture.dump("raw"))
    entries = entries_that_map(whole)
    assert any(entry.start // PAGE * PAGE - (whole.page_table_root or 0) in range(TOP_LEVEL) for entry in entries)
    for entry in entries:
        data[entry.start : entry.stop] = 0
    try:
        kernel = kallsift.recover(memory_of(data))
    except kallsift.RecoveryError:
        return
    assert not wrong_lines(kernel, truth)
    assert not kernel.proven


def entries_that_map(kernel: kallsift.Kernel) -> list[range]:
    """Places of all entries that map the first of the kernel's tables, whatever page is read as a top-level table."""
    pages = np.arange(0, kernel.memory.segments[-1].end, PAGE, dtype=np.uint64)
    table = kernel.tables[0]
    wanted = np.full(len(pages), table.virtual, np.uint64)
    found = []
    for mode in modes(kernel.symbols.word_size, kernel.byte_order):
        physical, mapped = walk(kernel.memory, mode, pages, wanted)
        size = mode.entry_at(0).itemsize
        inside = int(mode.index(wanted[:1], 0)[0]) * size
        roots = pages[mapped & (physical == np.uint64(table.physical))].tolist()
        found += [range(root + inside, root + inside + size) for root in roots]
    return found


@pytest.mark.parametrize("guest", [guest for guest in GUESTS if guest.startswith("arm64")])
def test_a_damaged_kernel_that_runs_is_no_image(taken: Taken, guest: str) -> None:
    """Its image has a header, so that it could be one in a file: then modules, and all else that ran, would lack."""
    capture = taken(guest)
    data = writable(capture)
    whole = without_hints(capture.dump("raw"))
    (names,) = (table for table in whole.tables if table.name == "names")
    page = (names.physical + names.size // 2) // PAGE * PAGE
    data[page : page + PAGE] = 0
    kernel = kallsift.recover(replace(memory_of(data), is_headerless=True))
    assert kernel.state is kallsift.State.RUNNING
    assert not kernel.proven
    assert not wrong_lines(kernel, capture.core_kallsyms().splitlines())
