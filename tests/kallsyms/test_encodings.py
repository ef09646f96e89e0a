"""Each way of storing addresses gives back what was stored."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kallsift.kallsyms.format.address_encodings import ENCODINGS, AddressArray, Base, Encoding
from kallsift.kallsyms.format.address_table import MAX_PLACES, find_arrays
from tests.examples import examples
from tests.oracle.symbols import TEXT

BY_ANCHOR = {encoding.name: encoding for encoding in ENCODINGS}
PLACE = TEXT + 0x1400000

bounded = settings(derandomize=True, max_examples=examples(60))
each_encoding = pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.name)


def encode(encoding: Encoding, addresses: list[int]) -> NDArray[np.unsignedinteger]:
    """Raw words, by the formulas of the kernel's own generator; the base is `TEXT`."""
    if encoding.base is Base.NONE:
        return np.array(addresses, np.uint64)
    if encoding.base is Base.SELF:
        values = [address - (PLACE + 4 * index) for index, address in enumerate(addresses)]
    elif "per-CPU" in encoding.name:
        values = [address if address < 1 << 31 else TEXT - 1 - address for address in addresses]
    else:
        values = [address - TEXT for address in addresses]
    return np.array([value % (1 << 32) for value in values], np.uint32)


@each_encoding
def test_padding_is_no_array(encoding: Encoding) -> None:
    """Padding is in order by every encoding, and a single other word makes it grow, or two addresses equal."""
    value = 0xCCCCCCCCCCCCCCCC if encoding.base is Base.NONE else 0xCCCCCCCC
    words: NDArray[np.unsignedinteger] = np.array([0] * 3 + [value] * 9997, np.uint64 if value >> 32 else np.uint32)
    assert not encoding.fits(words)


@st.composite
def address_lists(draw: st.DrawFn, encoding: Encoding) -> list[int]:
    steps = draw(st.lists(st.sampled_from([0, 1, 4, 5, 64, 4096, 0x7FFFF]), min_size=8, max_size=60))
    addresses = [TEXT, TEXT, TEXT + 16]
    for step in steps:
        addresses.append(addresses[-1] + step)
    if "per-CPU" in encoding.name:
        small = draw(st.lists(st.integers(0, (1 << 31) - 1), min_size=1, max_size=20))
        addresses = sorted(small) + addresses
    return addresses


@each_encoding
@bounded
@given(data=st.data())
def test_decode_inverts_encode(encoding: Encoding, data: st.DataObject) -> None:
    addresses = data.draw(address_lists(encoding))
    words = encode(encoding, addresses)
    assert encoding.order(words).all()
    assert encoding.fits(words)
    base = {Base.NONE: 0, Base.RELATIVE_BASE: TEXT, Base.SELF: PLACE}[encoding.base]
    decoded = encoding.decode(words, base)
    assert decoded.dtype == np.uint64
    assert decoded.tolist() == addresses


@each_encoding
@bounded
@given(data=st.data())
def test_one_address_out_of_order_is_seen(encoding: Encoding, data: st.DataObject) -> None:
    addresses = data.draw(address_lists(encoding))
    kernel = [index for index, address in enumerate(addresses) if address >= TEXT]
    index = data.draw(st.sampled_from(kernel[:-1]))
    addresses[index] = addresses[-1] + 4096
    assert not encoding.order(encode(encoding, addresses)).all()


def test_per_cpu_at_the_limits() -> None:
    encoding = next(encoding for encoding in ENCODINGS if "per-CPU" in encoding.name)
    words = np.array([0, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000], np.uint32)
    assert encoding.order(words).all()
    assert encoding.decode(words, TEXT).tolist() == [0, 0x7FFFFFFF, TEXT, (TEXT + 0x7FFFFFFF) % (1 << 64)]


def test_addresses_wrap_modulo_2_to_64() -> None:
    for encoding in ENCODINGS:
        if encoding.base is not Base.NONE:
            words = np.array([0, 0x10], np.uint32)
            assert (encoding.decode(words, (1 << 64) - 8) < 1 << 64).all()


def test_base_relative_words_also_rise_as_self_relative_ones() -> None:
    """Why the smallest step is asked: order alone would take them."""
    by_name = {encoding.base: encoding for encoding in ENCODINGS if "per-CPU" not in encoding.name}
    words = encode(by_name[Base.RELATIVE_BASE], [TEXT, TEXT, TEXT + 16, TEXT + 32])
    assert by_name[Base.SELF].order(words).all()
    assert not by_name[Base.SELF].is_distinctive(words)


def found(content: bytes, count: int, word_size: int = 8, order: str = "<") -> list[AddressArray]:
    data = np.frombuffer(content, np.uint8)
    return list(find_arrays(data, 0, len(data), count, (word_size, order)))


@each_encoding
@pytest.mark.parametrize("order", ["<", ">"])
def test_arrays_are_found_in_random_bytes(encoding: Encoding, order: str) -> None:
    chance = random.Random(encoding.name)
    small = [16 * i for i in range(40)] if "per-CPU" in encoding.name else []
    addresses = [*small, TEXT, TEXT, *sorted(TEXT + chance.randrange(1 << 24) for _ in range(300 - len(small)))]
    words = encode(encoding, addresses)
    raw = words.astype(words.dtype.newbyteorder("<" if order == "<" else ">")).tobytes()
    raw += bytes(-len(raw) % 8) + TEXT.to_bytes(8, "little" if order == "<" else "big")
    content = b"\xa5\x07\x5a\x91\x03\xee\x11\x42" * 100 + raw + chance.randbytes(800)
    arrays = [array for array in found(content, len(addresses), order=order) if array.offset == 800]
    assert [array.encoding.name for array in arrays] == [encoding.name]
    assert arrays[0].addresses(PLACE).tolist() == addresses
    assert arrays[0].relative_base == (TEXT if encoding.base is Base.RELATIVE_BASE else None)


@pytest.mark.parametrize("spare", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("word_size", "alignment"), [(size, 1 << power) for size in (4, 8) for power in range(2, 9) if 1 << power >= size]
)
def test_the_base_stands_at_any_alignment_behind_the_array(spare: int, word_size: int, alignment: int) -> None:
    raw, aligned = padded(spare, word_size, alignment, TEXT % (1 << 8 * word_size))
    data = np.frombuffer(raw, np.uint8)
    arrays = list(find_arrays(data, 0, len(data), 300 + spare, (word_size, "<"), aligned))
    true = [array for array in arrays if array.offset == aligned[1] and array.encoding.base is Base.RELATIVE_BASE]
    assert TEXT % (1 << 8 * word_size) in [array.relative_base for array in true]


def padded(spare: int, word_size: int, alignment: int, base: int) -> tuple[bytes, list[int]]:
    """A table, an array of offsets, its base and another table, each aligned; and where the tables but the base are."""
    offsets = np.cumsum([0, 0, *([20] * (298 + spare))]).astype("<u4").tobytes()
    raw, starts = b"", []
    for piece in (b"\x5a" * 100, offsets, base.to_bytes(word_size, "little"), b"\x11" * 999):
        raw += bytes(-len(raw) % alignment)
        starts.append(len(raw))
        raw += piece
    return raw, [starts[0], starts[1], starts[3]]


def test_a_base_is_not_looked_for_where_the_tables_are_not_aligned_to() -> None:
    """Behind a base that a loader fills in stands another table: the word there is none."""
    raw, aligned = padded(1, 8, 8, 0)
    data = np.frombuffer(raw, np.uint8)
    arrays = list(find_arrays(data, 0, len(data), 301, (8, "<"), [aligned[0], aligned[2]]))
    assert [array.relative_base for array in arrays if array.offset == aligned[1]] == [None]


def test_runs_longer_than_the_array_give_few_places() -> None:
    content = np.arange(100_000, dtype="<u4").tobytes() + b"\1" * 8
    assert 0 < len(found(content, 300)) <= 2 * MAX_PLACES * len(ENCODINGS)


@bounded
@given(
    st.binary(max_size=600), st.integers(-50, 700), st.integers(-50, 700), st.integers(1, 40), st.sampled_from([4, 8])
)
def test_no_bytes_raise(content: bytes, low: int, high: int, count: int, word_size: int) -> None:
    data = np.frombuffer(content, np.uint8)
    for array in find_arrays(data, low, high, count, (word_size, "<")):
        assert array.offset + array.size <= len(content)
        assert len(array.addresses(0)) == count
