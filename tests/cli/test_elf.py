"""``kallsift elf``: where it is written to, what is said, and the exit code."""

from __future__ import annotations

from pathlib import Path

from elftools.elf.elffile import ELFFile

from tests.cli.conftest import Command, Plant
from tests.kernel.made_up import made_up
from tests.output.elf_kernel import BASE, SLIDE, built
from tests.output.sample import kernel, unproven
from tests.types.typed_kernel import kernel_types, typed_kernel


def entry(path: Path) -> int:
    """Where the program in a file begins."""
    with path.open("rb") as stream:
        return int(ELFFile(stream)["e_entry"])


def test_the_file_is_written_whole(command: Command, plant: Plant, tmp_path: Path) -> None:
    plant(built())
    target = tmp_path / "vmlinux.elf"
    result = command("elf", "dump", "-o", target)
    assert (result.code, result.out) == (0, "")
    assert result.err == "kallsift: warning: no build ID was found\n"
    assert entry(target) == BASE
    assert command("elf", "dump", "--unslid", "-o", target).code == 0
    assert entry(target) == BASE - SLIDE
    assert list(tmp_path.iterdir()) == [target]


def test_a_place_is_needed(command: Command, plant: Plant) -> None:
    plant(built())
    result = command("elf", "dump")
    assert result.code == 2
    assert "-o" in result.err


def test_missing_pages_end_with_3(command: Command, plant: Plant, tmp_path: Path) -> None:
    plant(kernel())
    result = command("elf", "dump", "-o", tmp_path / "out")
    assert result.code == 3
    assert "are not in the source" in result.err


def test_an_unproven_kernel_ends_with_3(command: Command, plant: Plant, tmp_path: Path) -> None:
    plant(unproven())
    result = command("elf", "dump", "-o", tmp_path / "out")
    assert result.code == 3
    assert "not proven" in result.err


def test_an_unknown_slide_leaves_the_old_file(command: Command, plant: Plant, tmp_path: Path) -> None:
    plant(built(kaslr_slide=None))
    target = tmp_path / "out"
    target.write_text("before")
    result = command("elf", "dump", "--unslid", "-o", target)
    assert result.code == 1
    assert "slide is not known" in result.err
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_all_kernels_go_to_numbered_files(command: Command, plant: Plant, tmp_path: Path) -> None:
    plant(built(), built())
    assert command("elf", "dump", "--all", "-o", tmp_path / "out").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.0", "out.1"]


def test_the_source_is_never_overwritten(command: Command, plant: Plant, tmp_path: Path) -> None:
    plant(built(), built())
    source = tmp_path / "dump.0"
    source.write_text("precious")
    for arguments in (["-o", source], ["--all", "-o", tmp_path / "dump"]):
        result = command("elf", source, *arguments)
        assert result.code == 2
        assert "is read by this command" in result.err
    assert source.read_text() == "precious"


def test_the_machine_can_be_named(command: Command, plant: Plant, tmp_path: Path) -> None:
    plant(built(architecture=None))
    target = tmp_path / "out"
    assert "--machine" in command("elf", "dump", "-o", target).err
    assert "--machine" not in command("elf", "dump", "--machine", "riscv64", "-o", target).err
    assert command("elf", "dump", "--machine", "pdp11", "-o", target).code == 2


def test_types(command: Command, plant: Plant, tmp_path: Path) -> None:
    plant(typed_kernel())
    target = tmp_path / "out"
    result = command("elf", "dump", "--types", "--modules", "-o", target)
    assert (result.code, result.err) == (0, "kallsift: warning: no build ID was found\n")
    with target.open("rb") as stream:
        names = [name for unit in ELFFile(stream).get_dwarf_info().iter_CUs() for name in [unit.get_top_DIE()]]
        assert [each.attributes["DW_AT_name"].value for each in names] == [b"vmlinux", b"made"]
    assert command("elf", "dump", "-o", target).code == 0
    with target.open("rb") as stream:
        assert not ELFFile(stream).has_dwarf_info()


def test_types_of_a_kernel_without_any(command: Command, plant: Plant, tmp_path: Path) -> None:
    rows = [(symbol.address, symbol.type, symbol.name) for symbol in typed_kernel().symbols]
    plant(made_up(rows=[row for row in rows if "BTF" not in row[2]]))
    target, file = tmp_path / "out", tmp_path / "btf"
    result = command("elf", "dump", "--types", "-o", target)
    assert result.code == 1
    assert result.err.endswith("; name a file of the same build (--btf FILE)\n")
    assert len(result.err.splitlines()) == 1
    file.write_bytes(kernel_types().data())
    assert command("elf", "dump", "--types", "--btf", file, "-o", target).code == 0
    file.write_bytes(b"nothing")
    result = command("elf", "dump", "--types", "--btf", file, "-o", target)
    assert result.code == 1
    assert "it is not BTF" in result.err


def test_types_of_one_kernel_of_several(command: Command, plant: Plant, tmp_path: Path) -> None:
    plant(typed_kernel(), made_up())
    result = command("elf", "dump", "--all", "--types", "-o", tmp_path / "out")
    assert result.code == 3
    assert "out.1: this kernel carries no types" in result.err
    assert (tmp_path / "out.1").exists()


def test_options_about_types_need_types(command: Command, plant: Plant, tmp_path: Path) -> None:
    plant(typed_kernel())
    for options in (["--modules"], ["--btf", tmp_path / "btf"]):
        result = command("elf", "dump", *options, "-o", tmp_path / "out")
        assert result.code == 2
        assert "need --types" in result.err
