"""Relocate images: put the link-time values into words that hold 0 until the kernel boots.

A relocatable kernel lists its pointers as RELA entries, each with the address of a word and its value (relative to the
link address). Most linkers also store the value in the word. arm64's linker is told not to
(--no-apply-dynamic-relocs, since 4.6); in others it depends on their release. RELR and REL keep the value in the word,
so that they need no relocation here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import Bytes
from kallsift.memory.segments import BytesSegment

ByteOrder = Literal["<", ">"]

RELATIVE_TYPES = {
    "arm64": 0x403,  # R_AARCH64_RELATIVE
    "loongarch64": 3,  # R_LARCH_RELATIVE
    "ppc": 22,  # R_PPC_RELATIVE
    "ppc64": 22,  # R_PPC64_RELATIVE
    "riscv64": 3,  # R_RISCV_RELATIVE
    "s390x": 12,  # R_390_RELATIVE
    "x86-64": 8,  # R_X86_64_RELATIVE
}
"""Relocation type "value is the addend plus the distance from the link address", from each psABI."""

ENTRY = {bits: np.dtype([("place", word), ("info", word), ("value", word)]) for bits, word in ((32, "u4"), (64, "u8"))}
DYNAMIC_ENTRY = {bits: np.dtype([("tag", word), ("value", word)]) for bits, word in ((32, "u4"), (64, "u8"))}
TAG_END, TAG_RELA, TAG_RELA_SIZE = 0, 7, 8
DYNAMIC_LIMIT = 256

RUN = 64
"""Lowest number of adjacent entries that make a table; a kernel has tens of thousands."""
ALIGNMENT = 1 << 16
"""Alignment of link bases: the largest page of any architecture, and a divisor of every text offset in use."""
CANDIDATE_LIMIT = 1 << 13
SAMPLE = 256
FITTING_LIMIT = 64
"""Highest number of bases that may fit the sample; if more do, the table does not determine the base."""


@dataclass(frozen=True, eq=False)
class Relocated:
    """A flat image with its link-time values.

    Attributes:
        data: the image; the view that was given if no word of it had to change.
        base: link address of its first byte.
        changed: number of words that were filled in.
        entries: number of relocations that agree on the base.
    """

    data: Bytes
    base: int
    changed: int
    entries: int


def apply_dynamic(
    segments: tuple[BytesSegment, ...], dynamic: int | None, architecture: str | None, bits: int, order: ByteOrder
) -> tuple[BytesSegment, ...]:
    """Return the segments of an ELF image with the values of its RELA entries.

    Args:
        segments: segments of the image.
        dynamic: address of the dynamic section; None if there is none.
        architecture: architecture of the image.
        bits: 32 or 64.
        order: byte order.
    """
    kind = RELATIVE_TYPES.get(architecture or "")
    if dynamic is None or kind is None:
        return segments
    found = _at(segments, dynamic, DYNAMIC_LIMIT * DYNAMIC_ENTRY[bits].itemsize)
    tags = _records(found, DYNAMIC_ENTRY[bits].newbyteorder(order))
    values = dict(reversed(list(zip(tags["tag"].tolist(), tags["value"].tolist(), strict=True))))
    table = _at(segments, values.get(TAG_RELA, 0), values.get(TAG_RELA_SIZE, 0))
    entries = _records(table, ENTRY[bits].newbyteorder(order))
    entries = entries[entries["info"] == kind]
    places, addends = entries["place"].astype(np.uint64), entries["value"].astype(np.uint64)
    result = []
    for segment in segments:
        inside = (places >= segment.start) & (places < max(segment.start, segment.end - bits // 8 + 1))
        offsets = (places[inside] - np.uint64(segment.start)).astype(np.int64)
        data, _ = _patched(segment.data, offsets, addends[inside], np.dtype(f"{order}u{bits // 8}"))
        result.append(segment if data is segment.data else BytesSegment(segment.start, data))
    return tuple(result)


def relocate_flat(view: Bytes, architecture: str | None, order: ByteOrder) -> Relocated | None:
    """Return a flat 64-bit image with its link-time values; None if it has no base.

    The base is the only address at which every word that the table names holds either 0 or the value that the table
    gives for it. There is none if the image has no table, or the table does not determine it.
    """
    kind = RELATIVE_TYPES.get(architecture or "")
    if kind is None or architecture == "ppc":
        return None
    places, values = _table(view, kind, order)
    if len(places) < RUN:
        return None
    base = _base(view, places, values, order)
    if base is None:
        return None
    offsets = (places - np.uint64(base)).astype(np.int64)
    data, changed = _patched(view, offsets, values, np.dtype(f"{order}u8"))
    return Relocated(data, base, changed, len(places))


def _table(view: Bytes, kind: int, order: ByteOrder) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return addresses and values of all entries in runs of entries, shape (n,) each.

    Runs whose addresses are not close to those of the longest run are left out.
    """
    words = view[: len(view) // 8 * 8].view(f"{order}u8")
    infos = np.flatnonzero(words == kind)
    infos = infos[(infos > 0) & (infos < len(words) - 1)]
    runs: list[NDArray[np.int64]] = []
    for phase in range(3):
        same = infos[infos % 3 == phase]
        bounds = np.concatenate([[0], np.flatnonzero(np.diff(same) != 3) + 1, [len(same)]])
        long = np.flatnonzero(np.diff(bounds) >= RUN)
        runs += [same[bounds[run] : bounds[run + 1]] for run in long.tolist()]
    runs = [run for run in runs if int(np.ptp(words[run - 1])) < len(view)]
    if not runs:
        return np.empty(0, np.uint64), np.empty(0, np.uint64)
    runs.sort(key=len, reverse=True)
    low, high = (int(bound(words[runs[0] - 1])) for bound in (np.min, np.max))
    chosen = []
    for run in runs:
        places = words[run - 1]
        least, most = min(low, int(places.min())), max(high, int(places.max()))
        if most - least < len(view):
            low, high = least, most
            chosen.append(run)
    rows = np.sort(np.concatenate(chosen))
    return words[rows - 1].astype(np.uint64), words[rows + 1].astype(np.uint64)


def _base(view: Bytes, places: NDArray[np.uint64], values: NDArray[np.uint64], order: ByteOrder) -> int | None:
    """Return the only base that fits all entries; None if none or several do."""
    lowest, highest = int(places.min()), int(places.max())
    first = max(0, -(-(highest + 8 - len(view)) // ALIGNMENT) * ALIGNMENT)
    bases = range(first, lowest + 1, ALIGNMENT)[:CANDIDATE_LIMIT]
    some = np.linspace(0, len(places) - 1, min(len(places), SAMPLE)).astype(np.int64)
    fitting = [base for base in bases if _fits(view, base, places[some], values[some], order)]
    if len(fitting) > FITTING_LIMIT:
        return None
    fitting = [base for base in fitting if _fits(view, base, places, values, order)]
    return fitting[0] if len(fitting) == 1 else None


def _fits(view: Bytes, base: int, places: NDArray[np.uint64], values: NDArray[np.uint64], order: ByteOrder) -> bool:
    held = _words(view, (places - np.uint64(base)).astype(np.int64), np.dtype(f"{order}u8"))
    return bool(((held == 0) | (held == values)).all())


def _words(view: Bytes, offsets: NDArray[np.int64], word: np.dtype[np.unsignedinteger]) -> NDArray[np.uint64]:
    """Return the words at offsets inside of ``view``, with any alignment."""
    if not (offsets % word.itemsize).any():
        aligned = view[: len(view) // word.itemsize * word.itemsize].view(word)[offsets // word.itemsize]
        return aligned.astype(np.uint64)
    cells = view[offsets[:, None] + np.arange(word.itemsize)]
    return np.ascontiguousarray(cells).view(word)[:, 0].astype(np.uint64)


def _patched(
    view: Bytes, offsets: NDArray[np.int64], values: NDArray[np.uint64], word: np.dtype[np.unsignedinteger]
) -> tuple[Bytes, int]:
    """Return a copy of ``view`` with values in words that were 0, and their number.

    If no word changes, the result is ``view`` itself.
    """
    chosen = (_words(view, offsets, word) == 0) & (values != 0)
    count = int(np.count_nonzero(chosen))
    if not count:
        return view, 0
    data = view.copy()
    cells = values[chosen].astype(word).view(np.uint8).reshape(count, word.itemsize)
    data[offsets[chosen][:, None] + np.arange(word.itemsize)] = cells
    data.flags.writeable = False
    return data, count


def _at(segments: tuple[BytesSegment, ...], address: int, size: int) -> Bytes:
    """Return the part of ``[address, address + size)`` that one segment holds."""
    for segment in segments:
        if segment.start <= address < segment.end:
            return segment.data[address - segment.start : address - segment.start + size]
    return np.empty(0, np.uint8)


def _records(data: Bytes, layout: np.dtype[np.void]) -> NDArray[np.void]:
    return data[: len(data) // layout.itemsize * layout.itemsize].view(layout)
