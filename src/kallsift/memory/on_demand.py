"""Read as little memory as possible through a callback, such as a guest's under introspection or a debugger's."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import UnmappedError
from kallsift.memory.memory import AddressSpace, Hints, Memory
from kallsift.memory.segments import BytesSegment

Read = Callable[[int, int], bytes | None]
"""Function that reads as many bytes as the second argument says at an address; None if any of them is not mapped."""

PAGE = 4096

AT_ONCE = 1 << 16
"""Number of bytes in one request, where nothing is known to be missing; a refused request is repeated in halves."""


@dataclass
class _ReadSoFar:
    """What was read of a source, whoever asked for it.

    Attributes:
        pages: by their numbers; None for those that are not mapped.
        size: bytes of all reads.
    """

    pages: dict[int, NDArray[np.uint8] | None] = field(default_factory=dict)
    size: int = 0


class OnDemandMemory:
    """An address space that is read through a callback, with the bytes read so far.

    Attributes:
        source: name in messages.
        space: meaning of the addresses.
        hints: hints about the processors.
        physical: the same machine's physical memory, where it can be read too.
        advice: what to do if no kernel is found.
    """

    def __repr__(self) -> str:
        return f"<OnDemandMemory {self.source!r}: {self.space.value}, {self.bytes_read:,} bytes read so far>"

    def __init__(
        self,
        read: Read,
        *,
        source: str = "live",
        space: AddressSpace = AddressSpace.VIRTUAL,
        hints: Hints | None = None,
        physical: OnDemandMemory | None = None,
        advice: str = "",
    ) -> None:
        """Create an address space of which nothing is read yet."""
        self.source, self.space, self.hints = source, space, hints or Hints()
        self.physical, self.advice = physical, advice
        self._read = read
        self._done = _ReadSoFar()
        self._pages = self._done.pages

    def with_hints(self, hints: Hints) -> OnDemandMemory:
        """Return the same source with other hints; both know what either has read."""
        other = copy(self)
        other.hints = hints
        return other

    @property
    def bytes_read(self) -> int:
        """Number of bytes that were read."""
        return self._done.size

    @property
    def bytes_in_all(self) -> int:
        """Number of bytes that were read, with those of physical memory."""
        return self.bytes_read + (self.physical.bytes_in_all if self.physical else 0)

    def fetch(self, low: int, high: int) -> bool:
        """Read the pages of ``[low, high)`` that were not requested yet.

        Returns:
            True if any page of the range is mapped.
        """
        first, last = max(0, low) // PAGE, -(-min(high, 1 << 64) // PAGE)
        number = first
        while number < last:
            if number in self._pages:
                number += 1
                continue
            end = number + 1
            while end < last and end not in self._pages and (end - number) * PAGE < AT_ONCE:
                end += 1
            self._ask(number, end)
            number = end
        return any(self._pages[number] is not None for number in range(first, last))

    def _ask(self, first: int, last: int) -> None:
        """Read pages, all at once or by halves."""
        size = (last - first) * PAGE
        data = self._read(first * PAGE, size)
        if data is not None and len(data) == size:
            self._done.size += size
            pages = np.frombuffer(data, np.uint8).reshape(-1, PAGE)
            self._pages.update(zip(range(first, last), pages, strict=True))
        elif last - first == 1:
            self._pages[first] = None
        else:
            middle = (first + last) // 2
            self._ask(first, middle)
            self._ask(middle, last)

    def bytes_at(self, address: int, size: int) -> NDArray[np.uint8]:
        """Return bytes, read now if need be; shape (size,), uint8.

        Raises:
            UnmappedError: if any is not mapped.
        """
        self.fetch(address, address + size)
        pages = [self._pages[number] for number in range(address // PAGE, (address + size - 1) // PAGE + 1)]
        held = [page for page in pages if page is not None]
        if len(held) < len(pages):
            raise UnmappedError(address, size)
        return np.concatenate(held)[address % PAGE :][:size]

    def reading_on(self, memory: Memory) -> Memory:
        """Return a memory that also fetches what is requested from now on.

        Its segments are those of ``memory``.
        """
        known = {field.name: getattr(memory, field.name) for field in fields(memory) if field.init}
        return _OnDemandView(**known | {"fetched": self})

    def snapshot(self, low: int = 0, high: int = 1 << 64) -> Memory:
        """Return all that was read so far of ``[low, high)``, in whole pages."""
        numbers = sorted(
            number for number, page in self._pages.items() if page is not None and low <= number * PAGE < high
        )
        segments = []
        start = 0
        for index, number in enumerate(numbers):
            if index + 1 == len(numbers) or numbers[index + 1] != number + 1:
                pages = [page for at in numbers[start : index + 1] if (page := self._pages[at]) is not None]
                segments.append(BytesSegment(numbers[start] * PAGE, np.concatenate(pages)))
                start = index + 1
        return Memory(self.source, "read on request", self.space, tuple(segments), self.hints)


class _OnDemandView(Memory):
    """A memory that fetches what it lacks; its segments do not change."""

    def read(self, address: int, size: int) -> NDArray[np.uint8]:
        """Return bytes as `Memory.read` does."""
        if self.fetched is None or not size:
            return super().read(address, size)
        return self.fetched.bytes_at(address, size)

    def words(
        self, addresses: NDArray[np.uint64], dtype: np.dtype[np.unsignedinteger]
    ) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """Return words as `Memory.words` does."""
        if self.fetched is None or not len(addresses):
            return super().words(addresses, dtype)
        ends = addresses + np.minimum(np.uint64(dtype.itemsize - 1), ~addresses)
        pages = (np.unique(np.concatenate([addresses, ends]) // np.uint64(PAGE)) * np.uint64(PAGE)).tolist()
        there = [page for page in pages if self.fetched.fetch(page, page + PAGE)]
        segments = tuple(BytesSegment(page, self.fetched.bytes_at(page, PAGE)) for page in there)
        return Memory(self.source, self.container, self.space, segments).words(addresses, dtype)
