"""Keep facts of the bytes around tables, so that each is found once even if the bytes are read at several addresses.

A source in which no kernel proves itself is read as a machine's memory, as an image in a file, and in several layouts
of its RAM. Words and their offsets are the same in all of these; only their addresses differ.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from kallsift.kernel.placement.pointers import Words
from kallsift.memory.segments import BytesSegment

MAX_KEPT = 4
"""Highest number of windows whose facts are kept: those of readings whose arrays begin one or two entries apart, which
come again for each way to read the memory, and one of other bounds."""

MAX_ARRAYS = 8
"""Highest number of arrays, such as the addresses of symbols, for which a fact is kept."""

Fact = TypeVar("Fact")


@dataclass(eq=False)
class _Known:
    """The facts of some bytes; the bytes are kept so that no others can get their place in this computer's memory."""

    window: BytesSegment
    facts: dict[Hashable, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class WindowFacts:
    """The facts of the image around some tables.

    Attributes:
        window: the image.
        words: size and byte order of its words.
    """

    window: BytesSegment
    words: Words
    _known: _Known

    def once(self, name: Hashable, find: Callable[[], Fact]) -> Fact:
        """Return a fact of the bytes; it is found at the first call.

        Args:
            name: name of the fact, with all that it depends on except the bytes and their addresses.
            find: finds the fact; its result may depend on addresses only as far as the name tells them.
        """
        facts = self._known.facts
        if name not in facts:
            facts[name] = find()
        return cast("Fact", facts[name])

    def once_aligned(self, name: Hashable, find: Callable[[], Fact], alignment: int | None = None) -> Fact:
        """Return a fact of the words at multiples of ``alignment``, as `once`.

        The default alignment is the size of a word.
        """
        step = alignment or self.words.size
        return self.once((name, self.words, step, self.window.start % step), find)

    def once_of(self, name: Hashable, arrays: tuple[NDArray[np.uint64], ...], find: Callable[[], Fact]) -> Fact:
        """Return a fact of the words that depends on some arrays too, as `once_aligned`.

        The fact is kept for the last `MAX_ARRAYS` arrays.
        """
        kept: list[tuple[tuple[NDArray[np.uint64], ...], Fact]] = self.once_aligned(("of arrays", name), list)
        for others, fact in kept:
            if all(map(np.array_equal, arrays, others)):
                return fact
        kept.append((arrays, find()))
        del kept[:-MAX_ARRAYS]
        return kept[-1][1]


class SharedWindows:
    """The windows of which facts are known."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, int], _Known] = OrderedDict()

    def facts(self, window: BytesSegment, words: Words) -> WindowFacts:
        """Return the facts of a window, read as words of one kind."""
        key = window.data.ctypes.data, window.size
        if key not in self._known:
            self._known[key] = _Known(window)
            if len(self._known) > MAX_KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return WindowFacts(window, words, self._known[key])
