"""The configuration inside a kernel: found by its marks, and only where it is whole."""

from __future__ import annotations

import gzip
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from kallsift.kernel.kernel import Kernel
from kallsift.memory.segments import BytesSegment
from kallsift.modules import ikconfig
from kallsift.modules.ikconfig import END, START, ConfigError, kernel_config
from kallsift.modules.memory_regions import ModuleRegion
from tests.kernel.made_up import DIRECT, PLACE, RAM, made_up

TEXT = b"CONFIG_64BIT=y\n# CONFIG_IKCONFIG_PROC is not set\n" * 50


def carrying(*pieces: bytes) -> Kernel:
    """A kernel with these bytes in its image."""
    kernel = made_up()
    first, *others = kernel.memory.segments
    data = np.array(first.read(0, RAM))
    for index, piece in enumerate(pieces):
        start = PLACE + 0x8_0000 + 0x1_0000 * index
        data[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
    return replace(kernel, memory=replace(kernel.memory, segments=(BytesSegment(0, data), *others)))


def test_found_between_its_marks() -> None:
    assert kernel_config(carrying(START + gzip.compress(TEXT) + END)) == TEXT


def test_marks_alone_and_damaged_copies_are_passed() -> None:
    packed = gzip.compress(TEXT)
    assert kernel_config(carrying(START, START + packed[:40], START + packed, START + packed + END)) == TEXT


def test_none() -> None:
    with pytest.raises(ConfigError, match="does not carry its configuration"):
        kernel_config(carrying(START + b"text", END))


@pytest.mark.parametrize("rest", [b"", b"IKCFG_EX"])
def test_damaged(rest: bytes) -> None:
    with pytest.raises(ConfigError, match="configuration is damaged"):
        kernel_config(carrying(START + gzip.compress(TEXT) + rest))


def test_a_bomb_is_refused() -> None:
    with pytest.raises(ConfigError, match="configuration is damaged"):
        kernel_config(carrying(START + gzip.compress(bytes(1 << 24)) + END))


def test_of_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = START + gzip.compress(TEXT) + END
    kernel = made_up()
    first, *others = kernel.memory.segments
    data = np.array(first.read(0, RAM))
    data[0x3A0_0000 : 0x3A0_0000 + len(packed)] = np.frombuffer(packed, np.uint8)
    kernel = replace(kernel, memory=replace(kernel.memory, segments=(BytesSegment(0, data), *others)))
    regions = (ModuleRegion("text", 1, 4096), ModuleRegion("rodata", DIRECT + 0x3A0_0000, 1 << 16))
    loaded = [SimpleNamespace(name="other", regions=None), SimpleNamespace(name="configs", regions=regions)]
    monkeypatch.setattr(ikconfig, "inventory", lambda _: loaded)
    monkeypatch.setattr(ikconfig, "BEFORE", 1 << 20)
    monkeypatch.setattr(ikconfig, "AFTER", 1 << 20)
    assert kernel_config(kernel) == TEXT
