"""Recover the tables around a token table once, even if the same bytes are read at several addresses.

A source in which no kernel proves itself is read as a machine's memory, as an image in a file, and in several layouts
of its RAM. The bytes around a token table are the same in all of these.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from kallsift.kallsyms.damaged.page_map import PAGE
from kallsift.kallsyms.format.token_table import TokenTable
from kallsift.kallsyms.recovered_tables import Attempt, Tables
from kallsift.kallsyms.solvers.adjacent import recover_tables
from kallsift.memory.segments import BytesSegment

MAX_KEPT = 4
"""Highest number of windows whose tables are kept: the first one, that of another alignment, and those of two
layouts."""


@dataclass(eq=False)
class _Found:
    """Tables that were found so far, and the search that finds the others.

    Attributes:
        segment: the window; it is kept so that no other window can get the same place in this computer's memory.
        search: yields the tables that nobody has asked for yet.
        tables: the tables that somebody has asked for.
    """

    segment: BytesSegment
    search: Iterator[Tables]
    tables: list[Tables] = field(default_factory=list)

    def __iter__(self) -> Iterator[Tables]:
        number = 0
        while True:
            if number == len(self.tables):
                following = next(self.search, None)
                if following is None:
                    return
                self.tables.append(following)
            yield self.tables[number]
            number += 1


class SharedTables:
    """The tables of windows that were searched.

    Only alignments and pages depend on addresses. So windows of the same bytes whose addresses differ by whole pages
    have the same tables.
    """

    def __init__(self) -> None:
        self._found: OrderedDict[tuple[object, ...], _Found] = OrderedDict()

    def recover(
        self, segment: BytesSegment, tokens: TokenTable, word_sizes: Sequence[int], attempt: Attempt
    ) -> Iterator[Tables]:
        """Yield tables as `recover_tables`, from an earlier search if there was one.

        Only the ``attempt`` of the first call records the furthest step.
        """
        same_bytes = segment.data.ctypes.data, segment.size, tokens.offset
        key = (*same_bytes, segment.start % PAGE, tuple(word_sizes))
        if key not in self._found:
            self._found[key] = _Found(segment, recover_tables(segment, tokens, word_sizes, attempt))
            if len(self._found) > MAX_KEPT:
                self._found.popitem(last=False)
        self._found.move_to_end(key)
        for tables in self._found[key]:
            yield tables if tables.segment is segment else replace(tables, segment=segment)
