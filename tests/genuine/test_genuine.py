"""The oracle's tables are, byte for byte, those of Debian's own programs, assembled for machines of all kinds."""

from __future__ import annotations

import platform
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest

from tests.components import lacking
from tests.genuine.assembler import TARGETS, Target, assemble
from tests.lab.capture import cached
from tests.lab.guests import guest_named
from tests.lab.kbuild import Program, programs
from tests.oracle.eras import ALL_ERAS, Era
from tests.oracle.order import in_order
from tests.oracle.symbols import Symbol, population
from tests.oracle.writer import write

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the programs of Debian's packages are for x86-64"),
]

BY_NAME = {era.name: era for era in ALL_ERAS}

OPTIONS: dict[str, dict[str, list[str]]] = {
    "5.10": {
        "5.4 ia64": [],
        "5.10 arm64": ["--base-relative"],
        "5.10 x86": ["--base-relative", "--absolute-percpu"],
    },
    "6.1": {
        "6.2 absolute": [],
        "6.2 arm64": ["--base-relative"],
        "6.2 x86": ["--base-relative", "--absolute-percpu"],
        "6.1.60 LTO": ["--base-relative", "--lto-clang"],
    },
    "6.12": {"6.12 arm64": [], "6.4 x86": ["--absolute-percpu"]},
    "7.2": {"7.0": ["--pc-relative"], "7.0 arm": []},
    "7.3": {"7.0": ["--pc-relative"], "7.0 arm": []},
}
"""What makes a series' program write an era's tables."""

RELATIVE = ("offset", "self-relative")

COMBINATIONS = [
    pytest.param(series, BY_NAME[name], options, target, id=f"{series}-{BY_NAME[name]}-{target}")
    for series, eras in OPTIONS.items()
    for name, options in eras.items()
    for target in TARGETS
    if target.word_size in BY_NAME[name].word_sizes
    # only x86-64 has such tables, so only kernels far above the per-CPU area
    and (BY_NAME[name].encoding != "percpu" or target.text >= 1 << 32)
]

LISTINGS = (
    ("amd64-5.10", "5.10", "5.10 x86"),
    ("amd64-6.1", "6.1", "6.2 x86"),
    ("amd64-6.12", "6.12", "6.4 x86"),
    ("amd64-7.3", "7.3", "7.0"),
    ("arm64-5.10", "5.10", "5.10 arm64"),
    ("arm64-6.1", "6.1", "6.2 arm64"),
)
"""Guests of the lab, and what wrote their tables."""

AWAY = 0x40_0000
"""From a kernel's start to its tables."""

HEAD = 0x1000
"""From a kernel's start to the first symbol that it lists."""

COUNT = 1200


def program(series: str) -> Program:
    """The newest program of a series."""
    found = [one for one in programs() if one.series == series]
    if not found:
        lacking(f"no scripts/kallsyms of {series}: python -m tests.lab kbuild")
    return found[-1]


def listing(symbols: Iterable[Symbol], word_size: int) -> bytes:
    """What nm prints. It knows those of the per-CPU area, which tables list as absolute, as ordinary ones."""
    lines = (f"{s.address:0{2 * word_size}x} {s.letter.replace('A', 'D')} {s.name}\n" for s in symbols)
    return "".join(lines).encode("latin-1")


def accepted(symbols: Iterable[Symbol]) -> list[Symbol]:
    """What no release leaves out: neither absolute symbols nor names that begin with a dollar."""
    return [s._replace(letter=s.letter.replace("a", "d"), name=s.name.replace("$", "_")) for s in symbols]


def assert_same(
    genuine: Program, era: Era, options: list[str], target: Target, given: Iterable[Symbol], expected: Sequence[Symbol]
) -> None:
    """From the symbols given the program makes the tables that the oracle makes of those expected."""
    address = target.text + AWAY
    data = assemble(genuine.run(options, listing(given, target.word_size)), target, address)
    blob = write(expected, era, address=address, word_size=target.word_size, byte_order=target.byte_order)
    for name, place in blob.tables.items():
        assert data[place.offset : place.end] == blob.data[place.offset : place.end], f"{name} of {genuine}"
    assert data[: len(blob.data)] == blob.data, "padding"
    # some assemblers fill a section's end
    assert not any(data[len(blob.data) :])
    assert len(data) < len(blob.data) + 16


@pytest.mark.parametrize(("series", "era", "options", "target"), COMBINATIONS)
def test_all_symbols(series: str, era: Era, options: list[str], target: Target) -> None:
    genuine = program(series)
    percpu = era.encoding == "percpu"
    symbols = accepted(population(COUNT, 1, percpu=percpu, start=target.text + HEAD, long_names=era.long_names))
    small = COUNT // 20 if percpu else 0
    area = [Symbol(0, "A", "__per_cpu_start"), *(s._replace(letter="A") for s in symbols[:small])]
    area.append(Symbol(area[-1].address + 64, "A", "__per_cpu_end"))
    symbols = [*(area if percpu else []), Symbol(target.text, "T", "_text"), *symbols[small:]]
    random.Random(series).shuffle(symbols)
    expected = in_order(symbols)
    assert_same(genuine, era, ["--all-symbols", *options], target, symbols, expected)


@pytest.mark.parametrize(("series", "era", "options", "target"), COMBINATIONS)
def test_text_only(series: str, era: Era, options: list[str], target: Target) -> None:
    genuine = program(series)
    symbols = population(COUNT, 2, start=target.text + HEAD, text_only=True, long_names=era.long_names)
    symbols = in_order(accepted(symbols))
    bounds = {symbol.name: symbol.address for symbol in symbols}
    data = [Symbol(bounds["_etext"] + 64 * i, "D", f"data{i}") for i in range(1, 10)]
    data += [Symbol(bounds["_einittext"] + 64 * i, "B", f"_bss{i}") for i in range(1, 10)]
    # without KALLSYMS_ALL releases from 6.12 on at the latest list such bounds as well
    notes = Symbol(bounds["_etext"] + 256, "R", "__start_notes")
    given = in_order([Symbol(target.text, "T", "_text"), *symbols, *data, notes])
    listed = in_order([*symbols, notes]) if series not in ("5.10", "6.1") else symbols
    assert_same(genuine, era, options, target, given, listed)


@pytest.mark.parametrize("series", OPTIONS)
def test_tokens_when_pairs_run_out(series: str) -> None:
    """Few symbols: every pair that is left gets a code, and the codes behind them none."""
    genuine = program(series)
    name, options = next((era, words) for era, words in OPTIONS[series].items() if BY_NAME[era].encoding in RELATIVE)
    target = TARGETS[0]
    names = ("_text", "aaaa", "aaab", "aaaaaaaab", "abababab", "_0", "__0", "b")
    symbols = [Symbol(target.text + i // 2, "T", name) for i, name in enumerate(names)]
    assert_same(genuine, BY_NAME[name], ["--all-symbols", *options], target, symbols, in_order(symbols))


@pytest.mark.parametrize(("guest", "series", "name"), LISTINGS)
def test_real_listings(guest: str, series: str, name: str) -> None:
    genuine, capture = program(series), cached(guest_named(guest))
    if capture is None:
        pytest.skip(f"{guest} is not captured: python -m tests.lab guest {guest}")
    lines = [line.split() for line in capture.core_kallsyms().decode("latin-1").splitlines()]
    symbols = [Symbol(int(address, 16), letter, symbol) for address, letter, symbol in lines]
    text = next((symbol.address for symbol in symbols if symbol.name == "_text"), None)
    listed, options = symbols, ["--all-symbols"]
    if text is None:  # text only: the kernel's head lies outside of the ranges
        text = symbols[0].address - HEAD
        listed, options = [Symbol(text, "T", "_text"), *symbols], []
    tools = "x86_64-linux-gnu" if guest.startswith("amd64") else "aarch64-linux-gnu"
    target = next(replace(target, text=text) for target in TARGETS if target.tools == tools)
    assert_same(genuine, BY_NAME[name], [*options, *OPTIONS[series][name]], target, listed, symbols)
