"""Read the virtual memory of a running kernel through its own page table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kallsift.arch.paging import Mapping, translate
from kallsift.arrays import distinct
from kallsift.errors import KallsiftError, UnmappedError
from kallsift.kernel.kernel import Kernel
from kallsift.kernel.placement.pointers import Words
from kallsift.memory.memory import AddressSpace, Memory

PAGE = 4096

MAX_READ = 1 << 28
"""Highest number of bytes that are read at once."""

BLOCK = 512
"""Pages that are translated at once: all pages that one page of entries maps cost hardly more than one of them."""

FEW_BLOCKS = 32
"""Highest number of blocks in which the addresses of one request may lie to be translated by blocks."""

MAX_KNOWN = 1 << 10
"""Highest number of blocks whose translation is kept."""

MAX_STRING = 4096
"""Highest number of characters of a string."""


@dataclass(frozen=True, eq=False)
class VirtualMemory:
    """The virtual memory of one kernel.

    Attributes:
        memory: the memory that holds it.
        mapping: the translation of addresses; None if the addresses of ``memory`` are virtual.
        root: physical address of the page table; None where there is none.
        words: size and byte order of the kernel's words.
    """

    memory: Memory
    mapping: Mapping | None
    root: int | None
    words: Words
    # translations of blocks are kept, because lists and strings return to the same pages
    _known: dict[int, tuple[NDArray[np.uint64], NDArray[np.bool_]]] = field(default_factory=dict, repr=False)

    def physical(self, addresses: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """Return the addresses in the memory of virtual ones, and which are mapped.

        Both have the shape (n,).
        """
        addresses = self.words.wrap(addresses)
        numbers, pages = np.divmod(addresses // PAGE, np.uint64(BLOCK))
        wanted = distinct(numbers)
        if self.mapping is None or not 0 < len(wanted) <= FEW_BLOCKS:
            return self._translated(addresses)
        blocks = [self._block(number) for number in wanted.tolist()]
        found = np.searchsorted(wanted, numbers) * BLOCK + pages.astype(np.intp)
        physical, mapped = (np.concatenate(column)[found] for column in zip(*blocks, strict=True))
        return physical + addresses % PAGE, mapped

    def _translated(self, addresses: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """Translate each address by itself, without the kept blocks."""
        if self.mapping is None:
            return addresses, np.ones(len(addresses), np.bool_)
        return translate(self.memory, self.mapping, self.root, addresses)

    def values(
        self, addresses: NDArray[np.uint64], dtype: np.dtype[np.unsignedinteger] | None = None
    ) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """Return the numbers at many addresses, each within one page; by default words.

        Returns:
            The numbers, shape (n,), uint64, and a mask of those that could be read (the others are 0).
        """
        physical, mapped = self.physical(addresses)
        values, held = self.memory.words(physical, dtype or self.words.dtype)
        values[~mapped] = 0
        return values, held & mapped

    def value(self, address: int, size: int | None = None) -> int:
        """Return one number within one page, by default a word.

        Raises:
            UnmappedError: if it cannot be read.
        """
        size = size or self.words.size
        order: Literal["little", "big"] = "little" if self.words.byte_order == "<" else "big"
        return int.from_bytes(self.memory.read(self._place(address & self.words.mask), size).tobytes(), order)

    def _place(self, address: int) -> int:
        """Return the address in the memory of one virtual address.

        Raises:
            UnmappedError: if nothing maps it.
        """
        physical, mapped = self._block(address // PAGE // BLOCK)
        page = address // PAGE % BLOCK
        if not mapped[page]:
            raise UnmappedError(address, 1)
        return int(physical[page]) + address % PAGE

    def _block(self, number: int) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """Return the addresses of a block's pages, and which of them are mapped.

        Both have the shape (`BLOCK`,).
        """
        if number not in self._known:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            pages = np.uint64(number * BLOCK) + np.arange(BLOCK, dtype=np.uint64)
            self._known[number] = self._translated(self.words.wrap(pages * np.uint64(PAGE)))
        return self._known[number]

    def read(self, address: int, size: int) -> NDArray[np.uint8]:
        """Return the bytes from an address on, shape (size,), uint8.

        Raises:
            UnmappedError: if any of them is not mapped, or there are more than `MAX_READ`.
        """
        address &= self.words.mask
        if not 0 <= size <= MAX_READ or address + size > self.words.mask + 1:
            raise UnmappedError(address, size)
        if not size:
            return np.empty(0, np.uint8)
        first = address // PAGE * PAGE
        count = -(-(address + size - first) // PAGE)
        begin, page = divmod(first // PAGE, BLOCK)
        physical, mapped = self._block(begin)
        if count == 1 and mapped[page]:
            return self.memory.read(int(physical[page]) + address - first, size)
        blocks = [self._block(number) for number in range(begin, (first // PAGE + count - 1) // BLOCK + 1)]
        physical, mapped = (np.concatenate(column)[page : page + count] for column in zip(*blocks, strict=True))
        if not mapped.all():
            raise UnmappedError(first + int(np.argmin(mapped)) * PAGE, PAGE)
        breaks = np.flatnonzero(np.diff(physical) != np.uint64(PAGE)) + 1
        runs = zip([0, *breaks.tolist()], [*breaks.tolist(), count], strict=True)
        # the first and the last page may be incomplete in the memory, so only the wanted bytes are read
        parts = []
        for low, high in runs:
            begin = address - first if low == 0 else 0
            end = address + size - first - low * PAGE if high == count else (high - low) * PAGE
            parts.append(self.memory.read(int(physical[low]) + begin, end - begin))
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def first_missing(self, address: int, size: int) -> int | None:
        """Return the first address of a range that cannot be read; None if all can be."""
        while size > 0:
            physical, mapped = self._block(address // PAGE // BLOCK)
            page, offset = address // PAGE % BLOCK, address % PAGE
            part = min(PAGE - offset, size)
            if not mapped[page]:
                return address
            missing = self.memory.first_missing(int(physical[page]) + offset, part)
            if missing is not None:
                return address + missing - int(physical[page]) - offset
            address, size = address + part, size - part
        return None

    def string(self, address: int, most: int = MAX_STRING) -> bytes:
        """Return the characters before the next NUL, at most ``most``.

        Raises:
            UnmappedError: if they cannot be read.
        """
        text = b""
        while len(text) < most:
            place = address + len(text) & self.words.mask
            text += self.memory.read(self._place(place), min(PAGE - place % PAGE, most - len(text))).tobytes()
            if b"\0" in text:
                return text[: text.index(b"\0")]
        return text


def virtual_memory(kernel: Kernel) -> VirtualMemory:
    """Return the virtual memory of a running kernel.

    Raises:
        KallsiftError: if the source is an image without other memory, or nothing is known that maps the kernel.
    """
    words = Words(kernel.symbols.word_size, kernel.byte_order)
    if kernel.memory.image is not None:
        raise KallsiftError("a kernel image has no other memory; name a dump of a machine that runs it")
    if kernel.memory.space is AddressSpace.VIRTUAL:
        return VirtualMemory(kernel.memory, None, None, words)
    if kernel.mapping is None:
        raise KallsiftError(f"the mapping of this kernel's memory is unknown (its state: {kernel.state.value})")
    return VirtualMemory(kernel.memory, kernel.mapping, kernel.page_table_root, words)


def image_memory(kernel: Kernel) -> VirtualMemory:
    """Return the image of a kernel alone, at the addresses of its symbols.

    This is for images, and for copies that no page table maps.
    """
    words = Words(kernel.symbols.word_size, kernel.byte_order)
    by = kernel.tables[0].virtual - kernel.tables[0].physical
    segments = tuple(
        segment.moved(by)
        for segment in kernel.memory.segments
        if segment.start + by >= 0 and segment.end + by <= words.mask + 1
    )
    return VirtualMemory(replace(kernel.memory, segments=segments), None, None, words)


def readable_memory(kernel: Kernel) -> VirtualMemory:
    """Return the virtual memory of a running kernel, or an image at its addresses.

    Raises:
        KallsiftError: if nothing tells how it is mapped.
    """
    if kernel.memory.image is None:
        return virtual_memory(kernel)
    if not kernel.is_placed:
        raise KallsiftError("the addresses of this image are unknown; read its file through kernel.memory")
    return image_memory(kernel)
