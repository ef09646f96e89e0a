"""Represent memory: bytes with addresses, from any container. This module knows nothing of kernels."""

from __future__ import annotations

import weakref
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from operator import attrgetter
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import SourceError, UnmappedError
from kallsift.memory.file_mapping import touch
from kallsift.memory.formats.core_notes import CoreNotes
from kallsift.memory.segments import BytesSegment, Segment, sorted_segments
from kallsift.memory.unreadable import UnreadablePages

if TYPE_CHECKING:
    from kallsift.memory.file_faults import FileFaults
    from kallsift.memory.on_demand import OnDemandMemory


LARGE, ROUND = 32 << 20, 8 << 20
"""Size in bytes from which on a copy of memory is shared, and the granularity of its bounds."""
COPIED_AT_ONCE = 1 << 20


class AddressSpace(Enum):
    """The meaning of the addresses of a memory's segments."""

    PHYSICAL = "physical"
    VIRTUAL = "virtual"
    FILE = "file"


@dataclass(frozen=True, repr=False)
class CpuState:
    """Registers of one processor as the container recorded them (``cr3``, ``idt_base``, ``rip`` ...)."""

    number: int
    registers: Mapping[str, int]

    def __repr__(self) -> str:
        return f"<CpuState {self.number}: {len(self.registers)} registers>"


@dataclass(frozen=True, repr=False)
class Hints:
    """Facts that a container tells besides the bytes; never needed, always cross-checked.

    Attributes:
        cpus: processor states, in the container's order.
        vmcoreinfo: text of the VMCOREINFO note, or None.
        word_size: size of the kernel's words in bytes, as a user gives it; it decides where the bytes do not.
        byte_order: ``"<"`` or ``">"``, likewise.
        core: the notes that the processor states come from, where the container has notes.
    """

    cpus: tuple[CpuState, ...] = ()
    vmcoreinfo: bytes | None = None
    word_size: int | None = None
    byte_order: str | None = None
    core: CoreNotes | None = None

    def __repr__(self) -> str:
        notes = "" if self.vmcoreinfo is None else f", VMCOREINFO of {len(self.vmcoreinfo):,} bytes"
        return f"<Hints: processors {len(self.cpus)}{notes}>"


@dataclass(frozen=True)
class ImageFacts:
    """Facts that the packaging of a kernel image tells; never believed without evidence.

    Attributes:
        packaging: formats and codecs around the image, the outermost first, e.g. ``("bzImage", "xz")``.
        offset: offset of the innermost of them in the file that was opened.
        architecture: name as in `kallsift.arch`; None where no header tells.
        base: link address of the image's first byte, from a header; None where no header tells.
        skipped: bytes before address 0 in the unpacked data, or in the file if nothing was unpacked; segments lack
            them.
        end: end of the innermost packaging in that file; None where nothing was unpacked.
        whole: all bytes whose headers were read, shape (size,), uint8, in case they mislead; None for a flat image.
    """

    packaging: tuple[str, ...]
    offset: int
    architecture: str | None = None
    base: int | None = None
    skipped: int = 0
    end: int | None = None
    whole: NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, eq=False, repr=False)
class Memory:
    """An ordered set of non-overlapping segments of one address space.

    Attributes:
        source: name that the memory was opened by, safe to print (see `printable`).
        container: name of the container format, e.g. ``"LiME"``.
        space: meaning of the segments' addresses.
        segments: segments, sorted by address, never overlapping.
        hints: processor states and notes of the container.
        release: function that releases the container's resources; called by `close`.
        notes: remarks on parts that the container lacks or has twice, each one line, safe to print.
        image: facts about a kernel image as it was built; None for the memory of a machine that ran.
        fetched: object that fetches the bytes of a source that is expensive to read; there are no segments then.
        refreshed: function that reads a source again that changes while it is read; None where the bytes do not change.
        is_headerless: True if nothing says that this is a machine's memory: offsets are taken for addresses.
        unreadable: pages that turned out to be unreadable so far.
        files: unreadable parts of the files that are mapped.
    """

    source: str
    container: str
    space: AddressSpace
    segments: tuple[Segment, ...]
    hints: Hints = field(default_factory=Hints)
    release: Callable[[], None] = field(default=lambda: None, repr=False)
    notes: tuple[str, ...] = ()
    image: ImageFacts | None = None
    fetched: OnDemandMemory | None = None
    refreshed: Callable[[], Memory] | None = field(default=None, repr=False)
    is_headerless: bool = False
    unreadable: UnreadablePages = field(default_factory=UnreadablePages, repr=False)
    files: tuple[FileFaults, ...] = field(default=(), repr=False)
    _last_copy: list[tuple[int, Callable[[], NDArray[np.uint8] | None]]] = field(
        default_factory=list, init=False, repr=False
    )

    def __post_init__(self) -> None:
        for before, after in zip(self.segments, self.segments[1:], strict=False):
            if before.end > after.start:
                raise SourceError(f"{self.source}: memory ranges overlap at {after.start:#x}")
        if self.segments and self.segments[-1].end > 1 << 64:
            raise SourceError(f"{self.source}: a memory range ends at {self.segments[-1].end:#x}, behind all addresses")

    def __repr__(self) -> str:
        ranges = "1 range" if len(self.segments) == 1 else f"{len(self.segments):,} ranges"
        return f"<Memory {self.source!r}: {printable(self.container)}, {self.size:,} bytes in {ranges}>"

    def __reduce__(self) -> tuple[Callable[..., Memory], tuple[object, ...]]:
        """Leave the bytes out of a pickle.

        A kernel that another process recovered brings its table, not its dump.
        """
        image = self.image and replace(self.image, whole=None)
        notes = (*self.notes, "its bytes are not here: it was pickled; open the source again to read them")
        return _pickled, (self.source, self.container, self.space, self.hints, notes, image, self.is_headerless)

    def __enter__(self) -> Memory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the source. Views that were returned stay valid until they are dropped."""
        self.release()

    @cached_property
    def _starts(self) -> NDArray[np.uint64]:
        return np.array([segment.start for segment in self.segments], np.uint64)

    @property
    def remarks(self) -> tuple[str, ...]:
        """The notes, and remarks on unreadable parts so far, each one line."""
        return (*self.notes, *self.unreadable_remarks)

    @property
    def unreadable_remarks(self) -> tuple[str, ...]:
        """Remarks on the parts that turned out to be unreadable so far, each one line."""
        found = [("", self.unreadable.remark(self.size))]
        found += ((f"{file.name}: " if len(self.files) > 1 else "", file.remark()) for file in self.files)
        return tuple(name + remark for name, remark in found if remark is not None)

    @property
    def has_unreadable(self) -> bool:
        """True if any page turned out to be unreadable so far."""
        return bool(self.unreadable) or any(file.pages for file in self.files)

    def is_readable(self, address: int, size: int) -> bool:
        """Tell whether none of some bytes turned out to be unreadable.

        The bytes must have been read before.
        """
        for segment in self.between(address, address + size):
            low, high = max(address, segment.start) - segment.start, min(address + size, segment.end) - segment.start
            lost = segment.unreadable(np.array([low]), high - low)
            # nothing tells which pages of the file the bytes of a packed segment come from
            is_packed = not isinstance(segment, BytesSegment)
            if (lost is not None and lost.any()) or (is_packed and any(file.pages for file in self.files)):
                return False
        return True

    def check_files(self) -> None:
        """Raise an error if a file was cut short while it was read.

        Raises:
            SourceError: if one was.
        """
        for file in self.files:
            file.check()

    @property
    def size(self) -> int:
        """Number of bytes in all segments."""
        return sum(segment.size for segment in self.segments)

    @cached_property
    def stored_size(self) -> int:
        """Number of bytes that can be more than zeros, which a search of all memory has to read."""
        return sum(segment.stored_size for segment in self.segments)

    def segment_at(self, address: int) -> Segment | None:
        """Return the segment that holds ``address``, or None."""
        behind = bisect_right(self.segments, address, key=attrgetter("start"))
        if behind and address < self.segments[behind - 1].end:
            return self.segments[behind - 1]
        return None

    def window(self, address: int, before: int, after: int) -> BytesSegment:
        """Return the part of ``[address - before, address + after)`` in one segment.

        It is a view where the bytes are available as an array.

        Raises:
            UnmappedError: if ``address`` itself is in no segment.
        """
        segment = self.segment_at(address)
        if segment is None:
            raise UnmappedError(address, 1)
        offset = address - segment.start
        low = max(0, offset - before)
        return BytesSegment(segment.start + low, segment.read(low, offset + after))

    def around(self, address: int, before: int, after: int) -> BytesSegment:
        """Return all of ``[address - before, address + after)`` as one segment.

        Missing bytes are zero. It is a view where one segment holds it all, else a copy.

        Raises:
            UnmappedError: if ``address`` itself is in no segment.
        """
        if self.segment_at(address) is None:
            raise UnmappedError(address, 1)
        low, high = max(0, address - before), min(address + after, 1 << 64)
        held = self.between(low, high)
        if len(held) == 1 and isinstance(held[0], BytesSegment):
            return self.window(address, before, after)
        low, high = max(low, held[0].start), min(high, held[-1].end)
        if high - low < LARGE:
            return BytesSegment(low, self._copy(low, high))
        # while the last copy is in use, the same range, or one a little beside it, is a part of that copy
        start, copy = self._last_copy[0] if self._last_copy else (0, lambda: None)
        data = copy()
        if data is None or low < start or high > start + len(data):
            start = low - low % ROUND
            data = self._copy(start, high + -high % ROUND)
            self._last_copy[:] = [(start, weakref.ref(data))]
        return BytesSegment(low, data[low - start : high - start])

    def between(self, low: int, high: int) -> tuple[Segment, ...]:
        """Return the segments that hold any of ``[low, high)``."""
        edges = np.array([low, high - 1], np.uint64)
        first, last = np.searchsorted(self._starts, edges, "right").tolist()
        return tuple(segment for segment in self.segments[max(0, first - 1) : last] if low < segment.end)

    def _copy(self, low: int, high: int) -> NDArray[np.uint8]:
        """Return a copy of ``[low, high)``; missing bytes are zero."""
        data = np.zeros(high - low, np.uint8)
        for segment in self.between(low, high):
            start, end = max(low, segment.start), min(high, segment.end)
            # in parts, so that the decoded bytes never exist twice as a whole
            for place in range(start, end, COPIED_AT_ONCE):
                part = segment.read(place - segment.start, min(place + COPIED_AT_ONCE, end) - segment.start)
                data[place - low :][: len(part)] = part
        return data

    def with_hints(self, given: Hints) -> Memory:
        """Return the memory with hints from a user, which precede the container's."""
        registers = given.cpus[0].registers if given.cpus else {}
        known = self.hints.cpus or (given.cpus and (CpuState(0, {}),))
        cpus = tuple(CpuState(cpu.number, {**cpu.registers, **registers}) for cpu in known)
        text = self.hints.vmcoreinfo if given.vmcoreinfo is None else given.vmcoreinfo
        word_size, byte_order = given.word_size or self.hints.word_size, given.byte_order or self.hints.byte_order
        return replace(self, hints=Hints(cpus, text, word_size, byte_order, self.hints.core))

    def moved(self, by: int) -> Memory:
        """Return the bytes at addresses higher by ``by``, without those below 0."""
        segments: list[Segment] = []
        for segment in self.segments:
            lost = max(0, -(segment.start + by))
            if lost < segment.size:
                segments.append(segment.moved(by, lost))
        return replace(self, segments=sorted_segments(segments))

    def read(self, address: int, size: int) -> NDArray[np.uint8]:
        """Return exactly ``size`` bytes, shape (size,).

        The result is a view where one segment holds them all.

        Raises:
            UnmappedError: if any byte is missing or unreadable; missing memory is never made up.
        """
        segment = self.segment_at(address)
        if segment is not None and address + size <= segment.end:
            return _readable(segment, address, size)
        parts: list[NDArray[np.uint8]] = []
        position = address
        while position < address + size:
            segment = self.segment_at(position)
            if segment is None:
                raise UnmappedError(address, size)
            parts.append(_readable(segment, position, min(address + size, segment.end) - position))
            position += len(parts[-1])
        return np.concatenate(parts) if parts else np.empty(0, np.uint8)

    def first_missing(self, address: int, size: int) -> int | None:
        """Return the first address of a range that no segment holds; None if all are held.

        The range is ``[address, address + size)``.
        """
        while size > 0:
            segment = self.segment_at(address)
            if segment is None:
                return address
            size -= segment.end - address
            address = segment.end
        return None

    def words(
        self, addresses: NDArray[np.uint64], dtype: np.dtype[np.unsignedinteger]
    ) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """Return the words at many addresses at once.

        Args:
            addresses: shape (n,), any order, any alignment.
            dtype: width and byte order of a word.

        Returns:
            The values, shape (n,), uint64, and a mask of those that the memory holds whole (the others are 0).
        """
        width = dtype.itemsize
        values = np.zeros(len(addresses), np.uint64)
        held = np.zeros(len(addresses), np.bool_)
        if not self.segments:
            return values, held
        owner = np.searchsorted(self._starts, addresses, side="right") - 1
        straddling: list[NDArray[np.intp]] = []
        for chosen in _groups(owner):
            if owner[chosen[0]] < 0:
                continue
            segment = self.segments[int(owner[chosen[0]])]
            offsets = addresses[chosen] - np.uint64(segment.start)
            inside = offsets < np.uint64(segment.size)
            fits = inside & (np.uint64(segment.size) - offsets >= np.uint64(width))
            straddling.append(chosen[inside & ~fits])
            chosen = chosen[fits]
            if len(chosen):
                values[chosen] = np.ascontiguousarray(segment.gather(offsets[fits].astype(np.int64), width)).view(
                    dtype
                )[:, 0]
                lost = segment.unreadable(offsets[fits].astype(np.int64), width)
                if lost is not None:
                    values[chosen[lost]] = 0
                held[chosen] = True if lost is None else ~lost
        rest = np.concatenate(straddling) if straddling else np.empty(0, np.intp)
        rest = rest[addresses[rest] <= np.uint64(2**64 - width)]
        if len(rest):
            # Words that continue in an adjacent segment are put together from their bytes.
            singles = [self.words(addresses[rest] + np.uint64(place), np.dtype(np.uint8)) for place in range(width)]
            cells = np.stack([byte for byte, _ in singles], axis=1).astype(np.uint8)
            whole = np.all([there for _, there in singles], axis=0)
            values[rest[whole]] = cells.view(dtype)[whole, 0]
            held[rest] = whole
        return values, held


def _groups(numbers: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Return the indices of equal numbers, by one sort.

    So the time does not grow with the number of groups times the number of elements.
    """
    if not (numbers != numbers[:1]).any():
        return [np.arange(len(numbers))] if len(numbers) else []
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)


def _readable(segment: Segment, address: int, size: int) -> NDArray[np.uint8]:
    """Return the bytes at an address, all of them in one segment.

    Raises:
        UnmappedError: if any of them is unreadable.
    """
    offset = address - segment.start
    data = segment.read(offset, offset + size)
    touch(data)
    lost = segment.unreadable(np.array([offset]), size)
    if lost is not None and lost.any():
        raise UnmappedError(address, size)
    return data


def _pickled(
    source: str, container: str, space: AddressSpace, hints: Hints, notes: tuple[str, ...], *rest: Any
) -> Memory:
    """Return a memory from a pickle: everything but its bytes."""
    image, is_headerless = rest
    return Memory(source, container, space, (), hints, notes=notes, image=image, is_headerless=is_headerless)


def printable(name: str) -> str:
    """Return a name from outside with all unprintable characters escaped.

    They could manipulate a terminal or a log.
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in name
    )


def cut_short(what: str, present: int, promised: int) -> str:
    """Return the remark that a file ends before ``what`` does."""
    return f"{what} is cut short: {present} of {promised} bytes present"
