"""What users know of processors reaches the recovery, and a wrong value is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from kallsift import CpuState, Hints, Memory
from kallsift.cli.options import source as source_options
from kallsift.kernel.kernel import Kernel
from kallsift.memory.memory import AddressSpace
from tests.cli.conftest import Command, Plant
from tests.output.sample import kernel


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, plant: Plant) -> list[Hints]:
    """The hints that the recovery gets."""
    plant(kernel())
    found: list[Hints] = []

    def recover(memory: Memory, **_: object) -> Kernel:
        found.append(memory.hints)
        return kernel()

    monkeypatch.setattr(source_options, "recover", recover)
    return found


def test_registers_are_handed_on(command: Command, seen: list[Hints]) -> None:
    result = command("info", "dump", "--lstar", "0xffffffff81a00080", "--cr3", "4096", "--idt", "0xfffffe0000000000")
    assert result.code == 0
    assert dict(seen[0].cpus[0].registers) == {
        "lstar": 0xFFFF_FFFF_81A0_0080,
        "cr3": 4096,
        "idt_base": 0xFFFF_FE00_0000_0000,
    }


def test_a_text_is_handed_on(command: Command, seen: list[Hints], tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"OSRELEASE=6.1\n")
    assert command("info", "dump", "--vmcoreinfo", str(tmp_path / "text")).code == 0
    assert seen[0] == Hints((), b"OSRELEASE=6.1\n")


@pytest.mark.parametrize("content", [b"", b"hello\n", b"MZ\0\0OSRELEASE"])
def test_a_file_without_vmcoreinfo_is_a_mistake(command: Command, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "text").write_bytes(content)
    result = command("info", "dump", "--vmcoreinfo", str(tmp_path / "text"))
    assert result.code == 2
    assert "has no line of VMCOREINFO" in result.err


def test_without_options_the_containers_hints_stay(command: Command, seen: list[Hints]) -> None:
    assert command("info", "dump").code == 0
    assert seen == [Hints()]


def test_what_a_user_says_goes_before_what_the_container_says() -> None:
    theirs = Hints((CpuState(0, {"cr3": 1, "rip": 2}), CpuState(1, {"cr3": 3})), b"old")
    memory = Memory("test", "test", AddressSpace.PHYSICAL, (), theirs)
    assert memory.with_hints(Hints((CpuState(0, {"cr3": 9}),))).hints == Hints(
        (CpuState(0, {"cr3": 9, "rip": 2}), CpuState(1, {"cr3": 9})), b"old"
    )
    assert memory.with_hints(Hints()).hints == theirs


def test_no_address_is_an_error_of_usage(command: Command, seen: list[Hints]) -> None:
    result = command("info", "dump", "--lstar", "entry")
    assert (result.code, seen) == (2, [])
    assert "is not an address" in result.err


def test_word_size_and_byte_order_are_handed_on(command: Command, seen: list[Hints]) -> None:
    assert command("info", "dump", "--word-size", "32", "--byte-order", "big").code == 0
    assert command("info", "dump", "--word-size", "64", "--byte-order", "little").code == 0
    assert seen == [Hints(word_size=4, byte_order=">"), Hints(word_size=8, byte_order="<")]


def test_no_other_word_size(command: Command, seen: list[Hints]) -> None:
    result = command("info", "dump", "--word-size", "16")
    assert (result.code, seen) == (2, [])
