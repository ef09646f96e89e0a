"""A guest that runs while it is read: its own table comes out by every way to it, and it goes on running.

Both its processors go in and out of the kernel all the time, with page-table isolation. Its /proc/kcore is genuine:
the guest itself copied the headers and the RAM out; only where in the file the RAM lies is changed to where the copy
has it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import kallsift
from kallsift.memory.formats import proc_kcore
from kallsift.memory.formats.elf_headers import LOAD, read_headers
from kallsift.memory.live import qemu
from kallsift.memory.memory import AddressSpace
from tests.lab import guest_named
from tests.lab.live import Living, living
from tests.real.comparison import text_of

pytestmark = pytest.mark.lab

GUEST = os.environ.get("KALLSIFT_LAB_LIVE", "amd64-7.2")
MOST = 32 << 20
"""Bytes of the guest that a stub may be asked for."""
COPIED = 1 << 16
"""Bytes of /proc/kcore before the RAM in the guest's copy of it."""
ATTEMPTS = 40
KERNEL_HALF = 1 << 63
NOWHERE = (1 << 64) - 1
"""Physical address in /proc/kcore of what is mapped page by page."""
TOP = 0xFFFF_FFFF << 32
"""Where x86-64 maps its image and modules."""


@pytest.fixture(scope="module")
def guest() -> Iterator[Living]:
    with living(guest_named(GUEST)) as found:
        yield found


def outcomes(kernel: kallsift.Kernel) -> dict[str, kallsift.Outcome]:
    return {check.name: check.outcome for check in kernel.evidence}


def runs(guest: Living) -> bool:
    return bool(guest.paused.qmp.do("query-status")["running"])


@pytest.mark.parametrize("way", list(qemu.WAYS))
def test_every_way_to_a_running_guest(guest: Living, way: str) -> None:
    with qemu.open("guest", str(guest.qmp), ways=(way,)) as memory:
        assert memory.container == f"QEMU guest ({way})"
        kernel = kallsift.recover(memory)
    assert text_of(kernel) == guest.core_kallsyms()
    assert kernel.proven
    if GUEST.startswith("amd64"):
        assert outcomes(kernel)["CR3"] is outcomes(kernel)["IDT"] is kallsift.Outcome.PASSED
    assert runs(guest)


def test_every_way_gives_the_same_bytes(guest: Living) -> None:
    guest.paused.qmp.do("stop")
    try:
        with qemu.open("guest", str(guest.qmp), ways=("pmemsave",)) as saved:
            pass  # QEMU talks to one client at a time
        for way in ("memory file", "process memory"):
            with qemu.open("guest", str(guest.qmp), ways=(way,)) as memory:
                (ours,), (theirs,) = memory.segments, saved.segments
                for low in range(0, theirs.size, 1 << 22):
                    assert np.array_equal(ours.read(low, low + (1 << 22)), theirs.read(low, low + (1 << 22)))
    finally:
        guest.paused.qmp.do("cont")


def test_the_command_pauses_and_resumes(guest: Living, tmp_path: Path) -> None:
    output = tmp_path / "symbols"
    command = [sys.executable, "-m", "kallsift", "symbols", "--core", "--pause", f"qemu:{guest.qmp}", "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert output.read_bytes() == guest.core_kallsyms()
    assert runs(guest)


def test_a_paused_guest_stands_still(guest: Living) -> None:
    with kallsift.open(f"qemu:{guest.qmp}", pause=True):
        assert not runs(guest)
    assert runs(guest)


@pytest.mark.parametrize("in_kernel", [True, False], ids=["kernel", "program"])
def test_a_stub_is_asked_for_little(guest: Living, in_kernel: bool) -> None:
    """Wherever the processor is when the stub stops it: in a program, isolated tables show it no kernel."""
    for _ in range(ATTEMPTS):
        with kallsift.open(f"gdb:{guest.gdb}") as memory:
            registers = memory.hints.cpus[0].registers
            if (registers.get("rip", registers.get("pc", 0)) >= KERNEL_HALF) is in_kernel:
                assert not runs(guest)
                kernel = kallsift.recover(memory)
                break
        time.sleep(0.05)
    else:
        pytest.skip("the processor was never there")
    assert text_of(kernel) == guest.core_kallsyms()
    assert kernel.proven
    assert memory.fetched is not None
    assert memory.fetched.bytes_in_all < MOST
    assert runs(guest)


def test_all_of_kallsyms_through_a_stub(guest: Living, tmp_path: Path) -> None:
    """Modules and all, which lie anywhere."""
    output = tmp_path / "symbols"
    command = [sys.executable, "-m", "kallsift", "symbols", f"gdb:{guest.gdb}", "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert output.read_bytes() == guest.paused.truth["kallsyms"]


def test_a_stub_by_the_command(guest: Living) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kallsift", "info", f"gdb:{guest.gdb}"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "GDB stub" in done.stdout
    assert "bytes of it read" in done.stdout
    assert runs(guest)


@pytest.fixture
def copied(guest: Living, tmp_path: Path) -> Path:
    """The guest's copy of /proc/kcore, whose headers say where in it the RAM is."""
    path = tmp_path / "copy"
    shutil.copyfile(guest.kcore, path)
    view = np.memmap(path, np.uint8, "r+")
    programs = read_headers("copy", view).programs
    place = COPIED
    for program in programs:
        if program["type"] == LOAD and program["physical"] != NOWHERE and program["virtual"] < TOP:
            program["offset"] = place
            place += int(program["file_size"])
    assert place <= len(view)
    view.flush()
    return path


@pytest.mark.parametrize("mapped", [True, False], ids=["copy", "blocks"])
def test_kcore(guest: Living, copied: Path, mapped: bool) -> None:
    with kallsift.open(copied) if mapped else proc_kcore.open_live("kcore", str(copied)) as memory:
        assert memory.space is AddressSpace.PHYSICAL
        assert (memory.hints.vmcoreinfo or b"").startswith(b"OSRELEASE=")
        kernel = kallsift.recover(memory)
    assert text_of(kernel) == guest.core_kallsyms()
    assert kernel.proven
    assert outcomes(kernel)["VMCOREINFO"] is kallsift.Outcome.PASSED


def test_kcore_of_an_old_kernel(guest: Living, copied: Path) -> None:
    """As kernels before 4.11 wrote it: no physical addresses, so RAM is where the direct map has it."""
    if not GUEST.startswith("amd64"):
        pytest.skip("the image is told by where x86-64 maps it")
    view = np.memmap(copied, np.uint8, "r+")
    programs = read_headers("copy", view).programs
    loads = [program for program in programs if program["type"] == LOAD and program["physical"] != NOWHERE]
    (image,) = (program for program in loads if program["virtual"] >= TOP)
    inside = [int(image["physical"]) - int(program["physical"]) for program in loads]
    (holder,) = (program for program, at in zip(loads, inside, strict=True) if 0 < at < program["file_size"])
    image["offset"] = int(holder["offset"]) + int(image["physical"]) - int(holder["physical"])
    programs["physical"] = 0
    view.flush()
    with proc_kcore.open_live("kcore", str(copied)) as memory:
        assert memory.space is AddressSpace.PHYSICAL
        kernel = kallsift.recover(memory)
    assert text_of(kernel) == guest.core_kallsyms()
    assert kernel.proven
