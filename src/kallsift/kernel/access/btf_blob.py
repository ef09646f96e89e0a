"""Parse BTF, the types that a kernel carries of itself, into words, names and where each type begins.

Format: Documentation/bpf/btf.rst and include/uapi/linux/btf.h. Types have no index; each says by its kind and its count
of records how long it is. Headers of 32 bytes name a layout section besides: it has for each kind how many bytes stand
behind the common words, once and for each record, so that kinds which a reader does not know can be skipped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import KallsiftError
from kallsift.kernel.access.btf_index import KindSizes, type_starts

MAGIC = 0xEB9F
HEADER = 24
LAYOUT_HEADER = 32
"""Size in bytes of a header that names a layout section."""

MAX_SIZE = 1 << 26
"""Highest size of all types in bytes; a kernel has some 6 MB of them."""


class Kind(IntEnum):
    """Kinds of types, ``BTF_KIND_*``."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


FIXED = {Kind.INT: 1, Kind.ARRAY: 3, Kind.VAR: 1, Kind.DECL_TAG: 1}
"""Words behind the common ones, by kind."""

EACH = {Kind.STRUCT: 3, Kind.UNION: 3, Kind.ENUM: 2, Kind.FUNC_PROTO: 2, Kind.DATASEC: 3, Kind.ENUM64: 3}
"""Words behind these for each record, by kind."""


MIN_FUNCTIONS = 256
"""Lowest number of functions among the types that makes a comparison with symbols useful."""

ADDED = "_impl"
"""Suffix of the functions that resolve_btfids adds for those with hidden arguments (KF_IMPLICIT_ARGS, since 7.1)."""


class BtfError(KallsiftError):
    """Raised where types are absent or invalid."""


def kind_sizes() -> KindSizes:
    """Return the sizes of the kinds that are known here."""
    sizes = KindSizes.of_none()
    sizes.known[1 : len(Kind)] = True
    sizes.fixed[list(FIXED)], sizes.each[list(EACH)] = list(FIXED.values()), list(EACH.values())
    return sizes


@dataclass(frozen=True, eq=False, repr=False)
class BtfBlob:
    """The types of one kernel or of one module, without those that they build on.

    Attributes:
        words: the types, shape (n,), uint32, native byte order.
        strings: the names, each with a NUL behind it.
        sizes: of each kind.
        data: all bytes as they were found, header first; empty where the types were made up.
        starts: index of the first word of each type, ascending, shape (count,).

    Raises:
        BtfError: if the types do not follow each other to the last word.
    """

    words: NDArray[np.uint32]
    strings: bytes
    sizes: KindSizes = field(default_factory=kind_sizes)
    data: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    starts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        starts = type_starts(self.words, self.sizes)
        if starts is None:
            raise BtfError("its types are not contiguous, or one is of an unknown kind and size")
        object.__setattr__(self, "starts", starts)

    def __repr__(self) -> str:
        return f"<BtfBlob: {4 * len(self.words):,} bytes of types, {len(self.strings):,} of names>"

    @cached_property
    def has_lost_names(self) -> bool:
        """True if names are blank: names are never empty, so two NULs never meet."""
        return b"\0\0" in self.strings

    @cached_property
    def kinds(self) -> NDArray[np.uint8]:
        """Kind of each type, shape (count,)."""
        return (self.words[self.starts + 1] >> np.uint32(24)).astype(np.uint8) & np.uint8(0x7F)

    @cached_property
    def names(self) -> NDArray[np.uint32]:
        """Offset of each type's name, shape (count,)."""
        return self.words[self.starts]

    def of_kind(self, kind: Kind) -> NDArray[np.int64]:
        """Return the index of the first word of each type of a kind, ascending."""
        found: NDArray[np.int64] = self.starts[self.kinds == kind]
        return found


def parse(data: NDArray[np.uint8]) -> BtfBlob:
    """Parse types that begin with their header, of either byte order.

    The sections must lie within the bytes, the types must follow each other, and the names must end.

    Raises:
        BtfError: if there are none.
    """
    if len(data) > MAX_SIZE:
        raise BtfError("it is larger than the types of any kernel")
    order = "<" if len(data) and data[0] == MAGIC & 0xFF else ">"
    if len(data) < HEADER or int(data[:2].view(f"{order}u2")[0]) != MAGIC or data[2] != 1:
        raise BtfError("it is not BTF: the magic number EB9F and version 1 are missing")
    header, *sections = (int(word) for word in data[4:HEADER].view(f"{order}u4"))
    if not HEADER <= header <= len(data):
        raise BtfError("its header claims an impossible size")
    if header >= LAYOUT_HEADER:
        sections += (int(word) for word in data[HEADER:LAYOUT_HEADER].view(f"{order}u4"))
    places = list(zip(sections[::2], sections[1::2], strict=True))
    end = max(header + offset + size for offset, size in places)
    if end > len(data):
        raise BtfError(f"it is cut short: its header claims {end:,} bytes, but there are {len(data):,}")
    if places[0][1] % 4:
        raise BtfError("its header claims a size that is not a multiple of a word")
    types, names, *layout = (data[header + offset :][:size] for offset, size in places)
    if len(names) and names[-1]:
        raise BtfError("its last name does not end")
    words = np.ascontiguousarray(types).view(f"{order}u4").astype(np.uint32, copy=False)
    return BtfBlob(words, names.tobytes(), _sizes(layout[0]) if layout else kind_sizes(), data)


def whole_size(header: NDArray[np.uint8]) -> int:
    """Return the size in bytes of types by their header, if their sections are contiguous.

    Raises:
        BtfError: if it is no header, or they do not.
    """
    order = "<" if header[0] == MAGIC & 0xFF else ">"
    length, *sections = (int(word) for word in header[4:LAYOUT_HEADER].view(f"{order}u4"))
    if length not in (HEADER, LAYOUT_HEADER):
        raise BtfError("its header claims an impossible size")
    sections = sections if length == LAYOUT_HEADER else sections[:4]
    end = 0
    for offset, size in sorted(zip(sections[::2], sections[1::2], strict=True)):
        if not end <= offset < end + 8 and size:
            raise BtfError("its sections are not contiguous")
        end = max(end, offset + size)
    if length + end > MAX_SIZE:
        raise BtfError("it is larger than the types of any kernel")
    return length + end


def _sizes(layout: NDArray[np.uint8]) -> KindSizes:
    """Return the sizes of all kinds: of those unknown here, as a layout section has them (``struct btf_layout``).

    Raises:
        BtfError: if it contradicts what is known.
    """
    sizes = kind_sizes()
    rows = layout[: len(layout) // 4 * 4].reshape(-1, 4)[: len(sizes.known)]
    fixed, each = (rows[:, column].astype(np.int64) for column in (0, 1))
    count = len(rows)
    even = (fixed % 4 == 0) & (each % 4 == 0)
    same = even & (fixed == 4 * sizes.fixed[:count]) & (each == 4 * sizes.each[:count])
    if not same[1 : len(Kind)].all():
        raise BtfError("its own layout table contradicts the sizes of types")
    new = np.flatnonzero(even & ~sizes.known[:count])
    new = new[new >= len(Kind)]
    sizes.known[new], sizes.fixed[new], sizes.each[new] = True, fixed[new] // 4, each[new] // 4
    return sizes
