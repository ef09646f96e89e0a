"""What is left of one kernel's tables: pieces that fit together, before names are given their places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.damaged.address_table import Left
from kallsift.kallsyms.damaged.name_expansion import expand_known
from kallsift.kallsyms.damaged.name_stream import StreamLeft, ranks_left
from kallsift.kallsyms.damaged.page_map import Pages
from kallsift.kallsyms.format.seqs_of_names import Ranks
from kallsift.kallsyms.format.token_table import TokenTable
from kallsift.memory.memory import Segment


@dataclass(frozen=True, eq=False)
class TablesLeft:
    """Tables of which pages are lost.

    Attributes:
        segment: the memory that they lie in; what it lacks is zero.
        tokens: the token table.
        stream: where the names lie.
        addresses: the address array.
        ranks: what is left of seqs_of_names; None if there is none.
    """

    segment: Segment
    tokens: TokenTable
    stream: StreamLeft
    addresses: Left
    ranks: Ranks | None

    @classmethod
    def of(cls, segment: Segment, tokens: TokenTable, pages: Pages, stream: StreamLeft, addresses: Left) -> TablesLeft:
        """The tables with their permutation, as far as its pages are not lost."""
        return cls(segment, tokens, stream, addresses, ranks_left(segment, tokens, pages, stream, addresses))

    def expanded(
        self, heads: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Characters and bounds of the entries between heads and ends, as `expand_known` gives them."""
        return expand_known(self.segment.data, heads, ends, self.stream.two_byte_lengths, self.tokens)
