"""No recogniser answers where nothing is: the quick form of what `python -m tests.real false-positives` measures."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kallsift.analysis.dynamic.dynamic_symbols import dynamic_symbols
from kallsift.kernel.placement.pointers import Words
from kallsift.modules.hidden_modules import found_elsewhere
from kallsift.modules.struct_module import structures_at
from tests.analysis.soup import STARTS, kernel_in, memory_of, soup, with_back_pointers
from tests.modules.made_modules import made_modules

pytestmark = pytest.mark.sampled(5)

SIZE = 4 << 20
LISTS = 4_000

ALL_WORDS = [Words(8, "<"), Words(8, ">"), Words(4, "<"), Words(4, ">")]


def noise() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, SIZE).astype(np.uint8)


def program() -> NDArray[np.uint8]:
    """Code and data of the program that runs this."""
    return np.resize(np.fromfile(Path(sys.executable).resolve(), np.uint8, SIZE), SIZE)


def source() -> NDArray[np.uint8]:
    """Text, in which names are frequent."""
    text = b"\0".join(path.read_bytes() for path in sorted(Path(np.__file__).parent.rglob("*.py"))[:200])
    return np.resize(np.frombuffer(text, np.uint8), SIZE)


def zeros() -> NDArray[np.uint8]:
    return np.zeros(SIZE, np.uint8)


MATERIALS: dict[str, Callable[[], NDArray[np.uint8]]] = {
    "noise": noise,
    "program": program,
    "source": source,
    "zeros": zeros,
}


@pytest.mark.parametrize("words", ALL_WORDS, ids=str)
@pytest.mark.parametrize("name", MATERIALS)
def test_lists_that_mean_nothing(name: str, words: Words) -> None:
    data = soup(MATERIALS[name](), words, LISTS, 3)
    found = dynamic_symbols(kernel_in(data, words, SIZE // 2))
    assert found.groups == ()
    (line,) = found.missing
    assert line.startswith("modules: the list of modules was not found")


@pytest.mark.parametrize("words", ALL_WORDS, ids=str)
@pytest.mark.parametrize("name", MATERIALS)
@pytest.mark.parametrize("has_trees", [True, False])
def test_no_hidden_modules(name: str, words: Words, has_trees: bool) -> None:
    """Whatever links lead to, and however many words point to where a module would begin that holds them."""
    data = soup(MATERIALS[name](), words, LISTS, 4)
    fields = made_modules(2, words).fields
    assert fields.owner is not None
    with_back_pointers(data, words, fields.owner, 6)
    memory = memory_of(data, words)
    places = np.random.default_rng(5).integers(0, SIZE // 16, 8).astype(np.uint64) * np.uint64(16)
    listed = structures_at(memory, np.uint64(STARTS[words.size]) + places)
    fields = fields if has_trees else replace(fields, regions=())
    found, _ = found_elsewhere(kernel_in(data, words, 0), memory, fields, listed)
    assert found == {}
