"""Read the section that modutils' kallsyms wrote into kernels of 2.4: a header, sections, symbols, and strings.

Format: modutils 2.4, include/kallsyms.h (struct kallsyms_header, kallsyms_section, kallsyms_symbol). Addresses are
stored whole; type letters are not stored, and are printed as ``?``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kallsift.budget import STRETCH_STEP, WorkBudget
from kallsift.byte_search import places_of
from kallsift.errors import Step
from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kallsyms.format.address_encodings import ENCODINGS, AddressArray
from kallsift.kallsyms.recovered_tables import Attempt, TableExtent, Tables, in_order
from kallsift.memory.memory import Memory
from kallsift.memory.segments import BytesSegment

MIN_SYMBOLS, MAX_SYMBOLS = 256, 1 << 18
MAX_SECTIONS = 1 << 12
MAX_STRINGS = 64 << 20
MAX_NAME = 1024
"""Highest number of characters of a name; the section is not read if one is longer."""

MAX_SECTION_SYMBOLS = 1 << 14
"""Highest number of symbols at the beginnings of sections that are compared with the sections' names; all symbols of an
empty section lie there."""

SECTION_COST = 1 << 24
"""Bytes that are passed over while a section is read, mostly its strings."""

MAX_HEADERS = 64
"""Highest number of header candidates of each kind that are followed."""

BATCH = 1 << 18
"""Bytes that are searched at once: the temporary arrays stay in the processor's cache."""

BEFORE, AFTER = 1 << 12, 96 << 20
"""Bytes before and behind a header that are read: padding before the section, and the section."""

ABSOLUTE = next(encoding for encoding in ENCODINGS if encoding.name == "absolute")

_SHAPES = {4: (44, 16, 12), 8: (56, 24, 24)}
"""Sizes of the header, of a section's entry and of a symbol's entry, by the size of a long."""


def _magic(size: int, byte_order: Literal["<", ">"]) -> dict[int, int]:
    """Return the bytes that are the same in all headers of one kind, by their offsets.

    Those that are not zero come first.
    """
    header, section, symbol = _SHAPES[size]
    wanted: dict[int, int] = {}
    for place, number in ((0, header), (12, header), (16, section), (28, symbol)):
        wanted.update(enumerate(number.to_bytes(4, "little" if byte_order == "<" else "big"), place))
    return dict(sorted(wanted.items(), key=lambda each: not each[1]))


_KINDS: tuple[tuple[int, Literal["<", ">"]], ...] = ((4, "<"), (4, ">"), (8, "<"), (8, ">"))
_MAGICS = {kind: _magic(*kind) for kind in _KINDS}
_MAGIC_SIZE = 32

_HEADER_INTS = 9


@dataclass(frozen=True, eq=False)
class SpacedArray(AddressArray):
    """Addresses that stand in entries with other fields.

    Attributes:
        stride: bytes from one entry to the next.
    """

    stride: int = 0

    @property
    def size(self) -> int:
        """Size of all entries in bytes."""
        return len(self.words) * self.stride


def recover_modutils(
    memory: Memory, word_sizes: Sequence[int], attempt: Attempt, budget: WorkBudget
) -> Iterator[Tables]:
    """Yield the tables of all sections whose headers are consistent.

    A header is consistent if each of its numbers follows from the others.

    Args:
        memory: the source.
        word_sizes: sizes of an address in bytes, in the order in which they are tried.
        attempt: the record of the furthest step that was reached.
        budget: the work that this may cost.
    """
    found = list(_headers(memory, budget))
    for size in word_sizes:
        for byte_order in "<>":
            addresses = [address for address, kind in found if kind == (size, byte_order)]
            for address in addresses[:MAX_HEADERS]:
                if not budget.take("sections of modutils", SECTION_COST):
                    return
                segment = memory.around(address, BEFORE, AFTER)
                if tables := _tables(segment, address - segment.start, size, byte_order):
                    attempt.reached(3, Step.PLACEMENT, f"section of modutils' kallsyms at {address:#x}, placed nowhere")
                    yield tables


def _headers(memory: Memory, budget: WorkBudget) -> Iterator[tuple[int, tuple[int, str]]]:
    """Yield the addresses at which headers can stand, with word size and byte order.

    The sizes that a header names are compared. There are at most `MAX_HEADERS` of each kind.
    """
    found: Counter[tuple[int, str]] = Counter()
    for stretch in memory.segments:
        if stretch.size < MIN_SYMBOLS * _SHAPES[4][2]:
            continue
        if not budget.take("searches of a run of memory for modutils' sections", STRETCH_STEP):
            return
        for low in stretch.steps(BATCH):
            block = stretch.read(low, low + BATCH + _MAGIC_SIZE - 1)
            if not _can_hold_header(block):
                continue
            for kind in (kind for kind in _MAGICS if found[kind] < MAX_HEADERS):
                for place in places_of(block, _MAGICS[kind])[: MAX_HEADERS - found[kind]].tolist():
                    found[kind] += 1
                    yield stretch.start + low + place, kind


def _can_hold_header(block: NDArray[np.uint8]) -> bool:
    """Tell whether a block can hold a header of any kind.

    The bits that the sizes in all kinds have in common are compared: two sizes of the header, and one of a section.
    """
    is_header = (block & 0xEB) == 0x28
    if not is_header.any():
        return False
    ahead = is_header[:-16] & is_header[12:-4]
    return bool((ahead & ((block[16:] & 0xF7) == 0x10)).any())


def _tables(segment: BytesSegment, offset: int, size: int, byte_order: str) -> Tables | None:
    """Return the tables behind a header, or None.

    None if the numbers of the header do not fit each other, or lead to no names.
    """
    data, (header_size, section_size, symbol_size) = segment.data, _SHAPES[size]
    ints = np.frombuffer(data[offset : offset + 4 * _HEADER_INTS].tobytes(), f"{byte_order}u4").astype(np.int64)
    if len(ints) < _HEADER_INTS:
        return None
    _, total, sections, section_offset, _, count, symbol_offset, _, string_offset = ints.tolist()
    if not (
        MIN_SYMBOLS <= count <= MAX_SYMBOLS
        and 0 < sections <= MAX_SECTIONS
        and section_offset == header_size
        and symbol_offset == section_offset + sections * section_size
        and string_offset == symbol_offset + count * symbol_size
        and string_offset < total <= string_offset + MAX_STRINGS
        and offset + total <= len(data)
    ):
        return None
    entries = data[offset + symbol_offset : offset + string_offset].reshape(count, symbol_size)
    long = f"{byte_order}u{size}"
    section_of = entries[:, :4].copy().view(f"{byte_order}u4")[:, 0].astype(np.int64)
    addresses = entries[:, size : 2 * size].copy().view(long)[:, 0]
    names = entries[:, 2 * size : 2 * size + 4].copy().view(f"{byte_order}u4")[:, 0].astype(np.int64)
    if (section_of % section_size).any() or section_of.max() >= sections * section_size:
        return None
    strings = data[offset + string_offset : offset + total]
    heads = data[offset + section_offset : offset + symbol_offset].reshape(sections, section_size)
    starts = heads[:, :size].copy().view(long)[:, 0]
    own_names = heads[:, 2 * size : 2 * size + 4].copy().view(f"{byte_order}u4")[:, 0].astype(np.int64)
    number = section_of // section_size
    # each section is listed as a symbol as well; these symbols are dropped, because ld's map does not have them
    at_start = np.flatnonzero(addresses == starts[number])[:MAX_SECTION_SYMBOLS].tolist()
    own = [i for i in at_start if _text(strings, int(names[i])) == _text(strings, int(own_names[number[i]]))]
    kept = np.delete(np.arange(count), own)
    order = kept[np.argsort(addresses[kept], kind="stable")]
    listing = _expanded(strings, names[order])
    if listing is None:
        return None
    characters, bounds = listing
    words = addresses[order].astype(f"u{size}")
    array = SpacedArray(offset + symbol_offset, ABSOLUTE, words, stride=symbol_size)
    rows = (
        TableExtent("sections", offset, symbol_offset),
        TableExtent("addresses", offset + symbol_offset, count * symbol_size),
        TableExtent("names", offset + string_offset, total - string_offset),
    )
    checks = (
        Check.that(
            CheckId.HEADER, True, f"its numbers say where {sections} sections, {count} symbols and their names end"
        ),
        Check.that(CheckId.NAMES, True, f"{len(order)} names, each where its symbol says"),
        Check(CheckId.TYPE_LETTERS, Outcome.ABSENT, "modutils wrote none; each is printed as ?"),
    )
    return Tables(segment, size, byte_order, in_order(*rows), array, characters, bounds, checks)


def _text(strings: NDArray[np.uint8], start: int) -> bytes:
    return strings[start : start + MAX_NAME].tobytes().split(b"\0")[0]


def _expanded(
    strings: NDArray[np.uint8], starts: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]] | None:
    """Return ``?`` and the name of each symbol end to end, and the bounds, or None.

    None if one of the symbols has no proper name.
    """
    ends = np.flatnonzero(strings == 0)
    if not len(ends) or (starts >= len(strings)).any() or starts.max() > ends[-1]:
        return None
    lengths = ends[np.searchsorted(ends, starts)] - starts
    if not ((lengths > 0) & (lengths <= MAX_NAME)).all():
        return None
    bounds = np.concatenate(([0], np.cumsum(lengths + 1))).astype(np.int64)
    characters = np.full(int(bounds[-1]), ord("?"), np.uint8)
    places = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    text = strings[places + np.repeat(starts, lengths)]
    if ((text <= ord(" ")) | (text >= 0x7F)).any():
        return None
    characters[places + np.repeat(bounds[:-1] + 1, lengths)] = text
    return characters, bounds
