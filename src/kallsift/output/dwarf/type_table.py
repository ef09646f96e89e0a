"""Arrange the types of a kernel or a module so that all of a kind can be written at once.

Types may be damaged: numbers of types that are none, names outside of all names, types that lead back to themselves.
What such a number stands for is written as ``void``, such a name as none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kallsift.kernel.access.btf_blob import EACH, FIXED, Kind
from kallsift.kernel.access.btf_index import MAX_COUNT, WORDS
from kallsift.types.btf import MAX_NAME, Btf
from kallsift.types.type import MAX_DEPTH

FOLLOWED = (
    Kind.PTR,
    Kind.TYPEDEF,
    Kind.VOLATILE,
    Kind.CONST,
    Kind.RESTRICT,
    Kind.TYPE_TAG,
    Kind.ARRAY,
    Kind.FUNC_PROTO,
)
"""Kinds that are made of one other type. Chains of these alone end."""

WRITTEN = tuple(
    kind for kind in Kind if kind not in (Kind.VOID, Kind.FUNC, Kind.VAR, Kind.DATASEC, Kind.DECL_TAG, Kind.TYPE_TAG)
)
"""Kinds that have entries as types; a type tag stands for what it tags, which DWARF 4 cannot express."""

PRINTABLE = bytes(byte if (byte >= 0x20 and byte != 0x7F) or not byte else ord("?") for byte in range(256))
"""Replaces control characters in names, which debuggers print as they are."""


def is_among(kinds: NDArray[np.uint8], among: tuple[Kind, ...]) -> NDArray[np.bool_]:
    """Tell which kinds are among others."""
    mask = np.zeros(256, np.bool_)
    mask[list(among)] = True
    found: NDArray[np.bool_] = mask[kinds]
    return found


@dataclass(frozen=True, eq=False)
class TypeTable:
    """The types of a kernel, or those that a module adds to these, as columns.

    Attributes:
        btf: the types.
        base: the table of the types that these build on; None of a kernel's.
        names_at: offset in .debug_str of the own names.
    """

    btf: Btf
    base: TypeTable | None
    names_at: int

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Index of each type's first word."""
        return self.btf.blob.starts

    @cached_property
    def kinds(self) -> NDArray[np.uint8]:
        """Kind of each type."""
        return self.btf.blob.kinds

    @cached_property
    def infos(self) -> NDArray[np.uint32]:
        """Word of each type with its kind, count and flag."""
        return self.btf.blob.words[self.starts + 1]

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Count of the records of each type."""
        return (self.infos & np.uint32(MAX_COUNT)).astype(np.int64)

    @cached_property
    def flags(self) -> NDArray[np.bool_]:
        """Flag of each type."""
        return (self.infos >> np.uint32(31)).astype(np.bool_)

    @cached_property
    def third(self) -> NDArray[np.int64]:
        """Size of each type, or the number of the one that it is made of."""
        return self.btf.blob.words[self.starts + 2].astype(np.int64)

    @cached_property
    def names(self) -> NDArray[np.int64]:
        """Name of each type as an offset into .debug_str; 0 where it has none."""
        return self.name_offsets(self.btf.blob.names)

    def name_offsets(self, offsets: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Return names as offsets into .debug_str; 0 where there is none."""
        wide = offsets.astype(np.int64)
        own = wide - self.btf.name_base
        found = np.where((own >= 0) & (own < len(self.btf.blob.strings)), own + self.names_at, 0)
        return found if self.base is None else np.where(own < 0, self.base.name_offsets(offsets), found)

    def texts(self, chosen: NDArray[np.int64]) -> list[str]:
        """Return the names of some types, read as Latin-1; empty where there is none or it is too long."""
        offsets = self.btf.blob.names[chosen]
        if self.base is None:
            return self._texts(offsets)
        own = offsets >= self.btf.name_base
        found = iter(self._texts(offsets[own])), iter(self.base._texts(offsets[~own]))
        return [next(found[0] if is_own else found[1]) for is_own in own.tolist()]

    def _texts(self, offsets: NDArray[np.uint32]) -> list[str]:
        """Return the own names at some offsets."""
        strings = self.btf.blob.strings
        ends = np.append(np.flatnonzero(np.frombuffer(strings, np.uint8) == 0), len(strings))
        starts = np.minimum(offsets.astype(np.int64) - self.btf.name_base, len(strings))
        stops = ends[np.searchsorted(ends, starts)]
        stops = np.where(stops - starts <= MAX_NAME, stops, starts)
        text = strings.decode("latin-1")
        return [text[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]

    def is_kind(self, *kinds: Kind) -> NDArray[np.bool_]:
        """Tell which own types are of some kinds."""
        return is_among(self.kinds, kinds)

    def records(self, chosen: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the places of the records of types that have some, and for each whose it is.

        Args:
            chosen: indices of types of one kind.
        """
        if not len(chosen):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        kind = Kind(int(self.kinds[chosen[0]]))
        counts = self.counts[chosen]
        owners = np.repeat(np.arange(len(chosen)), counts)
        within = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.starts[chosen][owners] + WORDS + FIXED.get(kind, 0) + EACH[kind] * within, owners

    @cached_property
    def _made_of(self) -> NDArray[np.int64]:
        """Number of the type that each is made of, by number; its own number where it is made of none."""
        made_of = np.arange(len(self.btf))
        if self.base is not None:
            made_of[: self.btf.first] = self.base._made_of
        arrays = np.flatnonzero(self.kinds == Kind.ARRAY)
        followed = np.flatnonzero(self.is_kind(*FOLLOWED))
        made_of[self.btf.first + followed] = self.third[followed]
        made_of[self.btf.first + arrays] = self.btf.blob.words[self.starts[arrays] + WORDS]
        return np.where(made_of < len(made_of), made_of, 0)

    @cached_property
    def all_kinds(self) -> NDArray[np.uint8]:
        """Kind of each type by number, those of the base too."""
        base = np.zeros(1, np.uint8) if self.base is None else self.base.all_kinds
        return np.concatenate((base, self.kinds))

    @cached_property
    def resolved(self) -> NDArray[np.int64]:
        """Number of the type that stands for each, by number; 0 for what is ``void`` or no type that is written."""
        own = np.arange(self.btf.first, len(self.btf))
        ended = ~is_among(self.all_kinds[self._end(own, FOLLOWED)], FOLLOWED)
        tagged = self._end(own, (Kind.TYPE_TAG,))
        found = np.where(ended & is_among(self.all_kinds[tagged], WRITTEN), tagged, 0)
        return np.concatenate((np.zeros(1, np.int64) if self.base is None else self.base.resolved, found))

    def _end(self, numbers: NDArray[np.int64], followed: tuple[Kind, ...]) -> NDArray[np.int64]:
        """Return where types lead through those of some kinds; one of these where that is too far."""
        made_of, mask = self._made_of, is_among(self.all_kinds, followed)
        for _ in range(MAX_DEPTH):
            if not mask[numbers].any():
                break
            numbers = np.where(mask[numbers], made_of[numbers], numbers)
        return numbers

    def references(self, numbers: NDArray[np.int64] | NDArray[np.uint32]) -> NDArray[np.int64]:
        """Return what stands for types by their numbers; 0 for none."""
        wide = numbers.astype(np.int64)
        return self.resolved[np.where(wide < len(self.resolved), wide, 0)]

    @cached_property
    def left_out(self) -> int:
        """Number of own types of an unknown kind or without an end, which become ``void``."""
        unknown = self.kinds >= len(Kind)
        endless = self.is_kind(*FOLLOWED) & (self.resolved[self.btf.first :] == 0) & (self.kinds != Kind.TYPE_TAG)
        return int((unknown | endless).sum())
