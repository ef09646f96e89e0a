"""Read /proc/kcore, the memory of the running kernel, in blocks; and copies of its beginning.

Format: Linux, fs/proc/kcore.c: an ELF core whose program headers stand for RAM (KCORE_RAM), the kernel's image
(KCORE_TEXT), and memory that is mapped page by page. The physical address of the last kind is all ones. Kernels before
4.11 leave every physical address 0; there, RAM is recognised by its virtual addresses, as one direct map with small
gaps. Since 4.19 there is a note with VMCOREINFO. The kernel gives zeros for memory that it cannot read; where it
refuses to read memory instead, this module gives zeros too.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import SourceError
from kallsift.memory.formats import elf_core, elf_headers, elf_notes
from kallsift.memory.input_files import record_input
from kallsift.memory.lazy_segment import Cache, LazySegment
from kallsift.memory.live_file import LiveFile
from kallsift.memory.memory import AddressSpace, Hints, Memory
from kallsift.memory.segments import BytesSegment, Segment, sorted_segments

BLOCK = 1 << 20
PAGE = 4096

HEADERS = 4 << 20
"""Number of bytes that hold all headers and notes: 65,535 program headers take less."""

X86_IMAGE = 0xFFFF_FFFF_8000_0000
"""Address of the kernel's image on x86-64, above everything else but modules."""
LARGEST_IMAGE = 512 << 20
LARGEST_RAM = 1 << 40
"""Highest size in bytes of a range that can be RAM if no physical address tells.

Areas that are mapped page by page are larger.
"""
LARGEST_GAP = 1 << 40
"""Highest distance in bytes between two ranges of RAM; areas that are mapped page by page lie farther away."""
DIRECT_ALIGNMENT = {64: 1 << 30, 32: 1 << 28}
"""Alignment of the direct map's first address, by the bits of addresses; RAM begins at a smaller distance above it."""
KERNEL_HALF = {64: 1 << 63, 32: 1 << 31}
"""Lowest address of the kernel's half, above all addresses of programs, by the bits of addresses."""
END_OF_RAM_32 = 0xF800_0000
"""Highest possible end of the direct map of 32-bit kernels; areas that are mapped page by page reach farther."""


class KcoreRange(NamedTuple):
    """A part of the file: its address in memory, its offset in the file, its size."""

    address: int
    offset: int
    size: int


def lives(path: str) -> bool:
    """Tell whether a path is that of a /proc/kcore, in any mount of /proc."""
    try:
        found = Path(path).stat()
        return stat.S_ISREG(found.st_mode) and not found.st_blocks and Path(path).resolve().name == "kcore"
    except (OSError, ValueError, RuntimeError):
        return False


def open_live(name: str, path: str) -> Memory:
    """Open the memory of the running kernel: physical, or of an old kernel virtual.

    Raises:
        SourceError: if it must not be read, or is not /proc/kcore.
    """
    try:
        file = LiveFile(name, path)
    except OSError as error:
        advice = "run as root, outside of containers and kernel lockdown"
        raise SourceError(f"{name}: cannot be opened ({error.strerror}); {advice}") from error
    try:
        record_input(path, file.descriptor)
        return _live(file)
    except BaseException:
        file.close()
        raise


def _live(file: LiveFile) -> Memory:
    head = np.frombuffer(_head(file), np.uint8)
    cache = Cache()

    def stretch(number: int, part: KcoreRange) -> Segment:
        return LazySegment(part.address, BLOCK, part.size, _block_reader(file, part), cache, number)

    return _memory(file.name, "/proc/kcore", head, stretch, file.close, lambda: _live(file))


def _head(file: LiveFile) -> bytes:
    head = b""
    try:
        while len(head) < HEADERS and (part := os.pread(file.descriptor, HEADERS - len(head), len(head))):
            head += part
    except OSError as error:
        if not head:
            raise SourceError(f"{file.name}: cannot be read ({error.strerror}); run as root") from error
    return head


def _block_reader(file: LiveFile, part: KcoreRange) -> Callable[[int], NDArray[np.uint8]]:
    def decode(number: int) -> NDArray[np.uint8]:
        block = np.zeros(min(BLOCK, part.size - number * BLOCK), np.uint8)
        position = 0
        while position < len(block):
            place = part.offset + number * BLOCK + position
            try:
                read = file.read_into(block[position:], place)
            except OSError:
                read = 0
            # the part that the kernel refuses begins in this page
            position += read or PAGE - place % PAGE
        return block

    return decode


def probe(header: bytes) -> bool:
    """Tell whether a file that begins with ``header`` copies /proc/kcore.

    Some of its ranges have no physical address. From old kernels, none has one, and all lie in the kernel's half, where
    no program's core has all of its ranges.
    """
    found = elf_headers.file_header(header)
    if found is None:
        return False
    bits, order, file = found
    layout = elf_headers.PROGRAM_HEADER[bits].newbyteorder(order)
    start = int(file["program_offset"])
    count = min(int(file["program_count"]), (len(header) - start) // layout.itemsize)
    if int(file["type"]) != elf_headers.TYPE_CORE or count <= 0:
        return False
    programs = np.frombuffer(header, layout, count, start)
    loads = programs[programs["type"] == elf_headers.LOAD]
    old = len(loads) > 1 and not loads["physical"].any() and bool((loads["virtual"] >= KERNEL_HALF[bits]).all())
    return old or bool((loads["physical"] == (1 << bits) - 1).any())


def open(name: str, view: NDArray[np.uint8], release: Callable[[], None]) -> Memory:
    """Open the physical memory in a copy of /proc/kcore, as far as the copy goes.

    RAM comes first in it on many machines.

    Raises:
        SourceError: if the headers are broken, or nothing of the RAM is there.
    """

    def stretch(number: int, part: KcoreRange) -> Segment:
        return BytesSegment(part.address, view[part.offset : part.offset + part.size])

    return _memory(name, "copy of /proc/kcore", view, stretch, release, None)


def _memory(
    name: str,
    container: str,
    head: NDArray[np.uint8],
    stretch: Callable[[int, KcoreRange], Segment],
    release: Callable[[], None],
    refreshed: Callable[[], Memory] | None,
) -> Memory:
    core = elf_headers.read_headers(name, head)
    found, _ = elf_core.read_notes(head, core)
    space, ranges = _ranges(core)
    segments = sorted_segments(stretch(number, part) for number, part in enumerate(ranges))
    if not segments:
        raise SourceError(f"{name}: holds no RAM; copy all of /proc/kcore, or name /proc/kcore itself")
    remarks = []
    if lacking := sum(part.size for part in ranges) - sum(segment.size for segment in segments):
        remarks.append(f"{lacking:,} bytes of RAM are beyond the end of this copy")
    return Memory(
        source=name,
        container=container,
        space=space,
        segments=segments,
        hints=Hints(vmcoreinfo=elf_notes.hints(found, 0, core.byte_order).vmcoreinfo),
        release=release,
        notes=tuple(remarks),
        refreshed=refreshed,
    )


def _ranges(core: elf_headers.Core) -> tuple[AddressSpace, list[KcoreRange]]:
    """Return the ranges that are RAM, each part of it once."""
    loads = core.programs[(core.programs["type"] == elf_headers.LOAD) & (core.programs["file_size"] > 0)]
    columns = ("physical", "virtual", "offset", "file_size")
    rows = list(zip(*(loads[name].tolist() for name in columns), strict=True))
    limit = (1 << core.bits) - 1
    places = {physical for physical, *_ in rows}
    if places not in ({0}, {limit}):
        placed = [KcoreRange(physical, offset, size) for physical, _, offset, size in rows if physical != limit]
        return AddressSpace.PHYSICAL, _apart(placed, limit)
    if direct := _direct_map(rows, core.bits):
        return AddressSpace.PHYSICAL, _apart(direct, limit)
    virtual = [KcoreRange(address, offset, size) for _, address, offset, size in rows if size < LARGEST_RAM]
    image = [part for part in virtual if part.address >= X86_IMAGE and part.size < LARGEST_IMAGE]
    # the direct map shows the same bytes as the image, but not at the addresses of symbols
    return AddressSpace.VIRTUAL, _apart(image[:1] if core.bits == 64 and image else virtual, limit)


def _direct_map(rows: list[tuple[int, int, int, int]], bits: int) -> list[KcoreRange]:
    """Return the ranges of the direct map at physical addresses; none if not found.

    It is used where only virtual addresses are given. If all results are wrong by the same distance, this is corrected
    when a kernel is found in them.
    """
    highest = X86_IMAGE if bits == 64 else END_OF_RAM_32
    found = sorted(
        KcoreRange(address, offset, size)
        for _, address, offset, size in rows
        if KERNEL_HALF[bits] <= address and address + size <= highest and size < LARGEST_RAM
    )
    groups: list[list[KcoreRange]] = []
    for part in found:
        if not groups or part.address - (groups[-1][-1].address + groups[-1][-1].size) > LARGEST_GAP:
            groups.append([])
        groups[-1].append(part)
    if not groups:
        return []
    largest = max(groups, key=lambda group: sum(part.size for part in group))
    base = largest[0].address // DIRECT_ALIGNMENT[bits] * DIRECT_ALIGNMENT[bits]
    return [part._replace(address=part.address - base) for part in largest]


def _apart(parts: list[KcoreRange], limit: int) -> list[KcoreRange]:
    """Return the ranges without those that overlap one before them.

    Of those with the same address, the largest is kept. The kernel's image lies in RAM that is there as well.
    """
    kept: list[KcoreRange] = []
    end = 0
    for part in sorted(parts, key=lambda part: (part.address, -part.size)):
        if part.address >= end and part.address + part.size <= limit + 1:
            kept.append(part)
            end = part.address + part.size
    return kept
