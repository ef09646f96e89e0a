"""Hold the tables that were recovered of one kernel, before the addresses are placed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from kallsift.budget import WorkBudget
from kallsift.errors import Step
from kallsift.kallsyms.evidence import Check
from kallsift.kallsyms.format.address_encodings import AddressArray
from kallsift.memory.segments import BytesSegment


@dataclass(frozen=True)
class TableExtent:
    """The extent of one table.

    Attributes:
        name: name in the kernel's source, without ``kallsyms_``.
        offset: offset of the first byte in the segment's data.
        size: size in bytes.
    """

    name: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        """Offset behind the last byte."""
        return self.offset + self.size


class Layout(Enum):
    """Certainty of the location of the address array."""

    ADJACENT = "usual"
    """The array touches another table."""
    BOUNDED = "exact"
    """The array lies anywhere. The words beside it cannot belong to it, and the names end where the array ends."""
    AMBIGUOUS = "loose"
    """The array lies anywhere, and it or the names could continue in the bytes beside them: landmarks must confirm
    it."""


@dataclass(frozen=True)
class Damage:
    """The pages that one table lost.

    Attributes:
        name: name of the table.
        lost: source addresses of its pages that are missing, blank, or hold something else.
        first: source address of the first page that the table touches.
        pages: number of pages that the table touches.
    """

    name: str
    lost: tuple[int, ...]
    first: int
    pages: int


@dataclass(frozen=True, eq=False)
class Listed:
    """A list of names without addresses.

    Attributes:
        characters: type letters and names end to end, uint8.
        bounds: start of each symbol in ``characters``, and the end of the last one, shape (n + 1,), int64.
    """

    characters: NDArray[np.uint8]
    bounds: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def first(self, count: int) -> Listed:
        """Return the list of the first ``count`` names."""
        return Listed(self.characters[: self.bounds[count]], self.bounds[: count + 1])

    def same_as(self, other: Listed) -> bool:
        """Tell whether both lists have the same names in the same order."""
        return np.array_equal(self.bounds, other.bounds) and np.array_equal(self.characters, other.characters)


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables of one kernel, which agree with each other; their addresses are not placed yet.

    Attributes:
        segment: the memory with the tables; all offsets are offsets in its data.
        word_size: bytes of an address.
        byte_order: ``"<"`` or ``">"``.
        rows: the extents of the tables, in the order of their offsets.
        array: the table of addresses.
        characters: type letters and names end to end, uint8.
        bounds: start of each symbol in ``characters``, and the end of the last one, shape (n + 1,), int64; an unknown
            name is empty, without a letter.
        checks: the equations and their outcomes.
        known_addresses: whether each address survives, shape (n,), bool; None where all entries of the array survive.
        damage: the lost pages of each table; empty where none is lost.
        layout: how certain the location of the array is.
        rivals: names of other kernels that the array may belong to as well; each has as many names as the array has
            words.
    """

    segment: BytesSegment
    word_size: int
    byte_order: str
    rows: tuple[TableExtent, ...]
    array: AddressArray
    characters: NDArray[np.uint8]
    bounds: NDArray[np.int64]
    checks: tuple[Check, ...]
    known_addresses: NDArray[np.bool_] | None = None
    damage: tuple[Damage, ...] = ()
    layout: Layout = Layout.ADJACENT
    rivals: tuple[Listed, ...] = ()

    @property
    def count(self) -> int:
        """Number of symbols."""
        return len(self.bounds) - 1

    @property
    def places(self) -> tuple[tuple[str, int, int], ...]:
        """Name, source address and size of each table, in the order of the addresses."""
        return tuple((row.name, self.segment.start + row.offset, row.size) for row in self.rows)

    @property
    def array_address(self) -> int:
        """Source address of the address array."""
        return self.segment.start + self.array.offset


def in_order(*rows: TableExtent) -> tuple[TableExtent, ...]:
    """Return the rows in the order of their offsets."""
    return tuple(sorted(rows, key=lambda row: row.offset))


MAX_UNPLACED = 16
"""Highest number of readings of tables that are kept although nothing tells where they are mapped."""


@dataclass
class Attempt:
    """Progress of a recovery: the furthest step that was reached, for the message when nothing is found.

    Attributes:
        step: the step that failed.
        message: what was found before that step, and what was not found.
        rank: position of the step among all steps; a higher rank is further.
        damaged: whether tables lie where they usually do, but are too damaged to read; then they need not be looked for
            elsewhere.
        has_landmarks: whether a reading of the tables was placed, and landmarks were found where its symbols say.
        running_word_size: bytes of a word of the kernel that a reading showed to run; tables with words of another size
            need not be looked for then. None if no reading did.
        is_seamless: whether tables were found of which no page is lost, so that they need not be looked for elsewhere.
        budget: the work that the attempt may cost; None if the work is bounded already.
        unplaced: consistent tables of which nothing tells where they are mapped; at most `MAX_UNPLACED`.
    """

    step: Step = Step.TOKEN_TABLE
    message: str = "no 256 strings with an index that fits them were found; if there was a table, its page is lost"
    rank: int = field(default=0, repr=False)
    damaged: bool = False
    has_landmarks: bool = False
    running_word_size: int | None = None
    is_seamless: bool = False
    budget: WorkBudget | None = field(default=None, repr=False)
    unplaced: list[Tables] = field(default_factory=list, repr=False)

    def reached(self, rank: int, step: Step, message: str) -> None:
        """Record that everything before ``step`` held.

        The record stays as it is if a step of a higher rank was reached before.
        """
        if rank >= self.rank:
            self.rank, self.step, self.message = rank, step, message

    def can_afford(self, what: str, work: int) -> bool:
        """Take the cost of the next step from the budget; tell whether it may be made."""
        return self.budget is None or self.budget.take(what, work)
