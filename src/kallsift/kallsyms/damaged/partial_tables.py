"""Hold the surviving parts of one kernel's tables, before names are assigned to indices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.damaged.address_table import PartialAddressTable
from kallsift.kallsyms.damaged.name_expansion import expand_known
from kallsift.kallsyms.damaged.name_stream import NameStreamLayout, ranks_left
from kallsift.kallsyms.damaged.page_map import Pages
from kallsift.kallsyms.format.seqs_of_names import Ranks
from kallsift.kallsyms.format.token_table import TokenTable
from kallsift.memory.memory import BytesSegment


@dataclass(frozen=True, eq=False)
class PartialTables:
    """Tables of which some pages are lost.

    Attributes:
        segment: the memory with the tables; bytes that it lacks are zero.
        tokens: the token table.
        stream: the extent of the names.
        addresses: the address array.
        ranks: the surviving part of seqs_of_names; None if there is none.
    """

    segment: BytesSegment
    tokens: TokenTable
    stream: NameStreamLayout
    addresses: PartialAddressTable
    ranks: Ranks | None

    @classmethod
    def of(
        cls,
        segment: BytesSegment,
        tokens: TokenTable,
        pages: Pages,
        stream: NameStreamLayout,
        addresses: PartialAddressTable,
    ) -> PartialTables:
        """Return the tables with the surviving part of their permutation."""
        return cls(segment, tokens, stream, addresses, ranks_left(segment, tokens, pages, stream, addresses))

    def expanded(
        self, heads: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the characters and bounds of the entries between heads and ends.

        They are as `expand_known` gives them.
        """
        return expand_known(self.segment.data, heads, ends, self.stream.two_byte_lengths, self.tokens)
