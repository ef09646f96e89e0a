"""Hold the surviving parts of one kernel's tables, before names are assigned to indices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.damaged.address_table import PartialAddressTable
from kallsift.kallsyms.damaged.damage_context import DamageContext
from kallsift.kallsyms.damaged.name_expansion import expand_known
from kallsift.kallsyms.damaged.name_stream import ranks_left
from kallsift.kallsyms.damaged.seqs_of_names import Ranks
from kallsift.kallsyms.damaged.stream_layout import NameStreamLayout


@dataclass(frozen=True, eq=False)
class PartialTables:
    """Tables of which some pages are lost.

    Attributes:
        context: the memory with the tables; its lost pages are the blank ones, and those that turned out to be
            overwritten.
        stream: the extent of the names.
        addresses: the address array.
        ranks: the surviving part of seqs_of_names; None if there is none.
    """

    context: DamageContext
    stream: NameStreamLayout
    addresses: PartialAddressTable
    ranks: Ranks | None

    @classmethod
    def of(cls, context: DamageContext, stream: NameStreamLayout, addresses: PartialAddressTable) -> PartialTables:
        """Return the tables with the surviving part of their permutation."""
        return cls(context, stream, addresses, ranks_left(context, stream, addresses))

    def expanded(
        self, heads: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the characters and bounds of the entries between heads and ends.

        They are as `expand_known` gives them.
        """
        return expand_known(self.context.data, heads, ends, self.stream.two_byte_lengths, self.context.tokens)
