"""Pages that do not unpack are told once, behind the answer, and are said to be zeros where they are written out."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Command
from tests.memory.writers import kdump

PAGES = {number: number.to_bytes(4, "little") * 1024 for number in range(1, 40)}
REMARK = "kallsift: warning: 1 of 39 pages did not unpack; they are read as holes\n"


def _damaged(folder: Path) -> Path:
    content = bytearray(kdump.kdump(PAGES))
    content[-3] ^= 1
    (folder / "dump").write_bytes(content)
    return folder / "dump"


def test_convert_tells_and_ends_with_3(command: Command, tmp_path: Path) -> None:
    result = command("convert", "--as-is", _damaged(tmp_path), tmp_path / "out.raw")
    assert (result.code, result.err) == (3, REMARK)
    expected = PAGES | {39: bytes(4096)}
    assert (tmp_path / "out.raw").read_bytes() == bytes(4096) + b"".join(expected.values())


def test_extract_refuses_the_page_alone(command: Command, tmp_path: Path) -> None:
    source = _damaged(tmp_path)
    assert command("extract", source, "0x1000", "0x26000").code == 0
    result = command("extract", source, str(39 << 12), "16")
    assert (result.code, result.out) == (1, "")
    assert "no memory at 0x27000" in result.err
    assert REMARK in result.err


def test_a_refusal_tells_as_well(command: Command, tmp_path: Path) -> None:
    result = command("info", _damaged(tmp_path))
    assert result.code == 1
    assert result.err.startswith(REMARK)


def test_extract_writes_nothing_of_a_range_with_a_page_that_does_not_unpack(command: Command, tmp_path: Path) -> None:
    content = bytearray(kdump.kdump({number: number.to_bytes(4, "little") * 1024 for number in range(600)}))
    content[-3] ^= 1
    (tmp_path / "dump").write_bytes(content)
    result = command("extract", tmp_path / "dump", "0", str(600 << 12))
    assert (result.code, result.out) == (1, "")
    result = command("extract", tmp_path / "dump", "0", str(600 << 12), "-o", tmp_path / "out")
    assert result.code == 1
    assert not (tmp_path / "out").exists()
