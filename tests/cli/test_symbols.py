"""``kallsift symbols``: what is written, where to, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kallsift.output.symbols.kallsyms import kallsyms_text
from tests.cli.conftest import Command, Plant
from tests.output.sample import ROWS, kernel, unproven

TEXT = b"".join(kallsyms_text(kernel())).decode()


def test_the_table_goes_to_standard_output(command: Command, plant: Plant) -> None:
    plant(kernel())
    result = command("symbols", "dump")
    assert (result.code, result.out, result.err) == (0, TEXT, "")
    assert command("symbols", "dump", "--core").out == TEXT


def test_an_unproven_kernel_is_printed_with_a_warning(command: Command, plant: Plant) -> None:
    plant(unproven())
    result = command("symbols", "dump")
    assert (result.code, result.out) == (3, TEXT)
    assert result.err == "kallsift: warning: not proven (state stale copy; failed: page table)\n"


def test_verbose_prints_the_evidence(command: Command, plant: Plant) -> None:
    plant(kernel())
    assert command("symbols", "dump", "-v").err.splitlines() == [
        "✓ markers: all 3 markers equal the offsets of entries",
        "– CR3: the source records no CR3",  # noqa: RUF001 - the dash is meant
    ]


@pytest.mark.parametrize("form", ["kallsyms", "system.map", "csv"])
def test_all_kernels_need_files(command: Command, plant: Plant, tmp_path: Path, form: str) -> None:
    plant(kernel(), kernel(ROWS[:3]))
    refused = command("symbols", "dump", "--all", "--format", form)
    assert refused.code == 2
    assert "-o FILE" in refused.err
    assert command("symbols", "dump", "--all", "--format", form, "-o", tmp_path / "out").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.0", "out.1"]


def test_json_holds_all_kernels(command: Command, plant: Plant) -> None:
    plant(kernel(), unproven())
    result = command("symbols", "dump", "--all", "--format", "json")
    assert [one["state"] for one in json.loads(result.out)["kernels"]] == ["running", "stale copy"]
    assert result.code == 3
    assert result.err == "kallsift: warning: kernel 1: not proven (state stale copy; failed: page table)\n"


def test_one_of_several_kernels(command: Command, plant: Plant) -> None:
    plant(kernel(), kernel(ROWS[:3]))
    assert command("symbols", "dump", "--kernel", "1").out.count("\n") == 3
    missing = command("symbols", "dump", "--kernel", "2")
    assert missing.code == 1
    assert missing.err == ("kallsift: there is no kernel 2 in this source, kernels 0 to 1; 'info --all' lists them\n")


def test_a_file_is_replaced_whole(command: Command, plant: Plant, tmp_path: Path) -> None:
    plant(kernel())
    target = tmp_path / "out"
    target.write_text("before")
    assert command("symbols", "dump", "-o", target).code == 0
    assert target.read_text() == TEXT
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_leaves_the_old_file(command: Command, plant: Plant, tmp_path: Path) -> None:
    plant(unproven())
    target = tmp_path / "out"
    target.write_text("before")
    result = command("symbols", "dump", "--format", "system.map", "-o", target)
    assert result.code == 1
    assert "slide is unknown" in result.err
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_is_followed(command: Command, plant: Plant, tmp_path: Path) -> None:
    plant(kernel())
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    assert command("symbols", "dump", "-o", link).code == 0
    assert link.is_symlink()
    assert (tmp_path / "real").read_text() == TEXT


def test_a_device_is_written_to_and_stays_a_device(command: Command, plant: Plant) -> None:
    plant(kernel())
    assert command("symbols", "dump", "-o", "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()


def test_a_full_disk_is_one_line(command: Command, plant: Plant) -> None:
    plant(kernel())
    result = command("symbols", "dump", "-o", "/dev/full")
    assert (result.code, result.err) == (
        1,
        "kallsift: /dev/full: No space left on device; free some space, or write to another disk\n",
    )


def test_the_source_is_never_overwritten(command: Command, plant: Plant, tmp_path: Path) -> None:
    plant(kernel(), kernel())
    source = tmp_path / "dump.0"
    source.write_text("precious")
    (tmp_path / "alias").symlink_to(source)
    for arguments in (["-o", source], ["-o", tmp_path / "alias"], ["--all", "-o", tmp_path / "dump"]):
        result = command("symbols", source, *arguments)
        assert result.code == 2
        assert "is read by this command" in result.err
    assert source.read_text() == "precious"


def test_targets_that_cannot_be_are_refused_before_any_work(command: Command, tmp_path: Path) -> None:
    assert "is a folder" in command("symbols", "nowhere", "-o", tmp_path).err
    missing = command("symbols", "nowhere", "-o", tmp_path / "no" / "out")
    assert (missing.code, "There is no folder" in missing.err) == (2, True)
