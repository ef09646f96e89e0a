"""Hold what all steps of the recovery share: the memory around one token table, and which of its pages are lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.damaged.page_map import Pages
from kallsift.kallsyms.format.token_table import TokenTable
from kallsift.kallsyms.solvers.adjacent import TYPE_LETTERS
from kallsift.memory.segments import BytesSegment

WITHIN = 16 << 20
"""Highest distance of another table from the token table, in bytes."""


@dataclass(frozen=True, eq=False)
class DamageContext:
    """The memory around one token table, some pages of which are lost.

    Attributes:
        segment: the memory with the tables; bytes that the source lacks are zero in it.
        tokens: the token table; its index may be lost.
        word_sizes: sizes of an address in bytes, in the order in which they are tried.
        pages: the lost pages.
    """

    segment: BytesSegment
    tokens: TokenTable
    word_sizes: Sequence[int]
    pages: Pages

    @classmethod
    def of(cls, segment: BytesSegment, tokens: TokenTable, word_sizes: Sequence[int]) -> DamageContext:
        """Return the context of a token table before any page turns out to be overwritten: only blank ones are lost."""
        low, high = max(0, tokens.offset - WITHIN), min(len(segment.data), tokens.offset + WITHIN)
        return cls(segment, tokens, word_sizes, Pages.blank(segment, low, high))

    def with_pages(self, pages: Pages) -> DamageContext:
        """Return the context with other lost pages."""
        return replace(self, pages=pages)

    @property
    def data(self) -> NDArray[np.uint8]:
        """The segment's bytes."""
        return self.segment.data

    @cached_property
    def firsts(self) -> NDArray[np.uint8]:
        """The first character of each token; zero for empty or unknown tokens. Shape (256,)."""
        tokens = self.tokens
        firsts = tokens.strings[np.minimum(tokens.starts[:-1], tokens.size - 1)]
        return firsts if tokens.known is None else np.where(tokens.known, firsts, 0).astype(np.uint8)

    @cached_property
    def can_begin(self) -> NDArray[np.bool_]:
        """Mask of the codes that an entry can begin with, by the first characters of their tokens; shape (256,)."""
        letters = np.zeros(256, np.bool_)
        letters[TYPE_LETTERS] = True
        # an entry whose first code is unknown can be a true entry
        letters[0] = self.tokens.known is not None
        return letters[self.firsts]
