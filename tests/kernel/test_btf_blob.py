"""BTF as bytes: headers of both sizes and byte orders, kinds that nobody knows, and nonsense that ends."""

from __future__ import annotations

import numpy as np
import pytest

from kallsift.kernel.access.btf_blob import BtfBlob, BtfError, Kind, kind_sizes, parse, whole_size
from kallsift.kernel.access.btf_index import type_starts
from tests.kernel.made_types import MadeTypes, known_layout

NEW = 25
"""A kind that no release has."""


def bytes_of(data: bytes) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.frombuffer(data, np.uint8)


def some() -> MadeTypes:
    types = MadeTypes()
    number = types.integer("int", 4)
    types.struct("pair", 8, [("left", number, 0), ("right", number, 4)])
    return types


def test_blank_names_are_noticed() -> None:
    data = some().data()
    assert not parse(bytes_of(data)).has_lost_names
    for name in (b"int", b"left", b"right"):
        assert parse(bytes_of(data.replace(name, bytes(len(name))))).has_lost_names


def walked(words: list[int]) -> list[int]:
    """Where types begin, one after the other."""
    sizes, place, found = kind_sizes(), 0, []
    while place < len(words):
        found.append(place)
        kind = words[place + 1] >> 24 & 0x7F
        place += 3 + int(sizes.fixed[kind]) + int(sizes.each[kind]) * (words[place + 1] & 0xFFFFFF)
    return found


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("has_layout", [False, True])
def test_both_headers_in_both_byte_orders(order: str, has_layout: bool) -> None:
    types = some()
    data = bytes_of(types.data(order, known_layout() if has_layout else None))
    blob = parse(data)
    assert blob.words.tolist() == types.words
    assert blob.strings == types.strings
    assert blob.starts.tolist() == walked(types.words)
    assert blob.data is data
    assert whole_size(data) == len(data)


def test_a_kind_that_the_layout_tells_of_is_skipped() -> None:
    types = some()
    types.add(NEW, "new", 0, 1, 2, 3, 4, 5, count=2)
    last = types.integer("long", 8)
    blob = parse(bytes_of(types.data(layout={**known_layout(), NEW: (1, 2)})))
    assert len(blob.starts) == last
    assert blob.kinds.tolist() == [Kind.INT, Kind.STRUCT, NEW, Kind.INT]
    assert types.words[blob.starts[-1] + 2] == 8


@pytest.mark.parametrize("layout", [None, known_layout(), {**known_layout(), NEW: (0, 2)}])
def test_a_kind_that_nothing_tells_of_is_refused(layout: dict[int, tuple[int, int]] | None) -> None:
    types = some()
    types.add(NEW, "new", 0, 1, 2, 3, 4, 5, count=2)
    types.integer("long", 8)
    with pytest.raises(BtfError, match="are not contiguous"):
        _ = parse(bytes_of(types.data(layout=layout))).starts


def test_a_layout_that_contradicts_what_is_known_is_refused() -> None:
    with pytest.raises(BtfError, match="layout table contradicts"):
        parse(bytes_of(some().data(layout={**known_layout(), Kind.STRUCT: (0, 4)})))
    with pytest.raises(BtfError, match="layout table contradicts"):
        parse(bytes_of(some().data(layout={Kind.INT: (2, 0)})))


def test_a_layout_of_fewer_kinds() -> None:
    few = {kind: size for kind, size in known_layout().items() if kind <= Kind.ENUM}
    assert len(parse(bytes_of(some().data(layout=few))).starts) == 2


def test_more_records_than_16_bits_count() -> None:
    types = MadeTypes()
    types.add(Kind.ENUM, "many", 4, *[0, 7] * 70_000, count=70_000)
    last = types.integer("int", 4)
    assert len(types.blob().starts) == last


def test_types_are_found_whatever_stands_between() -> None:
    types, chance = MadeTypes(), np.random.default_rng(3)
    for number in range(4000):
        count = int(chance.integers(0, 6)) if number % 40 else 700
        types.add(Kind.FUNC_PROTO, "", 0, *chance.integers(0, 1 << 32, 2 * count).tolist(), count=count)
        types.add(Kind.FUNC, f"f{number}", number)
    blob = types.blob()
    assert blob.starts.tolist() == walked(types.words)
    assert len(blob.of_kind(Kind.FUNC)) == 4000
    assert type_starts(blob.words[:-1], kind_sizes()) is None


def test_noise_is_no_types() -> None:
    noise = np.random.default_rng(1).integers(0, 1 << 32, 1 << 18).astype(np.uint32)
    for words in (noise, np.zeros(1 << 18, np.uint32), np.ones(2, np.uint32)):
        with pytest.raises(BtfError, match="are not contiguous"):
            _ = BtfBlob(words, b"\0").starts
    assert len(BtfBlob(np.zeros(0, np.uint32), b"\0").starts) == 0


def test_types_that_are_cut_off() -> None:
    whole = some()
    for end in range(1, len(whole.words)):
        if end not in walked(whole.words):
            with pytest.raises(BtfError):
                _ = BtfBlob(np.array(whole.words[:end], np.uint32), whole.strings).starts


def test_headers_that_lie() -> None:
    data = some().data()
    for end in range(len(data)):
        with pytest.raises(BtfError):
            parse(bytes_of(data[:end]))
    for place in range(4, 24, 4):
        for value in (0xFFFF_FFFF, 0x8000_0000, len(data), 0xFFFF_FFFC):
            lying = data[:place] + value.to_bytes(4, "little") + data[place + 4 :]
            with pytest.raises(BtfError):
                parse(bytes_of(lying))


def test_names_must_end() -> None:
    with pytest.raises(BtfError, match="does not end"):
        parse(bytes_of(some().data()[:-1] + b"x"))
