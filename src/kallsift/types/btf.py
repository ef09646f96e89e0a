"""Read the types of one kernel or module by number, each at first use.

A module's types build on the kernel's (split BTF): its numbers go on behind the kernel's last one, and so do its names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import is_in
from kallsift.kernel.access.btf_blob import EACH, FIXED, BtfBlob, BtfError, Kind
from kallsift.kernel.access.btf_index import MAX_COUNT, WORDS

KINDS = tuple(Kind)
"""Kinds by number; a look-up here is far faster than one in the enumeration."""

MAX_SAME = 64
"""Highest number of places among the strings at which a name is found; kernels have each string once."""

MAX_NAME = 1024
"""Highest number of characters of a name; the kernel allows 512."""

PER_CPU_SECTION = ".data..percpu"
"""Section of the variables of which each processor has its own; where it begins is `image_sections.PER_CPU`."""

MAX_HOLDERS = 4096
"""Highest number of types that are searched for a record of one name."""


@dataclass(frozen=True, eq=False, repr=False)
class Btf:
    """Types by number. Number 0 is ``void``.

    Attributes:
        blob: the own types.
        word_size: bytes of a pointer.
        base: the types that these build on; None of a kernel's.
    """

    blob: BtfBlob
    word_size: int
    base: Btf | None = None

    def __len__(self) -> int:
        """Return how many numbers there are, that of ``void`` included."""
        return self._count

    def __repr__(self) -> str:
        return f"<Btf: {len(self) - 1:,} types, {len(self) - self.first:,} of its own>"

    @cached_property
    def _count(self) -> int:
        return self.first + len(self.blob.starts)

    @cached_property
    def first(self) -> int:
        """Number of the first own type."""
        return 1 if self.base is None else len(self.base)

    @cached_property
    def name_base(self) -> int:
        """Offset of the first own name."""
        return 0 if self.base is None else self.base.name_base + len(self.base.blob.strings)

    @cached_property
    def has_signed_enums(self) -> bool:
        """True if signed enumerations are marked, as since Linux 6.1."""
        infos = self.blob.words[self.blob.of_kind(Kind.ENUM) + 1]
        own = bool((infos >> np.uint32(31)).any())
        return own or (self.base is not None and self.base.has_signed_enums)

    def _entry(self, number: int) -> tuple[BtfBlob, int]:
        """Return the blob that has a type, and the index of its first word.

        Raises:
            BtfError: if there is no such type.
        """
        index, starts = number - self.first, self.blob.starts
        if 0 <= index < len(starts):
            return self.blob, int(starts[index])
        if self.base is not None and 0 < number < self.first:
            return self.base._entry(number)
        raise BtfError(f"there is no type {number}")

    def info(self, number: int) -> tuple[Kind, int, bool]:
        """Return kind, count of records and flag of a type.

        Raises:
            BtfError: if there is no such type, or it is of a kind that is not known here.
        """
        if not number:
            return Kind.VOID, 0, False
        blob, place = self._entry(number)
        info = int(blob.words[place + 1])
        kind = info >> 24 & 0x7F
        if kind >= len(KINDS):
            raise BtfError(f"type {number} is of the unknown kind {kind}")
        return KINDS[kind], info & MAX_COUNT, bool(info >> 31)

    def name(self, number: int) -> str:
        """Return a type's own name, empty where it has none."""
        if not number:
            return "void"
        blob, place = self._entry(number)
        return self.text(int(blob.words[place]))

    def third(self, number: int) -> int:
        """Return a type's size, or the number of the type that it is made of."""
        blob, place = self._entry(number)
        return int(blob.words[place + 2])

    def behind(self, number: int) -> list[int]:
        """Return the words behind those that all types have, without records."""
        blob, place = self._entry(number)
        words: list[int] = blob.words[place + WORDS :][: FIXED.get(self.info(number)[0], 0)].tolist()
        return words

    def records(self, number: int) -> NDArray[np.uint32]:
        """Return a type's records, shape (count, words of each)."""
        blob, place = self._entry(number)
        kind, count, _ = self.info(number)
        each = EACH.get(kind, 0)
        return blob.words[place + WORDS :][: each * count].reshape(-1, max(each, 1))

    def text(self, offset: int) -> str:
        """Return the name at an offset, read as Latin-1.

        Raises:
            BtfError: if there is none.
        """
        if self.base is not None and offset < self.name_base:
            return self.base.text(offset)
        start = offset - self.name_base
        end = self.blob.strings.find(b"\0", start, start + MAX_NAME)
        if not 0 <= start < len(self.blob.strings) or end < 0:
            raise BtfError(f"the name at {offset:#x} is missing or does not end")
        return self.blob.strings[start:end].decode("latin-1")

    def offsets(self, name: str) -> list[int]:
        """Return all offsets of a name, at most `MAX_SAME`, those of the base first."""
        found = [] if self.base is None else self.base.offsets(name)
        if not name or "\0" in name or max(name) > "\xff":
            return found
        wanted, strings = name.encode("latin-1") + b"\0", self.blob.strings
        # each name has the NUL of the one before it, but for the first
        place = -1 if strings.startswith(wanted) else strings.find(b"\0" + wanted)
        while len(found) < MAX_SAME and (place >= 0 or strings.startswith(wanted)):
            found.append(self.name_base + place + 1)
            place = strings.find(b"\0" + wanted, place + 1)
            if place < 0:
                break
        return found

    def names(self, beginning: str) -> Iterator[str]:
        """Yield all names that begin so, those of the base first, whatever has them."""
        if self.base is not None:
            yield from self.base.names(beginning)
        wanted = beginning.encode("latin-1", "replace")
        yield from (name.decode("latin-1") for name in self.blob.strings.split(b"\0") if name.startswith(wanted))

    def named(self, name: str) -> list[int]:
        """Return the numbers of all types of a name, ascending."""
        return self._named(np.array(self.offsets(name), np.uint32))

    def _named(self, offsets: NDArray[np.uint32]) -> list[int]:
        below = [] if self.base is None else self.base._named(offsets)
        return [*below, *(np.flatnonzero(is_in(self.blob.names, offsets)) + self.first).tolist()]

    def of_kind(self, kind: Kind) -> NDArray[np.int64]:
        """Return the numbers of all types of a kind, ascending."""
        own = np.flatnonzero(self.blob.kinds == kind) + self.first
        return own if self.base is None else np.concatenate((self.base.of_kind(kind), own))

    def variables(self, section: str) -> list[tuple[int, int, int]]:
        """Return the variables in a section: the number of each, its offset and its size."""
        numbers = [number for number in self.of_kind(Kind.DATASEC).tolist() if self.name(number) == section]
        return [(number, offset, size) for found in numbers for number, offset, size in self.records(found).tolist()]

    def with_record(self, name: str, *kinds: Kind) -> list[int]:
        """Return the numbers of types that have a record of a name, such as an enumerator.

        Of more than `MAX_HOLDERS` the first ones are looked through.
        """
        return self._with_record(np.array(self.offsets(name), np.uint32), kinds)

    def _with_record(self, offsets: NDArray[np.uint32], kinds: tuple[Kind, ...]) -> list[int]:
        below = [] if self.base is None else self.base._with_record(offsets, kinds)
        places = np.flatnonzero(is_in(self.blob.words, offsets))
        owners = np.searchsorted(self.blob.starts, places, "right") - 1
        owners = owners[is_in(self.blob.kinds[owners], np.array(kinds, np.uint8))]
        numbers = list(dict.fromkeys((owners + self.first).tolist()))[:MAX_HOLDERS]
        return [*below, *(number for number in numbers if (self.records(number)[:, 0, None] == offsets).any())]
