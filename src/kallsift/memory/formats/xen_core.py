"""Read Xen's dumps of its guests (``xl dump-core``): an ELF core of sections with the pages and their frame numbers.

Format: Xen, docs/misc/dump-core-format.txt and tools/libs/guest/xg_core.h (sections, notes); public/arch-x86/xen.h and
xen-x86_64.h (struct vcpu_guest_context). Checked against crash's xendump.c and libkdumpfile's elfdump.c. A guest that
translates addresses itself (HVM, PVH) has ``.xen_pfn``. A paravirtual one has ``.xen_p2m``, and its page tables and CR3
contain frames of the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kallsift.budget import WorkBudget
from kallsift.errors import SourceError
from kallsift.memory.file_mapping import stored_size
from kallsift.memory.formats import elf_headers
from kallsift.memory.formats.elf_notes import MACHINE_X86_64, ByteOrder, parse
from kallsift.memory.memory import AddressSpace, CpuState, Hints, Memory, cut_short
from kallsift.memory.run_budget import largest_segments
from kallsift.memory.segments import BytesSegment, sorted_segments

PAGES, OWN_FRAMES, HOST_FRAMES, PROCESSORS, NOTES = ".xen_pages", ".xen_pfn", ".xen_p2m", ".xen_prstatus", ".note.Xen"
NOWHERE = (1 << 64) - 1
"""XC_CORE_INVALID_PFN: a page that the guest no longer has."""
FRAME_LIMIT = 1 << 40

NOTE_HEADER = 0x2000001
"""XEN_ELFNOTE_DUMPCORE_HEADER: kind of guest, processors, pages, size of a page, each of 8 bytes."""
PAGE_SIZES = (4096, 16384, 65536)

CONTEXT = np.dtype(
    {
        "names": ["rip", "cr0", "cr3", "cr4"],
        "formats": ["<u8"] * 4,
        "offsets": [520 + 128, 4984, 4984 + 3 * 8, 4984 + 4 * 8],
        "itemsize": 5168,
    }
)
"""struct vcpu_guest_context of x86-64: its user_regs from byte 520 on, its ctrlreg from byte 4984 on."""

SECTION_LIMIT = 1 << 10
NAMES_LIMIT = 1 << 16
LONGEST_NAME = 64
NOTES_LIMIT = 1 << 16
RUN_LIMIT = 1 << 18
"""Highest number of runs of pages.

A guest has some dozens, and one that gave back much of its memory some thousands.
"""
PROCESSOR_LIMIT = 1 << 12


class _Section(NamedTuple):
    """A section's offset in the file, its size, and the size of an entry, in bytes."""

    offset: int
    size: int
    entry_size: int


def probe(header: bytes) -> bool:
    """Tell whether a file with this beginning is an ELF core without program headers.

    It must have sections.
    """
    found = elf_headers.file_header(header)
    if found is None or found.record["type"] != elf_headers.TYPE_CORE:
        return False
    if found.record["program_count"] or not found.record["section_count"]:
        return False
    # if there are program headers nevertheless, their number is damaged
    return elf_headers.core_headers(np.frombuffer(header, np.uint8)) is None


def open(name: str, view: NDArray[np.uint8], release: Callable[[], None]) -> Memory:
    """Open the pages of a guest at its physical addresses.

    Args:
        name: name of the source in messages.
        view: the whole file, shape (size,), uint8.
        release: function that releases the file.

    Raises:
        SourceError: if this is no dump of Xen's, or if it is broken.
    """
    machine, order, sections = _sections(name, view)
    if PAGES not in sections or not (OWN_FRAMES in sections or HOST_FRAMES in sections):
        raise SourceError(f"{name}: this ELF core has neither memory segments nor Xen's pages; take the dump again")
    translated = OWN_FRAMES in sections
    notes: list[str] = []
    frames = _frames(view, sections[OWN_FRAMES if translated else HOST_FRAMES], order, 1 if translated else 2)
    page_size = _page_size(name, view, sections, order)
    pages = sections[PAGES]
    promised = min(pages.size // page_size, len(frames))
    begin = min(pages.offset, len(view))
    present = min(promised, (len(view) - begin) // page_size)
    if present < promised or pages.size != len(frames) * page_size:
        notes.append(cut_short("the memory", present * page_size, max(pages.size, len(frames) * page_size)))
    if not translated:
        notes.append(
            "a paravirtual guest: its page tables hold frame numbers of the host, so its mappings cannot be checked"
        )
    starts, sizes, offsets, repeated = _runs(name, frames[:present], page_size)
    if repeated:
        notes.append(f"{repeated} pages occur twice: the first of each was kept")
    runs = zip(starts.tolist(), sizes.tolist(), (offsets + begin).tolist(), strict=True)
    budget = WorkBudget.of(stored_size(view))
    found = [BytesSegment(start, view[offset : offset + size]) for start, size, offset in runs]
    segments = sorted_segments(largest_segments(found, budget))
    notes += [budget.left_out] if budget.left_out else []
    if not segments:
        raise SourceError(f"{name}: this Xen dump ends before any memory; take it again")
    known = translated and machine == MACHINE_X86_64 and order == "<"
    return Memory(
        source=name,
        container="Xen core",
        space=AddressSpace.PHYSICAL,
        segments=segments,
        hints=Hints(cpus=_processors(view, sections.get(PROCESSORS)) if known else ()),
        release=release,
        notes=tuple(notes),
    )


def _sections(name: str, view: NDArray[np.uint8]) -> tuple[int, ByteOrder, dict[str, _Section]]:
    """Return the ELF machine number, the byte order, and the sections by name.

    The first section of each name counts.
    """
    found = elf_headers.file_header(view[:64].tobytes())
    assert found is not None
    bits, order, header = found
    count, size, names = (int(header[field]) for field in ("section_count", "section_size", "section_names"))
    layout = elf_headers.SECTION_HEADER[bits]
    if count > SECTION_LIMIT or size != layout.itemsize or names >= count:
        raise SourceError(
            f"{name}: has {count} section headers of {size} bytes, which Xen does not write; copy it again"
        )
    start = int(header["section_offset"])
    table = elf_headers.records(name, view, "section header table", start, count, layout.newbyteorder(order))
    start = int(table[names]["offset"])
    texts = view[start : start + min(int(table[names]["size"]), NAMES_LIMIT)].tobytes()
    sections: dict[str, _Section] = {}
    for record in table:
        text = texts[int(record["name"]) :][:LONGEST_NAME].split(b"\0")[0].decode("latin-1")
        sections.setdefault(text, _Section(*(int(record[field]) for field in _Section._fields)))
    return int(header["machine"]), order, sections


def _frames(view: NDArray[np.uint8], section: _Section, order: ByteOrder, width: int) -> NDArray[np.uint64]:
    """Return the guest's frame number of each page, as many as the file has.

    It is the first of ``width`` words in an entry.
    """
    data = view[section.offset : section.offset + section.size]
    words = np.ascontiguousarray(data[: len(data) // (8 * width) * 8 * width]).view(f"{order}u8")
    return words[::width].astype(np.uint64)


def _page_size(name: str, view: NDArray[np.uint8], sections: dict[str, _Section], order: ByteOrder) -> int:
    """Return the size of a page in bytes, from a note."""
    section = sections.get(NOTES, _Section(0, 0, 0))
    found, _ = parse(view[section.offset : section.offset + min(section.size, NOTES_LIMIT)].tobytes(), order)
    header = next((note.data for note in found if note.kind == NOTE_HEADER and len(note.data) >= 32), None)
    size = PAGE_SIZES[0] if header is None else int(np.frombuffer(header, f"{order}u8", 4)[3])
    if size not in PAGE_SIZES:
        raise SourceError(
            f"{name}: claims pages of {size} bytes, which Xen does not have; the dump is damaged, take it again"
        )
    return size


def _runs(
    name: str, frames: NDArray[np.uint64], page_size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], int]:
    """Return the runs of pages that are adjacent in the guest and in the file.

    Returns:
        Address, size and offset among the pages of each run, and the number of repeated pages that were left out.
    """
    places = np.flatnonzero(frames != np.uint64(NOWHERE))
    own = frames[places]
    if len(own) and int(own.max()) >= FRAME_LIMIT:
        raise SourceError(f"{name}: places a page at frame {int(own.max()):#x}, which no machine has; take it again")
    own, first = np.unique(own, return_index=True)
    repeated, places, numbers = len(places) - len(own), places[first], own.astype(np.int64)
    begins = np.flatnonzero((np.diff(numbers, prepend=-2) != 1) | (np.diff(places, prepend=-2) != 1))
    if len(begins) > RUN_LIMIT:
        raise SourceError(
            f"{name}: its pages lie in more than {RUN_LIMIT} ranges, more than any machine has; take the dump again"
        )
    lengths = np.diff(begins, append=len(numbers))
    return numbers[begins] * page_size, lengths * page_size, places[begins] * page_size, repeated


def _processors(view: NDArray[np.uint8], section: _Section | None) -> tuple[CpuState, ...]:
    """Return the registers of each processor; none if the section is not x86-64's."""
    if section is None or section.entry_size != CONTEXT.itemsize:
        return ()
    count = min(section.size // CONTEXT.itemsize, PROCESSOR_LIMIT)
    data = view[section.offset : section.offset + count * CONTEXT.itemsize]
    states = np.ascontiguousarray(data[: len(data) // CONTEXT.itemsize * CONTEXT.itemsize]).view(CONTEXT)
    return tuple(
        CpuState(number, {register: int(state[register]) for register in CONTEXT.names or ()})
        for number, state in enumerate(states)
    )
