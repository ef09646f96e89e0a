"""Bytes that are no kernel: never an error but the package's own, and never for long."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kallsift.kallsyms.token_scan import DIGITS
from tests.examples import examples
from tests.kallsyms.placed import ERAS_64, candidates, placed, sample

NEWEST = next(era for era in ERAS_64 if era.name == "7.0")
LIMIT = 10.0
"""Seconds; the machines that run this may be slow and busy."""

bounded = settings(derandomize=True, max_examples=examples(40))


@bounded
@given(st.lists(st.binary(max_size=600) | st.sampled_from([DIGITS, bytes(300), b"a\0" * 208]), max_size=12))
def test_random_bytes(pieces: list[bytes]) -> None:
    assert candidates(b"".join(pieces)) == []


def test_digits_everywhere() -> None:
    started = time.process_time()
    assert candidates((DIGITS + b"\xff" * 4) * 4000) == []
    assert candidates(DIGITS * 500) == []
    assert time.process_time() - started < LIMIT


def contrived(middle: bytes) -> bytes:
    """A true token table and index behind ``middle``."""
    source = placed(NEWEST, sample(NEWEST, 1100))
    tokens = source.data[source.table("token_table").start : source.table("token_index").stop]
    # the index lies at a multiple of four from the table, so both move together
    return middle + bytes(-len(middle) % 8 + source.table("token_table").start % 8) + tokens + bytes(64)


def words(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "little") for value in values)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "middle",
    [
        pytest.param(words(0, 600) * 40_000, id="markers-everywhere"),
        pytest.param(b"\1" * 40_000 + words(*range(0, 5120, 512)), id="names-everywhere"),
        pytest.param(b"\1" * 40_000 + words(0, 512) * 64, id="both-everywhere"),
        pytest.param(bytes(100_000) + words(*range(0, 40960, 4096)), id="zeros"),
        pytest.param(words(*range(0, 1 << 27, 1 << 22)) * 8, id="steps-beyond-the-segment"),
    ],
)
def test_contrived_markers(middle: bytes) -> None:
    started = time.process_time()
    candidates(contrived(middle))
    assert time.process_time() - started < LIMIT


@bounded
@given(st.data())
def test_tables_torn_up(data: st.DataObject) -> None:
    """Pieces of true tables in a wrong order."""
    source = placed(NEWEST, sample(NEWEST, 300), before=0, after=64)
    names = data.draw(st.lists(st.sampled_from(NEWEST.order), max_size=6))
    cuts = data.draw(st.lists(st.integers(0, 16), min_size=len(names), max_size=len(names)))
    data_bytes = b"".join(source.data[source.table(name)][cut:] for name, cut in zip(names, cuts, strict=True))
    for tables in candidates(data_bytes + random.Random(1).randbytes(64)):
        assert tables.count == len(tables.array.words)
