"""Index the pages of RAM in a QEMU migration stream: find the last copy of each in the stream.

Format: QEMU, migration/ram.c (ram_save_setup, ram_save_page, save_zero_page; RAM_SAVE_FLAG_*), version 4 of the section
"ram". A page is a word (its address in its block, with flags in the bits below a page's size), the block's name unless
it is the same as for the page before, and the bytes. So adjacent pages of a block stand at a constant distance, and are
indexed as arrays; irregular pages are indexed one by one.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import SourceError
from kallsift.memory.formats.qemu.page_bytes import FILL, PACKED
from kallsift.memory.formats.qemu.ram_blocks import PAGES_AT_LEAST, Block, CutShortError, DamagedError, enter_flat
from kallsift.memory.formats.qemu.resync import (
    COMPRESSED,
    CONTINUED,
    END,
    FILLED,
    MAX_PACKED,
    PLAIN,
    next_named,
    next_record,
)
from kallsift.memory.memory import printable

MEMORY_SIZE, XBZRLE, HOOK, FLUSH = 0x04, 0x40, 0x80, 0x200
"""RAM_SAVE_FLAG_MEM_SIZE, _XBZRLE, _HOOK, _MULTIFD_FLUSH."""

REFUSED = {
    XBZRLE: "pages as differences (xbzrle)",
    HOOK: "pages sent by RDMA",
    FLUSH: "its pages in other channels (multifd)",
}
"""Flags of streams whose pages cannot be read, and the reason in messages."""

BLOCK_LIMIT = 1 << 12
"""Highest number of blocks of RAM: a machine has dozens."""
RECORD = 9
"""Bytes of the shortest record: a word, and the byte that fills its page."""
STREAK = 8
"""Number of pages of one kind in a row after which they are indexed as arrays."""
FIRST_RUN, LONGEST_RUN = 1 << 6, 1 << 16
PENDING = 1 << 14
"""Number of pages that are gathered one by one before they enter the index."""

BUDGET, BYTES_FOR_ONE = 1 << 20, 1 << 8
"""Number of steps that indexing may take, and bytes of the stream that allow one more.

A plain page has sixteen times as many bytes.
"""
NAME_COST, RUN_COST = 8, 16
"""Cost of a page with its block's name, and of a run of pages."""

RESYNC_COST = 1 << 12
"""Cost of a search for the next record behind a damaged one."""


class Pages:
    """The index of all pages of a stream, built section by section."""

    def __init__(self, source: str, view: NDArray[np.uint8], page: int, flat: bool) -> None:
        """Create an empty index; `damaged` counts records that are left out.

        Args:
            source: name of the stream in messages.
            view: the whole file, shape (size,), uint8.
            page: size of a page.
            flat: whether the RAM is flat in the stream ("mapped-ram").
        """
        self.source, self.view, self.page, self.flat = source, view, page, flat
        self.blocks: dict[bytes, Block] = {}
        self._room = max(PAGES_AT_LEAST, len(view) // RECORD)
        self._budget = BUDGET + len(view) // BYTES_FOR_ONE
        self.damaged = 0
        self._last, self._before, self._record, self._resumed = -1, 0, 0, 0
        self._listed = False
        self._block: Block | None = None
        self._numbers: list[int] = []
        self._places: list[int] = []

    def spend(self, steps: int) -> None:
        """Count the steps of indexing, so that no stream takes for ever.

        Raises:
            SourceError: if there are more steps than any machine's stream takes.
        """
        self._budget -= steps
        if self._budget < 0:
            raise SourceError(
                f"{self.source}: the migration stream is in more pieces than any machine's; it is damaged"
            )

    def section(self, position: int) -> int:
        """Index the section's pages from ``position`` on.

        Returns:
            The position behind the section's last word.

        Raises:
            CutShortError: if the stream ends before the section.
            SourceError: if it is broken, or has its pages in a form that cannot be read.
        """
        try:
            while True:
                try:
                    return self._section(position)
                except DamagedError as error:
                    position = self._resync(error)
        except struct.error as error:
            raise CutShortError from error
        finally:
            self._settle()

    def _resync(self, error: DamagedError) -> int:
        """Return the position where records continue behind a damaged one.

        Raises:
            DamagedError: ``error`` itself, if there are no more records.
        """
        self.spend(RESYNC_COST)
        self.damaged += 1
        # the damaged part may be the size in the record before
        start = max(self._before + 8, self._resumed + 1)
        found = None if self._block is None else next_record(self.view, start, self.page, self._last)
        found = next_named(self.view, start, self.page, self.blocks) if found is None else found
        if found is None:
            raise error
        self._resumed = found
        return found

    def _section(self, position: int) -> int:
        word, data, mask = struct.Struct(">Q").unpack_from, self.view.data, self.page - 1
        kind, streak = 0, 0
        while True:
            (header,) = word(data, position)
            flags = header & mask
            self._before, self._record = self._record, position
            if flags == kind:
                streak += 1
                if streak == STREAK:
                    position = self._run(position, flags)
                    kind = 0
                    continue
            elif flags in (PLAIN | CONTINUED, FILLED | CONTINUED):
                kind, streak = flags, 1
            else:
                kind = 0
            position += 8
            if flags == END:
                return position
            if flags == MEMORY_SIZE:
                position = self._blocks(position, header & ~mask)
                continue
            if refused := REFUSED.get(flags & ~CONTINUED):
                raise SourceError(f"{self.source}: has {refused} at offset {position - 8:#x}; save it without that")
            if not flags & CONTINUED:
                self.spend(NAME_COST)
                self._settle()
                name_end = position + 1 + self._byte(position)
                name = data[position + 1 : name_end].tobytes()
                self._block, self._last, position = self._known(name, position), -1, name_end
            position = self._one(header // self.page, flags & ~CONTINUED, position)

    def _one(self, number: int, flags: int, position: int) -> int:
        """Index the page whose bytes begin at ``position``; return the position behind."""
        if flags == PLAIN:
            place, position = position, position + self.page
        elif flags == FILLED:
            place, position = FILL - self._byte(position), position + 1
        elif flags == COMPRESSED:
            place, size = PACKED - position, struct.unpack_from(">I", self.view.data, position)[0]
            if size >= MAX_PACKED * self.page:
                raise DamagedError(f"{self.source}: a packed page of {size} bytes at offset {position:#x}")
            position += 4 + size
        else:
            raise DamagedError(
                f"{self.source}: no page at offset {position:#x} (flags {flags:#x}); the stream is damaged"
            )
        if position > len(self.view):
            raise CutShortError
        self._numbers.append(number)
        self._places.append(place)
        self._last = number
        if len(self._numbers) == PENDING:
            self.spend(PENDING)
            self._settle()
        return position

    def _run(self, position: int, flags: int) -> int:
        """Index adjacent pages of one kind as arrays; return the position behind them."""
        self.spend(RUN_COST)
        self._settle()
        payload = self.page if flags & PLAIN else 1
        stride, count = 8 + payload, FIRST_RUN
        while count := min(count, (len(self.view) - position) // stride):
            records = self.view[position : position + count * stride].reshape(count, stride)
            headers = np.ascontiguousarray(records[:, :8]).view(">u8")[:, 0]
            other = np.flatnonzero(headers & np.uint64(self.page - 1) != flags)
            same = int(other[0]) if len(other) else count
            if flags & PLAIN:
                places = position + 8 + stride * np.arange(same, dtype=np.int64)
            else:
                places = FILL - records[:same, 8].astype(np.int64)
            self._store((headers[:same] // np.uint64(self.page)).astype(np.int64), places)
            position += same * stride
            self._record = position - stride
            if same < count:
                break
            count = min(4 * count, LONGEST_RUN)
        return position

    def _settle(self) -> None:
        """Enter the pages that were gathered one by one."""
        if self._numbers:
            # The numbers are 64-bit words divided by the size of a page, so they fit into int64.
            self._store(np.array(self._numbers, np.int64), np.array(self._places, np.int64))
            self._numbers, self._places = [], []

    def _store(self, numbers: NDArray[np.int64], places: NDArray[np.int64]) -> None:
        """Enter pages of the current block; of several copies of a page the last counts."""
        block = self._block
        if block is None:
            raise DamagedError(f"{self.source}: a page belongs to no block of RAM; the stream is damaged")
        if not len(numbers):
            return
        if not len(block.places):
            # Zeros take no memory until they are written to.
            block.places = np.zeros(min(-(-block.size // self.page), self._room), np.int64)
            self._room -= len(block.places)
        inside = numbers < len(block.places)
        if not inside.all():
            # their addresses are damaged
            self.damaged += int(np.count_nonzero(~inside))
            numbers, places = numbers[inside], places[inside]
        block.places[numbers] = places
        self._last = int(numbers[-1]) if len(numbers) else self._last

    def _blocks(self, position: int, total: int) -> int:
        """Read the names and sizes of all blocks; return the position behind them."""
        if self._listed:
            raise SourceError(f"{self.source}: lists its RAM twice (offset {position:#x}); the stream is damaged")
        self._listed = True
        listed = 0
        unusual = True
        while listed < total:
            if len(self.blocks) == BLOCK_LIMIT:
                raise SourceError(
                    f"{self.source}: more than {BLOCK_LIMIT} blocks of RAM; this is no stream of a machine"
                )
            length = self._byte(position)
            if not length and not unusual:
                position, unusual = (
                    position + 8,
                    True,
                )  # a block's page in the host's memory, if postcopy was allowed for
                continue
            name = self.view[position + 1 : position + 1 + length].tobytes()
            position += 1 + length
            (size,) = struct.unpack_from(">Q", self.view.data, position)
            position += 8
            listed += size
            unusual = False
            self.blocks[name] = block = Block(printable(name.decode("latin-1")), size)
            if self.flat:
                position = enter_flat(self.source, self.view, self.page, position, block)
        return position

    def _known(self, name: bytes, position: int) -> Block:
        try:
            return self.blocks[name]
        except KeyError:
            what = printable(name.decode("latin-1"))
            raise DamagedError(
                f"{self.source}: no RAM is called {what!r} (offset {position:#x}); it is damaged"
            ) from None

    def _byte(self, position: int) -> int:
        if position >= len(self.view):
            raise CutShortError
        return int(self.view[position])
