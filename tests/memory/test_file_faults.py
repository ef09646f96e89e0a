"""Files that cannot be read: cut short, or on a disk that fails. No signal ends the process, and nothing is made up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import kallsift
from kallsift.errors import SourceError, UnmappedError
from kallsift.memory import file_faults
from kallsift.memory.file_faults import FileFaults
from kallsift.memory.file_mapping import faults_of, is_readable, map_file, touch, unreadable_parts
from tests.memory.failing_file import PAGE, failing, loop_device

PAGES = 1024
BAD = {3, 0x10, 0x20, 0x21, 0x300, PAGES - 1}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file without a page of zeros."""
    file = tmp_path / "dump"
    file.write_bytes(np.random.default_rng(1).integers(1, 256, PAGES * PAGE, np.uint8).tobytes())
    return file


def opened(path: Path) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    with path.open("rb") as file:
        return map_file(str(path), file.fileno(), os.lseek(file.fileno(), 0, os.SEEK_END))


def blank_pages(data: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> set[int]:
    return set(np.flatnonzero(~data.reshape(-1, PAGE).any(axis=1)).tolist())


def test_what_is_cut_off_reads_as_zeros(path: Path) -> None:
    view = opened(path)
    os.truncate(path, 100 * PAGE + 5)
    sums: dict[int, int] = {}

    def read(number: int) -> None:
        part = view[number * 128 * PAGE :][: 128 * PAGE]
        sums[number] = int(np.add.reduce(part.view("<u8") & 0xFF))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [number for number, total in sums.items() if total] == [0]
    faults = faults_of(view[7:])
    assert faults is not None
    assert faults.left == 100 * PAGE + 5
    assert blank_pages(view) == set(range(101, PAGES))
    with pytest.raises(SourceError, match=r"cut short while it was read \(409,605 of 4,194,304 bytes are left\)"):
        faults.check()


def test_every_other_page_of_a_disk_is_read(path: Path) -> None:
    with failing(path, BAD) as broken, loop_device(broken) as disk:
        for name in (broken, disk):
            view = opened(name)
            assert blank_pages(view) == BAD
            good = np.setdiff1d(np.arange(PAGES), list(BAD))
            assert np.array_equal(view.reshape(-1, PAGE)[good], opened(path).reshape(-1, PAGE)[good])
            faults = faults_of(view)
            assert faults is not None
            assert faults.remark() == f"{len(BAD)} of {PAGES:,} pages could not be read; they are read as holes"
            faults.check()
            del view


def test_pages_that_the_kernel_reads_together_are_lost_alone(path: Path) -> None:
    """It reads ahead in ever larger units, and says of one as a whole that it could not be read."""
    chance = np.random.default_rng(2)
    path.write_bytes(chance.integers(1, 256, 16 << 20, np.uint8).tobytes())
    for _ in range(4):
        bad = set(chance.integers(1, 4096, 4).tolist())
        with failing(path, bad) as broken, loop_device(broken) as disk:
            view = opened(disk)
            with ThreadPoolExecutor(2) as threads:
                list(threads.map(touch, np.split(view, 16)))
            assert blank_pages(view) == bad
            del view


def test_only_what_was_accessed_is_known(path: Path) -> None:
    with failing(path, BAD) as broken:
        view = opened(broken)
        inside = view[2 * PAGE :]
        assert unreadable_parts(inside, np.array([PAGE]), 8) is None
        assert is_readable(inside[:PAGE])
        assert not is_readable(inside[: PAGE + 1])
        offsets = np.array([0, PAGE - 8, PAGE - 7, PAGE, 2 * PAGE - 1, 2 * PAGE])
        lost = unreadable_parts(inside, offsets, 8)
        assert lost is not None
        assert lost.tolist() == [False, False, True, True, True, False]
        del view, inside


def test_bytes_that_cannot_be_read_are_not_there(path: Path) -> None:
    with failing(path, {5, 9}) as broken:
        memory = kallsift.open(broken)
        assert not memory.has_unreadable
        values, held = memory.words(
            np.array([5 * PAGE - 8, 5 * PAGE - 4, 5 * PAGE, 6 * PAGE], np.uint64), np.dtype("<u8")
        )
        assert held.tolist() == [True, False, False, True]
        assert not values[~held].any()
        for address, size in ((9 * PAGE, 1), (8 * PAGE, PAGE + 1), (7 * PAGE, 8 * PAGE), (10 * PAGE - 1, 1)):
            with pytest.raises(UnmappedError):
                memory.read(address, size)
        assert memory.read(8 * PAGE, PAGE).all()
        assert memory.is_readable(8 * PAGE, PAGE)
        assert not memory.is_readable(8 * PAGE, PAGE + 1)
        assert memory.unreadable_remarks == ("2 of 1,024 pages could not be read; they are read as holes",)
        assert memory.remarks == memory.unreadable_remarks
        memory.check_files()
        del memory


def test_a_file_whose_beginning_cannot_be_read_is_refused(path: Path) -> None:
    """It could be in any container."""
    with failing(path, {0}) as broken, pytest.raises(SourceError, match=r"its beginning cannot be read; .*ddrescue"):
        kallsift.open(broken)


def test_recovery_says_that_a_file_was_cut_short(path: Path) -> None:
    memory = kallsift.open(path)
    os.truncate(path, PAGE)
    with pytest.raises(SourceError, match="was cut short while it was read"):
        kallsift.recover(memory)
    with pytest.raises(SourceError, match="was cut short while it was read"):
        memory.check_files()


def test_the_number_of_mappings_is_bounded(path: Path) -> None:
    """Each page that is given up alone takes two mappings, of which a process may have 65,530."""
    size = 1 << 40
    faults, offset, count = FileFaults("disk", size), 0, 0
    while offset < size:
        offset += faults.lost_bytes(offset)
        count += 1
    assert 2 * count < 64_000
    assert FileFaults("disk", size).lost_bytes(0) == PAGE


def test_an_access_goes_on_when_a_signal_comes_meanwhile(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its exception is raised where the access was made, not lost in the handler."""
    cover = file_faults._Handler._cover
    interrupts: Iterator[type[BaseException]] = iter([KeyboardInterrupt])

    def interrupted(self: file_faults._Handler, address: int) -> bool:
        for kind in interrupts:
            raise kind
        return cover(self, address)

    monkeypatch.setattr(file_faults._Handler, "_cover", interrupted)
    view = opened(path)
    os.truncate(path, 0)
    # a suite that runs in the background was started with the signal ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it comes with the next bytecode
            touch(view)
            pytest.fail("the signal was lost")
    finally:
        signal.signal(signal.SIGINT, before)
    assert blank_pages(view) == set(range(PAGES))


FOREIGN = """
import faulthandler, mmap, os, sys
from kallsift.memory.file_mapping import map_file
if sys.argv[2] == "before":
    faulthandler.enable()
own = open(sys.argv[1], "rb")
view = map_file("own", own.fileno(), 4096)
if sys.argv[2] == "after":
    faulthandler.enable()
    view = map_file("own", own.fileno(), 4096)
other = mmap.mmap(os.open(sys.argv[1] + ".other", os.O_RDWR), 8192)
os.truncate(sys.argv[1], 0)
print(view.max(), flush=True)
os.truncate(sys.argv[1] + ".other", 0)
print(other[4096])
"""


@pytest.mark.parametrize("faulthandler", ["before", "after", "never"])
def test_faults_of_others_are_theirs(path: Path, faulthandler: str) -> None:
    path.with_name("dump.other").write_bytes(bytes(8192))
    # two handlers could hand it to each other without an end
    run = subprocess.run(
        [sys.executable, "-c", FOREIGN, path, faulthandler], capture_output=True, check=False, timeout=600
    )
    # a handler that thinks ours is the one before it calls that on a stack which is too small for it
    assert -run.returncode in ({signal.SIGBUS, signal.SIGSEGV} if faulthandler == "after" else {signal.SIGBUS})
    assert run.stdout == b"0\n"
    assert (b"Bus error" in run.stderr) is (faulthandler != "never")


def test_an_address_is_forgotten_with_its_mapping(path: Path) -> None:
    view = opened(path)
    address = view.__array_interface__["data"][0]
    (handler,) = file_faults._HANDLER
    assert address in handler.mappings
    del view
    assert address not in handler.mappings
