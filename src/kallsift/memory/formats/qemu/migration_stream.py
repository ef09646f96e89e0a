"""Read QEMU migration streams, which ``migrate "exec:cat > FILE"`` writes, and savevm as the state of a machine.

Format: QEMU, migration/savevm.c (qemu_savevm_state_header, save_section_header, QEMU_VM_*), docs/devel/migration. All
words are big-endian. The sections of a running machine's RAM come first, those of its devices behind it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import SourceError
from kallsift.memory.formats.qemu.cpu_state import processors
from kallsift.memory.formats.qemu.page_bytes import read_pages
from kallsift.memory.formats.qemu.ram_blocks import Block, CutShortError, DamagedError
from kallsift.memory.formats.qemu.ram_pages import Pages
from kallsift.memory.lazy_segment import Cache, LazySegment
from kallsift.memory.memory import AddressSpace, CpuState, Hints, Memory, printable
from kallsift.memory.ram_layouts import QEMU_RAM, VGA_WINDOW, RamLayout
from kallsift.memory.segments import Segment, sorted_segments
from kallsift.memory.unreadable import UnreadablePages

MAGIC = b"QEVM"
VERSION = 3

START, PART, LAST, FULL, SUBSECTION, CONFIGURATION, COMMAND, FOOTER = 1, 2, 3, 4, 5, 7, 8, 0x7E
"""QEMU_VM_SECTION_START, _PART, _END, _FULL, QEMU_VM_SUBSECTION, _CONFIGURATION, _COMMAND, _SECTION_FOOTER."""

PAGE_BITS = range(10, 17)
USUAL_PAGE_BITS = 12
"""Number of address bits inside of a page, if the configuration does not tell."""

NOT_IN_STREAM = "x-ignore-shared"
"""Capability with which shared RAM is left out of the stream."""
FLAT = "mapped-ram"
"""Capability with which the RAM is flat in a file."""

OPAQUE = (1 << 12, 1 << 16, 1 << 20, 1 << 26)
"""Numbers of bytes that are searched for the end of another device's section: only its own code knows its length."""

SECTION_COST = 8
"""Cost of a section for `Pages.spend`."""

AT_ONCE = 1 << 18
"""Number of bytes that are gathered from pages at once."""

STRETCH_LIMIT = 1 << 16
"""Highest number of runs of pages that were sent: one for each part of RAM, unless a stream is cut short."""

NO_RAM = ("flash", "vram", "vga", "rom", "bios")
"""Parts of the names of blocks of firmware or displays; no remark is made if these are missing."""


@dataclass(frozen=True)
class _Machine:
    """A stream's configuration: machine type (empty if unknown), size of a page, capabilities."""

    kind: str = ""
    page: int = 1 << USUAL_PAGE_BITS
    capabilities: tuple[str, ...] = ()


def probe(header: bytes) -> bool:
    """Tell whether a file that begins with ``header`` is a migration stream."""
    return header.startswith(MAGIC)


def open(name: str, view: NDArray[np.uint8], release: Callable[[], None]) -> Memory:
    """Open the RAM of a migration stream at its physical addresses.

    The hints have the registers of the processors in the stream.

    Args:
        name: name of the source in messages.
        view: the whole file, shape (size,), uint8.
        release: function that releases the file.

    Raises:
        SourceError: if the stream is broken, holds no RAM, or has its pages elsewhere or as differences.
    """
    return open_stream(name, view, 0, "QEMU migration stream", release)


def open_stream(name: str, view: NDArray[np.uint8], start: int, container: str, release: Callable[[], None]) -> Memory:
    """Open a stream that begins at offset ``start`` of the file, as `open` does."""
    if view[start : start + 4].tobytes() != MAGIC:
        raise SourceError(f"{name}: no QEMU migration stream at file offset {start:#x}; copy the file again")
    notes: list[str] = []
    cpus: tuple[CpuState, ...] = ()
    machine, pages = _Machine(), Pages(name, view, 1 << USUAL_PAGE_BITS, False)
    try:
        version, position = struct.unpack_from(">I", view.data, start + 4)[0], start + 8
        if version != VERSION:
            raise SourceError(f"{name}: is a migration stream of version {version}; only version {VERSION} can be read")
        machine, position = _configuration(name, view, position)
        if NOT_IN_STREAM in machine.capabilities:
            raise SourceError(f"{name}: was saved without the RAM ({NOT_IN_STREAM}); open the RAM's own file instead")
        pages = Pages(name, view, machine.page, FLAT in machine.capabilities)
        cpus = processors(view, _ram(name, view, position, pages))
    except (CutShortError, struct.error):
        notes.append("the migration stream is cut short: the pages after the cut are missing or out of date")
    except DamagedError as error:
        if not any(block.places.any() for block in pages.blocks.values()):
            raise
        notes.append(f"{str(error).removeprefix(f'{name}: ')}: the pages after that are missing or out of date")
    if pages.damaged:
        notes.append(f"{pages.damaged} records of the stream are damaged: their pages are missing or out of date")
    if not pages.blocks:
        raise SourceError(f"{name}: the migration stream ends before any RAM; save it again")
    unreadable = UnreadablePages(machine.page)
    segments, remarks = _placed(name, pages, machine.kind, unreadable)
    if not segments:
        raise SourceError(f"{name}: the migration stream holds no page of RAM; save it again, without multifd")
    return Memory(
        source=name,
        container=container,
        space=AddressSpace.PHYSICAL,
        segments=segments,
        hints=Hints(cpus=cpus),
        release=release,
        notes=(*notes, *remarks),
        unreadable=unreadable,
    )


def _configuration(name: str, view: NDArray[np.uint8], position: int) -> tuple[_Machine, int]:
    """Return the machine's configuration, and the position behind it."""
    if view[position : position + 1].tobytes() != bytes([CONFIGURATION]):
        return _Machine(), position
    (length,) = struct.unpack_from(">I", view.data, position + 1)
    kind = printable(view[position + 5 : position + 5 + min(length, 256)].tobytes().decode("latin-1"))
    position += 5 + length
    bits, capabilities = USUAL_PAGE_BITS, []
    while view[position : position + 1].tobytes() == bytes([SUBSECTION]):
        what, position = _text(view, position + 1)
        position += 4  # its version
        if what == b"configuration/target-page-bits":
            (bits,) = struct.unpack_from(">I", view.data, position)
            position += 4
        elif what == b"configuration/capabilities":
            (count,) = struct.unpack_from(">I", view.data, position)
            position += 4
            for _ in range(min(count, 256)):
                capability, position = _text(view, position)
                capabilities.append(capability.decode("latin-1"))
        elif what == b"configuration/uuid":
            position += 16
        else:
            raise SourceError(f"{name}: unknown part of the configuration ({printable(repr(what))}) in the stream")
    if bits not in PAGE_BITS:
        raise SourceError(
            f"{name}: the migration stream claims pages of 2^{bits} bytes, which no machine has; it is "
            "damaged, save it again"
        )
    return _Machine(kind, 1 << bits, tuple(capabilities)), position


def _ram(name: str, view: NDArray[np.uint8], position: int, pages: Pages) -> int:
    """Index all pages; return the position behind the RAM's last section."""
    names: dict[int, bytes] = {}
    while True:
        kind, identity = struct.unpack_from(">BI", view.data, position)
        pages.spend(SECTION_COST)
        if kind == COMMAND:
            position += 5 + struct.unpack_from(">H", view.data, position + 3)[0]
            continue
        if kind not in (START, PART, LAST, FULL):
            raise DamagedError(f"{name}: no section at offset {position:#x} of the migration stream; it is damaged")
        position += 5
        if kind in (START, FULL):
            names[identity], position = _text(view, position)
            position += 8  # which of several devices of that name, and the version
        if names.get(identity) == b"ram":
            position = pages.section(position)
            if view[position : position + 5].tobytes() == struct.pack(">BI", FOOTER, identity):
                position += 5
            if kind == LAST:
                return position
        else:
            position = _behind(name, view, position, identity, names)


def _behind(name: str, view: NDArray[np.uint8], position: int, identity: int, names: dict[int, bytes]) -> int:
    """Return the position behind a section whose content is not needed.

    It is behind the section's footer, where another section begins.
    """
    footer = struct.pack(">BI", FOOTER, identity)
    for size in OPAQUE:
        content = view[position : position + size].tobytes()
        found = content.find(footer)
        while found >= 0:
            if _begins(view[position + found + 5 :][:264].tobytes(), names):
                return position + found + 5
            found = content.find(footer, found + 1)
        if len(content) < size:
            raise CutShortError
    what = printable(names.get(identity, b"unknown").decode("latin-1"))
    raise DamagedError(f"{name}: a section of {what} in the migration stream has no end (offset {position:#x})")


def _begins(content: bytes, names: dict[int, bytes]) -> bool:
    """Tell whether a section can begin with these bytes, or the stream end there."""
    if not content or content[0] in (0, COMMAND):
        return True
    if content[0] in (PART, LAST):
        return int.from_bytes(content[1:5], "big") in names
    return content[0] in (START, FULL) and len(content) > 6 and content[6 : 6 + content[5]].isascii()


def _text(view: NDArray[np.uint8], position: int) -> tuple[bytes, int]:
    """Return a text behind its length, and the position behind it."""
    (length,) = struct.unpack_from(">B", view.data, position)
    return view[position + 1 : position + 1 + length].tobytes(), position + 1 + length


def _placed(name: str, pages: Pages, kind: str, unreadable: UnreadablePages) -> tuple[tuple[Segment, ...], list[str]]:
    """Return all RAM with a known address, and remarks on the rest."""
    ram, layout, remarks = _main(pages, kind)
    cache = Cache()
    segments: list[Segment] = []
    start = 0
    for block in ram:
        for low, high, address in _pieces(layout, start, block, sum(each.size for each in ram)):
            places = block.places[low // pages.page : -(-high // pages.page)]
            segments += _stretches(pages, places, address, partial(_stretch, pages, cache, unreadable), len(segments))
        start += block.size
    for block in pages.blocks.values():
        if block not in ram and block.places.any() and not any(part in block.name for part in NO_RAM):
            remarks.append(f"{block.name} ({block.size >> 10} KiB) is left out: its address is not in the stream")
    return sorted_segments(segments), remarks


def _main(pages: Pages, kind: str) -> tuple[list[Block], RamLayout, list[str]]:
    """Return the blocks of the machine's RAM in order, and its layout.

    Returns:
        These, and a remark if the layout is unknown.
    """
    plain = {name.decode("latin-1").removeprefix("/objects/"): block for name, block in pages.blocks.items()}
    for block_name, machine, layout in QEMU_RAM:
        if block_name in plain and kind.startswith(machine):
            return [plain[block_name]], layout, []
    nodes = [plain[f"ram-node{number}"] for number in range(len(plain)) if f"ram-node{number}" in plain]
    ram = nodes or [max(plain.values(), key=lambda block: block.size)]
    for block_name, machine, layout in QEMU_RAM:
        if not block_name and kind.startswith(machine):
            return ram, layout, []
    what = ram[0].name
    remark = f"the RAM layout of {kind or 'this machine'} is not known: {what} is assumed to begin at address 0"
    return ram, RamLayout("unknown"), [remark]


def _pieces(layout: RamLayout, start: int, block: Block, total: int) -> list[tuple[int, int, int]]:
    """Return the pieces of a block: offsets of begin and end, and address.

    The block begins ``start`` bytes into RAM of ``total`` bytes. The display's window of a PC is left out.
    """
    found: list[tuple[int, int, int]] = []
    for piece in layout.pieces(total):
        low, high = max(piece.offset, start), min(piece.offset + piece.size, start + block.size)
        address = piece.address + low - piece.offset
        # All machines with a hole are PCs.
        window = VGA_WINDOW if layout.below is not None else range(0)
        for first, last in (
            ((low, min(high, window.start)), (max(low, window.stop), high)) if window else ((low, high),)
        ):
            if first < last:
                found.append((first - start, last - start, address + first - low))
    return found


def _stretches(
    pages: Pages, places: NDArray[np.int64], address: int, stretch: Callable[..., Segment], owner: int
) -> list[Segment]:
    """Return the runs of pages that were sent, as memory from ``address`` on.

    The address is that of the first element of ``places``.
    """
    edges = np.flatnonzero(np.diff(places != 0, prepend=False, append=False)).reshape(-1, 2)
    if len(edges) > STRETCH_LIMIT:
        raise SourceError(
            f"{pages.source}: the RAM of the migration stream has {len(edges)} gaps; it is damaged, save it again"
        )
    return [
        stretch(address + first * pages.page, places[first:last], owner + number)
        for number, (first, last) in enumerate(edges.tolist())
    ]


def _stretch(
    pages: Pages, cache: Cache, unreadable: UnreadablePages, start: int, places: NDArray[np.int64], owner: int
) -> LazySegment:
    """Return a run of pages as memory at an address; ``owner`` is its number."""
    count = AT_ONCE // pages.page

    def decode(number: int) -> NDArray[np.uint8]:
        data, lost = read_pages(pages.view, pages.page, places[number * count : (number + 1) * count])
        for index in lost:
            begin = number * AT_ONCE + index * pages.page
            unreadable.add(owner, begin, begin + pages.page)
        return data

    return LazySegment(start, AT_ONCE, len(places) * pages.page, decode, cache, owner, unreadable_pages=unreadable)
