"""Read ELF cores of machines, as QEMU's dump-guest-memory, /proc/vmcore and makedumpfile -E write them.

Format: System V gABI, chapters 4 ("ELF Header") and 5 ("Program Header"); PN_XNUM, elf(5). Only the physical address of
a program header is used: QEMU copies it to the virtual one, Linux gives that of its direct map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kallsift.budget import WorkBudget
from kallsift.errors import SourceError
from kallsift.memory.claimed import Claimed
from kallsift.memory.formats import elf_notes
from kallsift.memory.formats.lost_headers import open_without_headers
from kallsift.memory.memory import AddressSpace, Memory, Segment, cut_short, sorted_segments
from kallsift.memory.reassembled_file import Content, ReassembledFile, stored_size_of, stretch
from kallsift.memory.remarks import limited, reason
from kallsift.memory.run_budget import take_run
from kallsift.memory.unreadable import UnreadablePages

MAGIC = b"\x7fELF"
CLASSES = {1: 32, 2: 64}
"""Width of a word in bits, by e_ident[EI_CLASS]."""
BYTE_ORDERS: dict[int, elf_notes.ByteOrder] = {1: "<", 2: ">"}
"""Byte order by e_ident[EI_DATA]."""

TYPE_RELOCATABLE, TYPE_EXECUTABLE, TYPE_SHARED, TYPE_CORE = 1, 2, 3, 4
LOAD, NOTE = 1, 4
COUNT_ELSEWHERE = 0xFFFF
"""PN_XNUM: the true number of program headers stands in sh_info of the first section header."""

FILE_HEADER = {
    bits: np.dtype(
        [
            ("ident", "u1", (16,)),
            ("type", "u2"),
            ("machine", "u2"),
            ("version", "u4"),
            ("entry", word),
            ("program_offset", word),
            ("section_offset", word),
            ("flags", "u4"),
            ("header_size", "u2"),
            ("program_size", "u2"),
            ("program_count", "u2"),
            ("section_size", "u2"),
            ("section_count", "u2"),
            ("section_names", "u2"),
        ]
    )
    for bits, word in ((32, "u4"), (64, "u8"))
}
PROGRAM_HEADER = {
    32: np.dtype(
        [
            ("type", "u4"),
            ("offset", "u4"),
            ("virtual", "u4"),
            ("physical", "u4"),
            ("file_size", "u4"),
            ("memory_size", "u4"),
            ("flags", "u4"),
            ("alignment", "u4"),
        ]
    ),
    64: np.dtype(
        [
            ("type", "u4"),
            ("flags", "u4"),
            ("offset", "u8"),
            ("virtual", "u8"),
            ("physical", "u8"),
            ("file_size", "u8"),
            ("memory_size", "u8"),
            ("alignment", "u8"),
        ]
    ),
}


SECTION_HEADER = {
    bits: np.dtype(
        [
            ("name", "u4"),
            ("type", "u4"),
            ("flags", word),
            ("address", word),
            ("offset", word),
            ("size", word),
            ("link", "u4"),
            ("info", "u4"),
            ("alignment", word),
            ("entry_size", word),
        ]
    )
    for bits, word in ((32, "u4"), (64, "u8"))
}

MAX_BEFORE_CONTENT = 1 << 16
"""Highest number of bytes between the last program header and the first content: alignment."""
MAX_FLAGS, MAX_OFFSET, MAX_SECTIONS_BEFORE = 7, 1 << 48, 3
MIN_COVERED = 0.9
"""Lowest share of the file that the program headers of a whole core describe."""

SHARED = "ranges of the same bytes"
"""Ranges of other addresses whose bytes in the file other ranges have too, as messages call them."""

HEADERS_LOST = "the ELF program headers are lost: what stands behind them is read as memory in one piece"

FIRST_PROGRAMS = 64
"""Number of program headers that are read first where it is unknown whether there are any."""
PROGRAM_LIMIT = 1 << 17
"""Highest number of program headers: more than any dump has, and enough for PN_XNUM to be of use."""
NOTE_BYTES_LIMIT = 1 << 24
"""Highest number of bytes of notes that are read: a thousand processors need less than one MiB."""


class ProcessCoreError(SourceError):
    """A core is that of a user program, whose memory holds no machine."""


class SavedKcoreError(SourceError):
    """A core is a copy of /proc/kcore without physical addresses."""


class ProgramError(SourceError):
    """An ELF file is no core at all."""


class FileHeader(NamedTuple):
    """An ELF header: width of a word in bits, byte order, and all fields as in `FILE_HEADER`."""

    bits: int
    byte_order: elf_notes.ByteOrder
    record: np.void


class Core(NamedTuple):
    """The headers of a core: its machine, word width in bits, byte order and program headers, shape (n,)."""

    machine: int
    bits: int
    byte_order: elf_notes.ByteOrder
    programs: NDArray[np.void]


def file_header(header: bytes) -> FileHeader | None:
    """Return the ELF header that ``header`` begins with.

    The result is None if there is none, or not all of it.
    """
    ident = header[:16].ljust(16, b"\0")
    bits, byte_order = CLASSES.get(ident[4]), BYTE_ORDERS.get(ident[5])
    if not probe(header) or bits is None or byte_order is None or len(header) < FILE_HEADER[bits].itemsize:
        return None
    return FileHeader(bits, byte_order, np.frombuffer(header, FILE_HEADER[bits].newbyteorder(byte_order), 1)[0])


def probe(header: bytes) -> bool:
    """Tell whether a file that begins with ``header`` is ELF.

    `open` distinguishes cores from programs.
    """
    return header.startswith(MAGIC)


def open(name: str, view: Content, release: Callable[[], None]) -> Memory:
    """Open the loaded ranges of a machine's core as physical segments.

    Its notes become hints. Memory that a program header has but the file has not stays a gap. Where two ranges describe
    the same memory, the first one wins; `Memory.notes` reports this, and ranges that run past the end of the file.

    Args:
        name: name of the source in messages.
        view: the whole file, shape (size,), uint8, or an object that takes its place.
        release: function that releases the file.

    Raises:
        SourceError: if headers are broken, or if this is a program, the core of one, or of /proc/kcore's kind.
    """
    try:
        core, damage = _headers(name, view)
        notes, remarks = read_notes(view, core)
        remarks[:0] = damage
        _refuse_other_cores(name, core, notes)
        segments, more = _segments(view, core)
        if not segments:
            raise SourceError(f"{name}: this ELF core holds no memory{reason(more)}; take the dump again")
    except (ProgramError, ProcessCoreError, SavedKcoreError):
        raise
    except SourceError:
        if (memory := open_without_headers(name, view, release)) is None:
            raise
        return replace(memory, container="ELF core", notes=(HEADERS_LOST,))
    remarks += more
    return Memory(
        source=name,
        container="ELF core",
        space=AddressSpace.PHYSICAL,
        segments=segments,
        hints=elf_notes.hints(notes, core.machine, core.byte_order, core.bits),
        release=release,
        notes=limited(remarks),
        unreadable=view.unreadable if isinstance(view, ReassembledFile) else UnreadablePages(),
    )


def _headers(name: str, view: Content) -> tuple[Core, list[str]]:
    """Read the headers, also damaged ones, and return remarks.

    With a damaged ELF header, program headers are found by their own contents.

    Raises:
        SourceError: as `read_headers`.
    """
    try:
        core = read_headers(name, view)
    except ProgramError:
        raise
    except SourceError:
        if (found := core_headers(view)) is None:
            raise
    else:
        found = core_headers(view)
        if found is None or found.programs.tobytes() == core.programs.tobytes():
            return core, []
    return found, ["the ELF header is damaged: the program headers were found by what they say of themselves"]


def core_headers(view: Content) -> Core | None:
    """Return the headers of a core, found without its ELF header.

    Only the machine number is taken from there. Each program header describes a part of the file; the first of these
    parts begins behind the last program header, and the last one ends with the file. Cores of machines have only the
    types LOAD and NOTE. The result is None if there are no such headers.
    """
    for bits in CLASSES.values():
        start = FILE_HEADER[bits].itemsize
        # QEMU puts section headers before them since 7.2, usually two
        for offset in range(
            start, start + MAX_SECTIONS_BEFORE * SECTION_HEADER[bits].itemsize + 1, SECTION_HEADER[bits].itemsize
        ):
            for order in BYTE_ORDERS.values():
                programs = _programs_at(view, offset, PROGRAM_HEADER[bits].newbyteorder(order))
                if _tell_of_whole_file(programs, offset, len(view)):
                    header = np.ascontiguousarray(view[:start]).view(FILE_HEADER[bits].newbyteorder(order))[0]
                    return Core(int(header["machine"]), bits, order, programs)
    return None


def _programs_at(view: Content, start: int, layout: np.dtype[np.void]) -> NDArray[np.void]:
    """Return the possible program headers of a core from a file offset on, shape (n,).

    Few are read at first, because most bytes are no program header.
    """
    limit = FIRST_PROGRAMS
    while True:
        data = np.ascontiguousarray(view[start : start + limit * layout.itemsize])
        programs = data[: len(data) // layout.itemsize * layout.itemsize].view(layout)
        fits = np.isin(programs["type"], (LOAD, NOTE)) & (programs["flags"] <= MAX_FLAGS)
        fits &= (programs["offset"] < MAX_OFFSET) & (programs["file_size"] < MAX_OFFSET)
        fits &= (programs["file_size"] <= programs["memory_size"]) | (programs["type"] == NOTE)
        count = int(np.argmin(np.append(fits, False)))
        if count < limit or limit >= PROGRAM_LIMIT:
            return programs[:count]
        limit *= 8


def _tell_of_whole_file(programs: NDArray[np.void], start: int, size: int) -> bool:
    """Tell whether program headers describe everything behind them.

    They stand at offset ``start`` of a file of ``size`` bytes.
    """
    offsets, sizes = (programs[field].astype(np.uint64) for field in ("offset", "file_size"))
    held = sizes > 0
    if not (held & (programs["type"] == LOAD)).any():
        return False
    first, end = int(offsets[held].min()), int((offsets + sizes)[held].max())
    before = first - start - programs.nbytes
    return 0 <= before <= MAX_BEFORE_CONTENT and first < size and end >= size * MIN_COVERED


def read_headers(name: str, view: Content) -> Core:
    """Read the headers of a core.

    Raises:
        SourceError: if they are broken, or this is no core; ProgramError if it is a program.
    """
    ident = view[:16].tobytes().ljust(16, b"\0")
    bits, byte_order = CLASSES.get(ident[4]), BYTE_ORDERS.get(ident[5])
    if bits is None or byte_order is None:
        raise SourceError(f"{name}: broken ELF header (class {ident[4]}, byte order {ident[5]}); copy the dump again")
    header = records(name, view, "ELF header", 0, 1, FILE_HEADER[bits].newbyteorder(byte_order))[0]
    kind = int(header["type"])
    if kind in (TYPE_RELOCATABLE, TYPE_EXECUTABLE, TYPE_SHARED):
        raise ProgramError(f"{name}: is an ELF program, not a memory dump, and holds no kernel")
    if kind != TYPE_CORE:
        raise SourceError(f"{name}: is ELF of the unknown type {kind}, not a memory dump")
    layout = PROGRAM_HEADER[bits].newbyteorder(byte_order)
    count, size, offset = (int(header[f"program_{field}"]) for field in ("count", "size", "offset"))
    if count == COUNT_ELSEWHERE:
        section = SECTION_HEADER[bits].newbyteorder(byte_order)
        sections = records(name, view, "first section header", int(header["section_offset"]), 1, section)
        count = int(sections[0]["info"])
    if count > PROGRAM_LIMIT:
        raise SourceError(f"{name}: {count} program headers are more than any dump has; the ELF header is broken")
    if count and size != layout.itemsize:
        raise SourceError(f"{name}: ELF program headers of {size} bytes (should be {layout.itemsize}); copy it again")
    programs = records(name, view, "program header table", offset, count, layout)
    return Core(int(header["machine"]), bits, byte_order, programs)


def records(
    name: str, view: Content, what: str, offset: int, count: int, layout: np.dtype[np.void]
) -> NDArray[np.void]:
    """Return ``count`` records of the file as a view, shape (count,).

    Raises:
        SourceError: if they run past its end; ``what`` names them.
    """
    end = offset + count * layout.itemsize
    if end > len(view):
        raise SourceError(
            f"{name}: the {what} at file offset {offset:#x} runs past the end of the file; copy the dump again"
        )
    return view[offset:end].view(layout)


def read_notes(view: Content, core: Core) -> tuple[list[elf_notes.Note], list[str]]:
    """Return all notes of the core up to a bound, and remarks on unreadable ones."""
    notes: list[elf_notes.Note] = []
    remarks: list[str] = []
    left = NOTE_BYTES_LIMIT
    tables = core.programs[core.programs["type"] == NOTE]
    for offset, size in zip(tables["offset"].tolist(), tables["file_size"].tolist(), strict=True):
        data = view[offset : offset + min(size, left)].tobytes()
        left -= len(data)
        found, whole = elf_notes.parse(data, core.byte_order, elf_notes.NOTE_LIMIT - len(notes))
        notes += found
        if len(data) < size:
            remarks.append(cut_short(f"note segment at file offset {offset:#x}", len(data), size))
        elif not whole:
            remarks.append(f"note segment at file offset {offset:#x} is damaged: {len(found)} notes could be read")
        if not left or len(notes) == elf_notes.NOTE_LIMIT:
            break
    return notes, remarks


def _refuse_other_cores(name: str, core: Core, notes: list[elf_notes.Note]) -> None:
    """Raise an error if the program headers have no physical addresses of a machine.

    Linux leaves p_paddr 0 in the core of a program (fs/binfmt_elf.c). In /proc/kcore it is all ones for memory that is
    mapped page by page, and older kernels left it 0 there everywhere (fs/proc/kcore.c).
    """
    loads = core.programs[core.programs["type"] == LOAD]
    nowhere = not loads["physical"].any()
    virtual = loads["virtual"]
    of_user = bool(((virtual > 0) & (virtual < 1 << (core.bits - 1))).any())
    if not elf_notes.of_machine(notes) and (elf_notes.of_program(notes) or (nowhere and of_user)):
        program = elf_notes.program_name(notes) or "name unknown"
        raise ProcessCoreError(
            f"{name}: is the core of a user program ({program}), not of a machine; "
            "dump the machine's memory, e.g. with LiME or QEMU's dump-guest-memory"
        )
    everywhere = (1 << core.bits) - 1
    if (loads["physical"] == everywhere).any() or (nowhere and len(loads) > 1):
        raise SavedKcoreError(
            f"{name}: is a copy of /proc/kcore (a kernel's virtual memory), made by an old kernel, which does not "
            "tell physical addresses; name /proc/kcore itself, or dump the machine's memory, e.g. with LiME"
        )


def _segments(view: Content, core: Core) -> tuple[tuple[Segment, ...], list[str]]:
    """Return the physical segments in the file, and remarks.

    The remarks are on memory that is missing, or there twice.
    """
    loads = core.programs[(core.programs["type"] == LOAD) & (core.programs["file_size"] > 0)]
    # Dumps with paging list the same bytes once for every virtual address; this needs no remark.
    columns = (loads[field].tolist() for field in ("physical", "offset", "file_size"))
    ranges = dict.fromkeys(zip(*columns, strict=True))
    claimed, used = Claimed(), Claimed()
    budget = WorkBudget.of(stored_size_of(view))
    again = 0
    pieces: list[tuple[int, int, int]] = []
    remarks: list[str] = []
    for start, offset, size in ranges:
        present = min(size, max(0, len(view) - offset))
        range_name = f"range {start:#x}-{start + size - 1:#x}"
        if start + present > 1 << core.bits:
            remarks.append(f"{range_name} runs past the end of all addresses, and is left out")
            continue
        if present < size:
            remarks.append(cut_short(range_name, present, size))
        free = claimed.claim(start, start + present) if present else []
        parts = [(low, high, offset + low - start) for low, high in free]
        shared = sum(
            high - low - sum(stop - first for first, stop in used.claim(place, place + high - low))
            for low, high, place in parts
        )
        again += shared
        # ranges with bytes of their own are as many as the file has room for; the same bytes again are only work
        if shared and again > len(view):
            budget.leave_out(SHARED)
            continue
        if shared and not take_run(budget, SHARED):
            continue
        pieces += parts
        repeated = present - sum(high - low for low, high in free)
        if repeated:
            remarks.append(f"{range_name} repeats {repeated} bytes of ranges before it: those were kept")
    segments = [stretch(view, low, offset, offset + high - low) for low, high, offset in _joined(pieces)]
    return sorted_segments(segments), remarks + ([budget.left_out] if budget.left_out else [])


def _joined(pieces: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return pieces (start, end, file offset), those joined that adjoin.

    They must adjoin in memory and in the file. QEMU splits memory where its own blocks end, e.g. between NUMA nodes,
    which means nothing to the guest's kernel.
    """
    joined: list[tuple[int, int, int]] = []
    for start, end, offset in sorted(pieces):
        if joined and start == joined[-1][1] and offset - start == joined[-1][2] - joined[-1][0]:
            joined[-1] = (joined[-1][0], end, joined[-1][2])
        else:
            joined.append((start, end, offset))
    return joined
