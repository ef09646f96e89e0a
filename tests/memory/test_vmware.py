"""VMware's saved states: RAM beside them and inside of them, regions, registers, and what is wrong in one line."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kallsift
from kallsift.memory.formats import vmware
from kallsift.memory.memory import AddressSpace
from tests.examples import examples
from tests.memory.opened import open_bytes, ranges, read_or_refuse, refusal, view_of
from tests.memory.strategies import damaged
from tests.memory.writers.vmware import block, regions, state, tag

PAGE = 4096
RAM = b"".join(struct.pack("<QQ", number, 5) * 256 for number in range(6))
SPLIT = [(0, 0, 4), (4, 0x100000, 2)]
"""Four pages at 0 and two at 4 GiB."""
PLACED = {0: RAM[: 4 * PAGE], 1 << 32: RAM[4 * PAGE :]}


def word(value: int) -> bytes:
    return struct.pack("<Q", value)


def half(value: int) -> bytes:
    return struct.pack("<I", value)


FAR_REGION = regions([(0, 0, 4), (4, 0, 1)]).replace(tag("regionPPN", half(0), 1), tag("regionPPN", word(1 << 60), 1))

CPU = tag("cpu:numVCPUs", half(2))
for _number in range(2):
    CPU += tag("rip", word(0xFFFFFFFF81000000 + _number), _number)
    CPU += b"".join(tag("CR64", word(0x1000 * each + _number), _number, each) for each in (0, 2, 3, 4))
    CPU += tag("IDTR", half(0xFFF), _number, 0) + tag("IDTR", half(_number), _number, 1)
    CPU += tag("IDTR", half(0xFFFFFE00), _number, 2)


def files(tmp_path: Path, ending: str, groups: dict[str, bytes]) -> tuple[Path, Path]:
    """A state and its RAM."""
    ram, saved = tmp_path / "guest-1.vmem", tmp_path / f"guest-1{ending}"
    ram.write_bytes(RAM)
    saved.write_bytes(state(groups))
    return ram, saved


@pytest.mark.parametrize("ending", [".vmss", ".vmsn"])
def test_ram_beside_a_state_whichever_is_named(tmp_path: Path, ending: str) -> None:
    for path in files(tmp_path, ending, {"memory": regions(SPLIT), "cpu": CPU}):
        with kallsift.open(path) as memory:
            assert (memory.container, memory.space) == ("VMware saved state", AddressSpace.PHYSICAL)
            assert memory.source == str(path)
            assert ranges(memory) == PLACED
            assert [cpu.number for cpu in memory.hints.cpus] == [0, 1]
            assert memory.hints.cpus[1].registers == {
                "rip": 0xFFFFFFFF81000001,
                "cr0": 1,
                "cr3": 0x3001,
                "cr4": 0x4001,
                "idt_base": 0xFFFFFE0000000001,
            }


def test_ram_without_regions_lies_at_zero(tmp_path: Path) -> None:
    _, saved = files(tmp_path, ".vmss", {"memory": regions([])})
    with kallsift.open(saved) as memory:
        assert ranges(memory) == {0: RAM}


def test_a_bare_vmem_is_raw_memory(tmp_path: Path) -> None:
    path = tmp_path / "guest.vmem"
    path.write_bytes(RAM)
    (tmp_path / "guest.vmss").write_bytes(b"no state of VMware's")
    with kallsift.open(path) as memory:
        assert memory.container == "raw"


@pytest.mark.parametrize(("magic", "old"), [(0xBED2BED2, False), (0xBAD1BAD1, False), (0xBED0BED0, True)])
def test_ram_inside_of_the_state(magic: int, old: bool) -> None:
    groups = {"memory": regions(SPLIT) + block("Memory", RAM, 0, 0, padding=77, old=old)}
    assert ranges(open_bytes(vmware, state(groups, magic))) == PLACED


def test_registers_in_blocks() -> None:
    control = b"".join(word(0x10 + each) for each in range(9))
    cpu = block("CR64", control, 0) + block("IDTR", struct.pack("<HQ", 0xFFF, 0xFFFFFE0000000000), 0)
    groups = {"cpu": cpu + tag("LSTAR", word(0x157A), 0), "memory": block("Memory", RAM)}
    (only,) = open_bytes(vmware, state(groups)).hints.cpus
    assert only.registers == {"cr0": 0x10, "cr3": 0x13, "cr4": 0x14, "idt_base": 0xFFFFFE0000000000, "lstar": 0x157A}


def test_ram_that_is_cut_short_is_told() -> None:
    memory = vmware.open_pair(
        "test", view_of(state({"memory": regions(SPLIT)})), view_of(RAM[: 5 * PAGE]), lambda: None
    )
    assert ranges(memory) == {0: RAM[: 4 * PAGE], 1 << 32: RAM[4 * PAGE : 5 * PAGE]}
    assert "cut short" in memory.notes[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (state({"memory": regions(SPLIT)}), "put that into the same folder"),
        (state({"memory": block("Memory", RAM, packed=True)}), "compressed"),
        (state({"memory": block("Memory", RAM)})[:40], "groups"),
        (state({})[:9], "inside its header"),
        (struct.pack("<III", 0xBED2BED2, 8, 1 << 31) + bytes(99), "groups"),
        (state({"memory": tag("regionsCount", half(1)) + block("Memory", RAM)}), "the address of memory region 0"),
        (state({"memory": tag("regionsCount", half(1 << 30)) + block("Memory", RAM)}), "more than any machine"),
    ],
)
def test_what_is_wrong_is_told(content: bytes, reason: str) -> None:
    assert reason in refusal(vmware, content)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (regions([(0, 0, 4), (0, 2, 4)]), "region 0x2000-0x5fff overlaps earlier regions: it is left out"),
        (regions(SPLIT[:1] * 2).replace(b"regionPPN", b"region???"), "the address of memory region 0 is missing"),
        (FAR_REGION, "memory region 1 has the invalid address 0x1000000000000000000"),
        (regions([(0, 0, 4)]).replace(half(1), half(2), 1), "the address of memory region 1 is missing"),
    ],
)
def test_a_damaged_region_is_left_out(lines: bytes, reason: str) -> None:
    content = state({"memory": lines + block("Memory", RAM)})
    if b"region???" in lines:
        assert reason in refusal(vmware, content)
        return
    memory = open_bytes(vmware, content)
    assert ranges(memory) == {0: RAM[: 4 * PAGE]}
    assert reason in memory.notes[0]


@settings(derandomize=True, max_examples=examples(200))
@given(st.one_of(damaged(state({"memory": regions(SPLIT) + block("Memory", RAM), "cpu": CPU}))))
def test_damaged_states_are_read_or_refused(content: bytes) -> None:
    read_or_refuse(vmware, content)
