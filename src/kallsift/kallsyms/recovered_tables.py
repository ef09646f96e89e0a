"""Tables: what the recovery of one kernel's symbol table found, before its addresses have their place."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from kallsift.budget import WorkBudget
from kallsift.errors import Step
from kallsift.kallsyms.evidence import Check
from kallsift.kallsyms.format.address_table import AddressArray
from kallsift.memory.memory import Segment


@dataclass(frozen=True)
class Row:
    """One table of a kernel.

    Attributes:
        name: as in the kernel's source, without ``kallsyms_``.
        offset: of its first byte in the segment's data.
        size: bytes.
    """

    name: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        """Offset behind its last byte."""
        return self.offset + self.size


class Layout(Enum):
    """How well the place of the address array is known."""

    USUAL = "usual"
    """It touches another table."""
    EXACT = "exact"
    """It lies anywhere; its neighbours are none of it, and the names end where it does."""
    LOOSE = "loose"
    """It lies anywhere, and its neighbours or those of the names could go on with it: landmarks must bear it out."""


@dataclass(frozen=True)
class Damage:
    """What one table lost.

    Attributes:
        name: the table's.
        lost: addresses in the source of its pages that are missing, blank, or hold something else.
        first: address of the first page that it touches.
        pages: how many pages it touches.
    """

    name: str
    lost: tuple[int, ...]
    first: int
    pages: int


@dataclass(frozen=True, eq=False)
class Listed:
    """Names without addresses.

    Attributes:
        characters: type letters and names end to end, uint8.
        bounds: of each symbol in ``characters``, shape (n + 1,), int64.
    """

    characters: NDArray[np.uint8]
    bounds: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def first(self, count: int) -> Listed:
        """Return the first so many of them."""
        return Listed(self.characters[: self.bounds[count]], self.bounds[: count + 1])

    def same_as(self, other: Listed) -> bool:
        """Tell whether both are the same names in the same order."""
        return np.array_equal(self.bounds, other.bounds) and np.array_equal(self.characters, other.characters)


@dataclass(frozen=True, eq=False)
class Tables:
    """One kernel's tables in agreement with each other; addresses still lack their place.

    Attributes:
        segment: the memory that they lie in; all offsets are into its data.
        word_size: bytes of an address.
        byte_order: ``"<"`` or ``">"``.
        rows: the tables, in the order of their offsets.
        array: the table of addresses.
        characters: type letters and names end to end, uint8.
        bounds: of each symbol in ``characters``, shape (n + 1,), int64; an unknown name is empty, without a letter.
        checks: the equations and how they came out.
        known_addresses: shape (n,), bool; None where all entries of the array survive.
        damage: what each table lost; empty where nothing was.
        layout: how well the place of the array is known.
        rivals: names of other kernels that the array may belong to as well, as many as it has words.
    """

    segment: Segment
    word_size: int
    byte_order: str
    rows: tuple[Row, ...]
    array: AddressArray
    characters: NDArray[np.uint8]
    bounds: NDArray[np.int64]
    checks: tuple[Check, ...]
    known_addresses: NDArray[np.bool_] | None = None
    damage: tuple[Damage, ...] = ()
    layout: Layout = Layout.USUAL
    rivals: tuple[Listed, ...] = ()

    @property
    def count(self) -> int:
        """Number of symbols."""
        return len(self.bounds) - 1

    @property
    def places(self) -> tuple[tuple[str, int, int], ...]:
        """Name, address in the source and size of each table, in the order of their addresses."""
        return tuple((row.name, self.segment.start + row.offset, row.size) for row in self.rows)

    @property
    def array_address(self) -> int:
        """Where the address array lies in the source."""
        return self.segment.start + self.array.offset


def in_order(*rows: Row) -> tuple[Row, ...]:
    """Rows by their offsets."""
    return tuple(sorted(rows, key=lambda row: row.offset))


MAX_UNPLACED = 16
"""Ways to read tables that are kept though nothing tells where they are mapped."""


@dataclass
class Attempt:
    """How far the recovery came: the furthest step reached, for the message when nothing is found.

    Attributes:
        step: the step that failed.
        message: what was found before it, and what was not.
        damaged: whether tables lie where they usually do, but too much of them is lost: they need not be looked for
            elsewhere.
        has_landmarks: whether a reading of the tables was placed, and things that its symbols name are where they say.
        budget: what it may cost; None if that is bounded already.
        unplaced: tables that are in order, but of which nothing tells where they are mapped; `MAX_UNPLACED` at most.
    """

    step: Step = Step.TOKEN_TABLE
    message: str = "no 256 strings with an index that fits them were found; if there was a table, its page is lost"
    rank: int = field(default=0, repr=False)
    damaged: bool = False
    has_landmarks: bool = False
    budget: WorkBudget | None = field(default=None, repr=False)
    unplaced: list[Tables] = field(default_factory=list, repr=False)

    def reached(self, rank: int, step: Step, message: str) -> None:
        """Notes that everything before ``step`` held."""
        if rank >= self.rank:
            self.rank, self.step, self.message = rank, step, message

    def can_afford(self, what: str, work: int) -> bool:
        """Take what the next step costs from the budget; tell whether it may be made."""
        return self.budget is None or self.budget.take(what, work)
