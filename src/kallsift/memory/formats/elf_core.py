"""Read ELF cores of machines, as QEMU's dump-guest-memory, /proc/vmcore and makedumpfile -E write them.

Only the physical address of a program header is used: QEMU copies it to the virtual one, Linux gives that of its direct
map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kallsift.budget import WorkBudget
from kallsift.errors import SourceError
from kallsift.memory.claimed import Claimed
from kallsift.memory.formats import elf_notes
from kallsift.memory.formats.elf_headers import LOAD, MAGIC, NOTE, Core, ProgramError, core_headers, read_headers
from kallsift.memory.formats.lost_headers import open_without_headers
from kallsift.memory.memory import AddressSpace, Memory, cut_short
from kallsift.memory.reassembled_file import Content, ReassembledFile, stored_size_of, stretch
from kallsift.memory.remarks import limited, reason
from kallsift.memory.run_budget import take_run
from kallsift.memory.segments import Segment, sorted_segments
from kallsift.memory.unreadable import UnreadablePages

SHARED = "ranges of the same bytes"
"""Ranges of other addresses whose bytes in the file other ranges have too, as messages call them."""

HEADERS_LOST = "the ELF program headers are lost: what stands behind them is read as memory in one piece"

NOTE_BYTES_LIMIT = 1 << 24
"""Highest number of bytes of notes that are read: a thousand processors need less than one MiB."""


class ProcessCoreError(SourceError):
    """A core is that of a user program, whose memory holds no machine."""


class SavedKcoreError(SourceError):
    """A core is a copy of /proc/kcore without physical addresses."""


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
