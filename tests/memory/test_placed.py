"""Files at addresses that the user gives, and where machines without headers have their RAM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import kallsift
from kallsift.memory.formats.files_at_addresses import Part
from kallsift.memory.memory import AddressSpace
from kallsift.memory.ram_layouts import FROM_ZERO, LAYOUTS, QEMU_RAM, RamLayout
from tests.memory.opened import ranges
from tests.memory.writers.microvm import CLOUD_HYPERVISOR, FIRECRACKER, Regions

LOW, HIGH = b"low" * 1000, b"high" * 1000


@pytest.fixture
def names(tmp_path: Path) -> tuple[str, str]:
    """Two files, one of which has a comma and an @ in its name."""
    low, high = tmp_path / "DDRCS0.BIN", tmp_path / "DDR,CS@1.BIN"
    low.write_bytes(LOW)
    high.write_bytes(HIGH)
    return str(low), str(high)


def test_every_way_of_writing_it(names: tuple[str, str]) -> None:
    low, high = names
    ways: tuple[str | Sequence[Part | str], ...] = (
        f"{low}@0x80000000,{high}@4294967296",
        [f"{high}@0x100000000", f"{low}@0x80000000"],
        [(low, 0x80000000), (Path(high), 1 << 32)],
    )
    for source in ways:
        with kallsift.open(source) as memory:
            assert (memory.container, memory.space) == ("files at addresses", AddressSpace.PHYSICAL)
            assert ranges(memory) == {0x80000000: LOW, 1 << 32: HIGH}


def test_a_file_of_that_very_name_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "dump@0x1000"
    path.write_bytes(b"raw" * 3000)
    with kallsift.open(str(path)) as memory:
        assert memory.container == "raw"


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("{low}@0x1000,{high}", "no such file"),
        ("{low}@0x1000,{high}@0x1010", "overlap"),
        ("{low}@0xffffffffffffffff", "does not fit"),
        ("{low}.not@0x1000", "no such file"),
    ],
)
def test_what_is_wrong_is_told(names: tuple[str, str], written: str, reason: str) -> None:
    low, high = names
    with pytest.raises(kallsift.SourceError, match=reason):
        kallsift.open(written.format(low=low, high=high))
    with pytest.raises(kallsift.SourceError, match="FILE@ADDRESS"):
        kallsift.open([low, f"{high}@0x1000"])


@pytest.mark.parametrize(
    "layout", dict.fromkeys((*LAYOUTS, *(row[2] for row in QEMU_RAM))), ids=lambda layout: layout.machine
)
@pytest.mark.parametrize("size", [1 << 20, 2 << 30, 3 << 30, (3 << 30) + (512 << 20), 16 << 30])
def test_pieces_of_ram_are_all_of_it_and_never_overlap(layout: RamLayout, size: int) -> None:
    pieces = layout.pieces(size)
    assert sum(piece.size for piece in pieces) == size
    position = end = 0
    for piece in pieces:
        assert piece.offset == position
        assert piece.address >= end
        position, end = piece.offset + piece.size, piece.address + piece.size
    assert layout.below is None or pieces[0].size < 1 << 32


@pytest.mark.parametrize(
    ("program", "kind"),
    [(program, kind) for program in (FIRECRACKER, CLOUD_HYPERVISOR) for kind in program],
)
@pytest.mark.parametrize("size", [128 << 20, 3 << 30, (3 << 30) + (64 << 20), 4 << 30, 64 << 30])
def test_memory_files_of_small_hypervisors(program: dict[str, Callable[[int], Regions]], kind: str, size: int) -> None:
    """Some layout has each byte where the program's own source has it."""
    regions = program[kind](size)
    known = [[(piece.address, piece.size) for piece in layout.pieces(size)] for layout in (*LAYOUTS, FROM_ZERO)]
    assert regions in known
