"""Tables of the same bytes at other addresses are those of a search of their own, which is not made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from kallsift.kallsyms.format.token_table import TokenTable, token_tables
from kallsift.kallsyms.recovered_tables import Attempt, Tables
from kallsift.kallsyms.solvers import shared_tables
from kallsift.kallsyms.solvers.adjacent import recover_tables
from kallsift.kallsyms.solvers.shared_tables import MAX_KEPT, SharedTables
from kallsift.memory.segments import BytesSegment
from tests.kallsyms.placed import placed, sample
from tests.oracle.eras import ERAS

NEWEST = next(era for era in ERAS if era.name == "7.0")
SIZES = (8, 4)
DIGITS = b"".join(bytes((digit, 0)) for digit in b"0123456789")


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where windows began that were searched."""
    starts: list[int] = []

    def counted(segment: BytesSegment, tokens: TokenTable, sizes: Sequence[int], attempt: Attempt) -> Iterator[Tables]:
        starts.append(segment.start)
        return recover_tables(segment, tokens, sizes, attempt)

    monkeypatch.setattr(shared_tables, "recover_tables", counted)
    return starts


def table_in_memory() -> tuple[BytesSegment, TokenTable]:
    """Return a window with tables in it."""
    data = placed(NEWEST, sample(NEWEST, 900)).data
    segment = BytesSegment(0x100000, np.frombuffer(data, np.uint8))
    (tokens,) = token_tables(segment, data.index(DIGITS))
    return segment, tokens


def test_the_same_bytes_a_page_further_are_searched_once(searches: list[int]) -> None:
    segment, tokens = table_in_memory()
    shared = SharedTables()
    first = list(shared.recover(segment, tokens, SIZES, Attempt()))
    moved = replace(segment, start=segment.start + 0x3000)
    again = list(shared.recover(moved, tokens, SIZES, Attempt()))
    assert searches == [segment.start]
    expected = list(recover_tables(moved, tokens, SIZES, Attempt()))
    assert [tables.places for tables in again] == [tables.places for tables in expected]
    assert [tables.places for tables in first] != [tables.places for tables in again]
    assert [tables.checks for tables in again] == [tables.checks for tables in expected]


def test_a_search_that_was_left_goes_on(searches: list[int]) -> None:
    segment, tokens = table_in_memory()
    shared = SharedTables()
    first = next(shared.recover(segment, tokens, SIZES, Attempt()))
    found = list(shared.recover(segment, tokens, SIZES, Attempt()))
    assert found[0] is first
    assert len(found) == len(list(recover_tables(segment, tokens, SIZES, Attempt())))
    assert len(searches) == 1


def test_other_alignments_bytes_and_word_sizes_are_searched_anew(searches: list[int]) -> None:
    segment, tokens = table_in_memory()
    shared = SharedTables()
    others = (
        (segment, SIZES),
        (replace(segment, start=segment.start + 4), SIZES),
        (replace(segment, data=segment.data[:-4]), SIZES),
        (replace(segment, data=segment.data.copy()), SIZES),
        (segment, (8,)),
    )
    for window, sizes in others:
        list(shared.recover(window, tokens, sizes, Attempt()))
    assert len(searches) == len(others) > MAX_KEPT
    # the first one was let go meanwhile
    list(shared.recover(segment, tokens, SIZES, Attempt()))
    assert len(searches) == len(others) + 1
