"""A kernel lies bare in a file: at its beginning, behind a header of any size, or in ELF that is not its own."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import kallsift
from kallsift.kernel.model import Kernel, State
from tests.kernel.test_every_era import BEHIND, image
from tests.memory.builders import Program, elf
from tests.oracle.eras import ERAS, Era

NEWEST = next(era for era in ERAS if era.name == "7.0")
BASED = next(era for era in ERAS if era.name == "5.10 arm64")
HEADERS = (0, 2, 3, 4, 8, 20, 64, 512, 4096, 4101)


def recovered(folder: Path, content: bytes) -> Kernel:
    (folder / "file").write_bytes(content)
    return kallsift.recover(kallsift.open(folder / "file"))


def lines(kernel: Kernel) -> list[tuple[int, str]]:
    symbols = kernel.symbols
    return [(symbol.address, symbol.name) for symbol in map(symbols.symbol, range(len(symbols)))]


@pytest.mark.parametrize("size", HEADERS)
@pytest.mark.parametrize("era", [BASED, NEWEST], ids=str)
@pytest.mark.parametrize("word_size", [8, 4])
def test_behind_a_header_of_any_size(tmp_path: Path, era: Era, word_size: int, size: int) -> None:
    blob, data = image(era, word_size, "little", False)
    kernel = recovered(tmp_path, random.Random(size).randbytes(size) + data)
    assert lines(kernel) == [(symbol.address, symbol.name) for symbol in blob.symbols]
    assert (kernel.state, kernel.proven) == (State.IMAGE, True)
    assert kernel.memory.image is not None
    array = next(place for place in kernel.tables if place.name in ("offsets", "addresses"))
    named = next(name for name in blob.tables if name in ("offsets", "addresses"))
    assert array.physical + kernel.memory.image.skipped - size == len(data) - len(blob.data) - BEHIND + (
        blob.tables[named].offset
    )


def test_the_same_bytes_have_the_same_verdict(tmp_path: Path) -> None:
    """A bare image alone, and the image behind another file: a flash chip is read so."""
    _, data = image(BASED, 4, "big", False)
    alone = recovered(tmp_path, data)
    behind = recovered(tmp_path, random.Random(1).randbytes((1 << 20) + 36) + data)
    assert alone.proven
    assert behind.proven
    assert lines(alone) == lines(behind)


@pytest.mark.parametrize("address", [0x10000, 0xC0000000])
def test_elf_at_addresses_that_are_not_the_kernels(tmp_path: Path, address: int) -> None:
    blob, data = image(BASED, 4, "little", False)
    kernel = recovered(tmp_path, elf([Program(1, data, 0, address)], bits=32, kind=3, machine=40))
    assert lines(kernel) == [(symbol.address, symbol.name) for symbol in blob.symbols]
    assert kernel.proven
