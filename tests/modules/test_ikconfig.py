"""The configuration inside a kernel: found by its marks, and only where it is whole."""

from __future__ import annotations

import gzip
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from kallsift.memory.segments import BytesSegment
from kallsift.modules import ikconfig
from kallsift.modules.ikconfig import END, START, ConfigError, kernel_config
from kallsift.modules.memory_regions import ModuleRegion
from tests.kernel.made_up import DIRECT, RAM, made_up
from tests.modules.made_config import TEXT, carrying


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
