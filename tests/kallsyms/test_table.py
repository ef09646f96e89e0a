"""Look-ups in a symbol table against plain loops."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kallsift.errors import KallsiftError
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.optional_package import optional_package
from tests.examples import examples
from tests.oracle.symbols import Symbol

bounded = settings(derandomize=True, max_examples=examples(150))


def table(symbols: list[Symbol]) -> SymbolTable:
    texts = [(symbol.letter + symbol.name).encode("latin-1") for symbol in symbols]
    return SymbolTable(
        np.array([symbol.address for symbol in symbols], np.uint64),
        np.frombuffer(b"".join(texts), np.uint8),
        np.cumsum([0, *map(len, texts)], dtype=np.int64),
        8,
    )


# few letters, so that names are in one another, and run on from one symbol's name through the next one's letter
names = st.text("aTt_.", min_size=1, max_size=5) | st.text(
    st.characters(min_codepoint=1, max_codepoint=255), min_size=1, max_size=3
)
addresses = st.integers(0, 40) | st.integers(0, (1 << 64) - 1)
populations = st.lists(st.builds(Symbol, addresses, st.sampled_from("aTt?"), names), max_size=25).map(
    lambda symbols: sorted(symbols, key=lambda symbol: symbol.address)
)


@bounded
@given(populations, st.lists(names, max_size=5))
def test_by_name(symbols: list[Symbol], others: list[str]) -> None:
    made = table(symbols)
    assert made.names() == [symbol.name for symbol in symbols]
    assert bytes(made.types()).decode() == "".join(symbol.letter for symbol in symbols)
    assert [Symbol(s.address, s.type, s.name) for s in made] == symbols
    assert [symbol.index for symbol in made] == list(range(len(symbols)))
    for name in [*others, *(symbol.name for symbol in symbols)]:
        places = [index for index, symbol in enumerate(symbols) if symbol.name == name]
        assert [symbol.index for symbol in made.all(name)] == places
        assert made.find(name) == (places[0] if places else None)
        assert (name in made) == bool(places)
        if places:
            assert made[name] == made.symbol(places[0])
        else:
            with pytest.raises(KeyError):
                made[name]


@bounded
@given(populations, st.lists(addresses | st.integers(-5, 1 << 65), max_size=8))
def test_by_address(symbols: list[Symbol], others: list[int]) -> None:
    made = table(symbols)
    for address in [*others, *(symbol.address + step for symbol in symbols for step in (-1, 0, 1))]:
        location = made.at(address)
        below = [symbol.address for symbol in symbols if symbol.address <= address]
        if not below or address >= 1 << 64:
            assert location is None
            continue
        above = [symbol.address for symbol in symbols if symbol.address > address]
        assert location is not None
        assert location.symbol.index == [symbol.address for symbol in symbols].index(below[-1])
        assert location.offset == address - below[-1]
        assert location.size == (min(above) - below[-1] if above else None)


def test_no_symbols() -> None:
    empty = table([])
    assert (len(empty), empty.names(), empty.at(0), empty.find("a"), empty.all("a")) == (0, [], None, None, ())


@pytest.mark.parametrize("name", ["", "\u20ac", "\0", "a\0"])
def test_names_that_no_symbol_can_have(name: str) -> None:
    made = table([Symbol(1, "T", "a"), Symbol(2, "T", "b")])
    assert name not in made
    assert made.all(name) == ()
    assert object() not in made


def test_the_last_address_of_all() -> None:
    made = table([Symbol(0, "T", "a"), Symbol((1 << 64) - 1, "T", "b")])
    first, last = made.at((1 << 64) - 2), made.at((1 << 64) - 1)
    assert first is not None
    assert (first.symbol.name, first.size) == ("a", (1 << 64) - 1)
    assert last is not None
    assert (last.symbol.name, last.offset, last.size) == ("b", 0, None)


@bounded
@given(populations, populations)
def test_begins(symbols: list[Symbol], others: list[Symbol]) -> None:
    for count in range(len(symbols) + 1):
        assert table(symbols[:count]).begins(table(symbols))
    assert table(others).begins(table(symbols)) == (symbols[: len(others)] == others)


def test_it_behaves_as_a_sequence() -> None:
    rows = [Symbol(0x1000, "T", "first"), Symbol(0x2000, "t", "second"), Symbol(0x3000, "D", "third")]
    symbols = replace(table(rows), known_addresses=np.array([True, False, True]))
    assert symbols[0] == symbols.symbol(0) == symbols["first"] == symbols.symbol(-3)
    assert (symbols[-1].name, symbols[-1].index) == ("third", 2)
    assert [symbol.name for symbol in symbols[:]] == [symbol.name for symbol in symbols] == ["first", "third"]
    assert symbols[1:2] == ()
    assert symbols[np.int64(2)].name == "third"
    for index in (3, -4, 1 << 80):
        with pytest.raises(IndexError, match=f"no symbol {index} in a table of 3"):
            symbols.symbol(index)
    for unknown in (1, -2, "second"):
        with pytest.raises(KeyError):
            symbols[unknown]
    for key in (None, 1.5, b"first"):
        with pytest.raises(TypeError):
            symbols[key]  # type: ignore[call-overload]
    assert [symbol.name for symbol in reversed(symbols)] == ["third", "first"]
    assert all(symbol in symbols for symbol in symbols)
    for other in (Symbol(0x2000, "t", "second"), *(replace(symbols[0], index=index) for index in (1, 2, 3, -3))):
        assert other not in symbols
    assert repr(symbols) == "<SymbolTable: 3 symbols of 64 bits>"


def damaged() -> SymbolTable:
    """Of the middle one of three symbols the address is unknown, and the last one is none that Unicode's plane has."""
    rows = [Symbol(0x1000, "T", "first"), Symbol(0x2000, "t", "second"), Symbol((1 << 64) - 1, "D", "d\xe9j\x01")]
    return replace(table(rows), known_addresses=np.array([True, False, True]))


def test_columns_are_those_of_iteration() -> None:
    columns = damaged().to_numpy()
    assert {name: str(column.dtype) for name, column in columns.items()} == {
        "address": "uint64",
        "type": "<U1",
        "name": "StringDType()",
        "index": "int64",
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    assert list(rows) == [(symbol.address, symbol.type, symbol.name, symbol.index) for symbol in damaged()]
    assert len(table([]).to_numpy()["name"]) == 0


@pytest.mark.parametrize(
    ("package", "rows_of"),
    [
        ("pyarrow", lambda symbols: [tuple(row.values()) for row in symbols.to_arrow().to_pylist()]),
        ("pandas", lambda symbols: list(symbols.to_pandas().itertuples(index=False, name=None))),
        ("polars", lambda symbols: symbols.to_polars().rows()),
    ],
)
def test_tables_of_other_packages(package: str, rows_of: Callable[[SymbolTable], list[tuple[object, ...]]]) -> None:
    pytest.importorskip(package)
    expected = [(symbol.address, symbol.type, symbol.name, symbol.index) for symbol in damaged()]
    assert rows_of(damaged()) == expected
    assert rows_of(table([])) == []


@pytest.mark.parametrize(("method", "package"), [("arrow", "pyarrow"), ("pandas", "pandas"), ("polars", "polars")])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, method: str, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    optional_package.cache_clear()
    with pytest.raises(KallsiftError, match=f"^a table of {package} needs the package {package}; pip install"):
        getattr(damaged(), f"to_{method}")()
    optional_package.cache_clear()
