"""The same guest in every container: its own table comes out, byte for byte, and so does every page.

What QEMU writes is genuine. libvirt's save files are its genuine stream, compressed by the genuine tools, behind a
header of ours. VMware's states are written by the tests.
"""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

import kallsift
from tests.components import needs
from tests.lab import Capture, guest_named
from tests.lab.containers import CONTAINERS, GUESTS, LIVE, container, saved
from tests.lab.dumps import make_sparse
from tests.memory.writers.libvirt import header
from tests.memory.writers.vmware import regions, state, tag
from tests.real.comparison import compare, text_of, wrong_letters

pytestmark = pytest.mark.lab

CHOSEN = os.environ.get("KALLSIFT_LAB_CONTAINERS", "").split()
"""Guests, by name; where none are, the first of the lab's, and only what is quick."""

TOOLS = {
    "raw": ("cat",),
    "gzip": ("gzip", "-1"),
    "bzip2": ("bzip2", "-1"),
    "xz": ("xz", "-0"),
    "lzop": ("lzop", "-1"),
    "zstd": ("zstd", "-1"),
}
"""What libvirt has for each of its formats, at its fastest."""
QUICK = ("raw", "gzip", "lzop", "zstd")

PAGE = 4096
AT_ONCE = 1 << 22
WINDOW = 1 << 20
"""Bytes at the start of a PC that are not all RAM."""

MISSED = 64
"""Pages of a guest that runs while it is migrated whose last content QEMU may fail to send: without KVM, on a busy
host, it misses some writes of the moment in which it stops the guest. That content is nowhere in the stream."""


@pytest.fixture(scope="session", params=CHOSEN or GUESTS[:1])
def capture(request: pytest.FixtureRequest) -> Capture:
    """A guest's memory in all containers."""
    return saved(guest_named(request.param))


def first_address(capture: Capture) -> int:
    """Where the RAM begins, and with it the raw dumps."""
    return int(capture.manifest["memory"][0][0], 16)


def opened(source: Path | str) -> kallsift.Memory:
    try:
        return kallsift.open(source)
    except kallsift.SourceError as error:
        if "cannot be read yet" in str(error):
            pytest.skip(str(error))
        raise


def assert_same(memory: kallsift.Memory, capture: Capture, raw: str = "raw", missed: int = 0) -> kallsift.Kernel:
    """Every byte that is mapped in the RAM is that of the raw dump, all RAM is mapped, and the table is the guest's.

    Of as many pages as may be ``missed`` the content in the raw dump must be nowhere in the source.
    """
    reference, start = container(capture, raw), first_address(capture)
    assert reference is not None
    expected = np.memmap(reference, np.uint8, "r")
    compared = 0
    differing: list[int] = []
    for segment in memory.segments:
        low, high = max(segment.start, start), min(segment.end, start + len(expected))
        for place in range(low, high, AT_ONCE):
            data = segment.read(place - segment.start, min(place + AT_ONCE, high) - segment.start)
            there = expected[place - start : place - start + len(data)]
            if not np.array_equal(data, there):
                differing += (place + np.unique(np.flatnonzero(data != there) // PAGE) * PAGE).tolist()
            compared += len(data)
    assert len(differing) <= missed, f"{len(differing)} pages differ from {differing[0]:#x} on"
    for place in differing:
        assert expected[place - start : place - start + PAGE].tobytes() not in Path(memory.source).read_bytes()
    assert compared >= sum(int(size, 16) for _, size in capture.manifest["memory"]) - WINDOW
    kernel = kallsift.recover(memory)
    assert kernel.proven
    assert compare(text_of(kernel), capture.core_kallsyms(), wrong_letters(kernel.memory, kernel)).same
    return kernel


def outcomes(kernel: kallsift.Kernel) -> dict[str, kallsift.Outcome]:
    return {check.name: check.outcome for check in kernel.evidence}


@pytest.mark.parametrize("name", CONTAINERS)
def test_what_qemu_writes(capture: Capture, name: str) -> None:
    path = container(capture, name)
    if path is None:
        pytest.skip(f"this build of QEMU does not write {name}")
    at = f"@{first_address(capture):#x}" if name == "raw" else ""
    with opened(f"{path}{at}") as memory:
        assert_same(memory, capture)


@pytest.mark.parametrize("kind", LIVE)
def test_a_machine_that_runs_while_it_is_migrated(capture: Capture, kind: str) -> None:
    """Some pages are in the stream twice."""
    path = container(capture, f"{kind}-migration")
    assert path is not None
    with opened(path) as memory:
        assert_same(memory, capture, f"{kind}-raw", MISSED)


def test_registers_of_a_stream_agree(capture: Capture) -> None:
    path = container(capture, "migration")
    assert path is not None
    with opened(path) as memory:
        assert len(memory.hints.cpus) == capture.manifest["guest"]["processors"]
        found = outcomes(kallsift.recover(memory))
    if "lstar" in memory.hints.cpus[0].registers:
        lstar = {f"{cpu.registers['lstar']:016x}" for cpu in memory.hints.cpus}
        assert sorted(lstar) == capture.manifest["lstar"]
        assert found["CR3"] is found["LSTAR"] is kallsift.Outcome.PASSED
    else:
        vectors = int(capture.manifest["landmarks"]["vectors"], 16)
        assert {cpu.registers["vbar"] for cpu in memory.hints.cpus} == {vectors}
        assert found["TTBR1"] is kallsift.Outcome.PASSED


@pytest.mark.parametrize("compression", TOOLS if CHOSEN else QUICK)
def test_libvirts_save_files(capture: Capture, compression: str, tmp_path: Path) -> None:
    tool, stream, path = TOOLS[compression], container(capture, "migration"), tmp_path / "guest.save"
    needs(tool[0])
    assert stream is not None
    with path.open("wb") as out, stream.open("rb") as source:
        out.write(header(compression))
        out.flush()
        subprocess.run(tool, stdin=source, stdout=out, check=True)
    with opened(path) as memory:
        assert memory.container == f"libvirt save file ({compression})"
        assert_same(memory, capture)


def test_vmwares_snapshot(capture: Capture, tmp_path: Path) -> None:
    """The file has the upper half of the RAM first: only the state beside it tells."""
    raw = container(capture, "raw")
    assert raw is not None
    data = np.memmap(raw, np.uint8, "r")
    half, first = len(data) // 2 // PAGE, first_address(capture) // PAGE
    with (tmp_path / "guest.vmem").open("wb") as out:
        data[half * PAGE :].tofile(out)
        data[: half * PAGE].tofile(out)
    make_sparse(tmp_path / "guest.vmem")
    upper = len(data) // PAGE - half
    placed = regions([(0, first + half, upper), (upper, first, half)])
    registers = tag("CR64", struct.pack("<Q", _root(capture)), 0, 3)
    (tmp_path / "guest.vmsn").write_bytes(state({"memory": placed, "cpu": registers}))
    with opened(tmp_path / "guest.vmem") as memory:
        kernel = assert_same(memory, capture)
    if capture.manifest["guest"]["architecture"] == "amd64":
        assert outcomes(kernel)["CR3"] is kallsift.Outcome.PASSED


def _root(capture: Capture) -> int:
    """CR3 of the first processor, if it has one."""
    lines = [line for line in capture.registers.splitlines() if "CR3=" in line]
    return int(lines[0].split("CR3=")[1].split()[0], 16) if lines else 0


def test_ram_whose_address_nothing_tells(capture: Capture) -> None:
    """As Firecracker, Cloud Hypervisor and memory-backend-file leave it: the page table tells where it was."""
    raw = container(capture, "raw")
    assert raw is not None
    with opened(raw) as memory:
        kernel = kallsift.recover(memory)
        assert kernel.proven
        assert compare(text_of(kernel), capture.core_kallsyms(), wrong_letters(kernel.memory, kernel)).same


def test_bare_ram_of_a_machine_with_a_hole(capture: Capture, tmp_path: Path) -> None:
    """As VMware leaves it without a state, and Firecracker: what lies behind the hole follows what lies before it."""
    raw, ranges = container(capture, "raw"), [[int(each, 16) for each in part] for part in capture.manifest["memory"]]
    assert raw is not None
    behind = sum(size for address, size in ranges if address >= 1 << 32)
    if not behind:
        pytest.skip("this guest has no hole")
    before = max(address + size for address, size in ranges if address < 1 << 32)
    data = np.memmap(raw, np.uint8, "r")
    with (tmp_path / "guest.vmem").open("wb") as out:
        data[:before].tofile(out)
        data[1 << 32 :].tofile(out)
    make_sparse(tmp_path / "guest.vmem")
    with opened(tmp_path / "guest.vmem") as memory:
        kernel = kallsift.recover(memory)
    assert kernel.proven
    assert outcomes(kernel)["hole"] is kallsift.Outcome.PASSED
    assert kernel.memory.segment_at((1 << 32) + behind - 1) is not None
    assert compare(text_of(kernel), capture.core_kallsyms(), wrong_letters(kernel.memory, kernel)).same
