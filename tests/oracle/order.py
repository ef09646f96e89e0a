"""The order of a table's entries, as scripts/kallsyms sorts them (2.6.32 on)."""

from __future__ import annotations

from collections.abc import Iterable

from tests.oracle.symbols import Symbol

_SHORTEST_BOUND = 8


def in_order(symbols: Iterable[Symbol]) -> tuple[Symbol, ...]:
    """By address; of equal ones the weak, the linker's bounds and those with more underscores come later."""
    return tuple(sorted(symbols, key=_rank))


def _rank(symbol: Symbol) -> tuple[int, bool, bool, int]:
    name = symbol.name
    return symbol.address, symbol.letter in "wW", _is_bound(name), len(name) - len(name.lstrip("_"))


def _is_bound(name: str) -> bool:
    """Whether a name looks like one that the linker script provides for the start or the end of something."""
    return (
        len(name) >= _SHORTEST_BOUND
        and name.startswith("__")
        and (name[2:].startswith(("start_", "stop_", "end_")) or name.endswith(("_start", "_end")))
    )
