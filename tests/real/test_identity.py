"""The claim: what kallsift prints is what the guest's own kernel printed, from every container, with KASLR on."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import kallsift
from kallsift.kallsyms.evidence import CheckId
from tests.real.comparison import compare, text_of, wrong_letters
from tests.real.conftest import GUESTS, Taken, memory_of, writable
from tests.real.listed import running

ARCHITECTURES = {
    "amd64": "x86-64",
    "i386": "x86",
    "arm64": "arm64",
    "armhf": "arm",
    "riscv64": "riscv64",
    "s390x": "s390x",
    "ppc64el": "ppc64",
    "mips64el": "mips64",
    "mipsel": "mips",
    "loong64": "loongarch64",
}
"""Debian's names and ours."""

LINKED_ANYWHERE = ("mips64el", "mipsel")
"""Architectures whose kernels are linked at addresses of the board's choice, which nothing in them tells."""


@pytest.mark.parametrize("container", ["raw", "elf", "lime"])
@pytest.mark.parametrize("guest", GUESTS)
def test_symbols_are_the_guests_own(taken: Taken, guest: str, container: str, tmp_path: Path) -> None:
    capture = taken(guest)
    dump, output = capture.dump(container), tmp_path / "symbols"
    command = [sys.executable, "-m", "kallsift", "symbols", "--core", str(dump), "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    kernel = running(dump)
    found = compare(output.read_bytes(), capture.core_kallsyms(), wrong_letters(kernel.memory, kernel))
    assert found.same, found.first
    assert found.lines == len(kernel.symbols)


@pytest.mark.parametrize("guest", GUESTS)
def test_the_slide_and_the_banner_are_right(taken: Taken, guest: str) -> None:
    capture = taken(guest)
    architecture = capture.manifest["guest"]["architecture"]
    kernel = running(capture.dump("raw"))
    if architecture in LINKED_ANYWHERE:
        assert kernel.kaslr_slide is None
    else:
        assert bool(kernel.kaslr_slide) is capture.manifest["kaslr_seen"]
    assert kernel.architecture == ARCHITECTURES[architecture]
    assert kernel.banner == capture.truth("version").decode().strip()


@pytest.mark.parametrize("guest", GUESTS)
def test_nothing_is_needed_but_the_bytes(taken: Taken, guest: str) -> None:
    """Without notes, and with every VMCOREINFO in memory blanked."""
    capture = taken(guest)
    data = writable(capture)
    pages = data[: len(data) // 4096 * 4096].reshape(-1, 4096)
    start = np.frombuffer(b"OSRELEASE=", np.uint8)
    for page in np.flatnonzero((pages[:, : len(start)] == start).all(axis=1)):
        pages[page] = 0
    memory = memory_of(data)
    kernel = kallsift.recover(memory)
    checks = {check.name: check.outcome for check in kernel.evidence}
    assert checks[CheckId.VMCOREINFO] is kallsift.Outcome.ABSENT
    assert checks[CheckId.CR3] is kallsift.Outcome.ABSENT
    assert kernel.proven
    assert compare(text_of(kernel), capture.core_kallsyms(), wrong_letters(memory, kernel)).same


@pytest.mark.parametrize("guest", GUESTS)
def test_lookups_agree_with_the_guests_table(taken: Taken, guest: str) -> None:
    capture = taken(guest)
    symbols = running(capture.dump("elf")).symbols
    lines = [line.split() for line in capture.core_kallsyms().decode("latin-1").splitlines()]
    by_name: dict[str, list[int]] = {}
    for number, _, name in lines:
        by_name.setdefault(name, []).append(int(number, 16))
    for name in list(by_name)[:: max(1, len(by_name) // 200)]:
        assert [symbol.address for symbol in symbols.all(name)] == by_name[name]
    address = by_name["_stext"][0]
    found = symbols.at(address + 1)
    assert found is not None
    assert found.symbol.address + found.offset == address + 1
    assert symbols.at(int(lines[0][0], 16) - 1) is None or int(lines[0][0], 16) == 0


@pytest.mark.parametrize("guest", [name for name in GUESTS if name.startswith("amd64")])
def test_registers_of_the_dump_agree(taken: Taken, guest: str) -> None:
    kernel = running(taken(guest).dump("elf"))
    assert {check.name: check.outcome for check in kernel.evidence}[CheckId.CR3] is kallsift.Outcome.PASSED


def test_another_machines_registers_are_noticed(taken: Taken) -> None:
    """A CR3 that maps nothing of this kernel: the table is whole, but it is not called proven."""
    with kallsift.open(taken("amd64-7.2").dump("elf")) as memory:
        cpus = tuple(replace(cpu, registers={**cpu.registers, "cr3": 0x1000}) for cpu in memory.hints.cpus)
        kernel = kallsift.recover(replace(memory, hints=replace(memory.hints, cpus=cpus)))
    assert {check.name: check.outcome for check in kernel.evidence}[CheckId.CR3] is kallsift.Outcome.FAILED
    assert not kernel.proven
