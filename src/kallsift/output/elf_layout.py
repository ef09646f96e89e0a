"""Layout of a kernel's ELF file: which part of the address space its image covers, and what the source holds of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import KallsiftError
from kallsift.kernel.model import Kernel
from kallsift.output.elf_build_id import Note, find_build_id
from kallsift.output.elf_sections import LETTERS, RANGES, UNTOLD, Division, Kind, Range, Section, divide

MAX_IMAGE = 1 << 30
"""Bytes of an image at most: what x86-64 has room for; the largest seen so far are below 128 MB."""

REACH = 128 << 20
"""How far from its tables an image goes on at most, where no boundary symbols tell."""

CHUNK = 1 << 20
PAGE = 4096
WORD = (1 << 64) - 1


@dataclass(frozen=True, eq=False)
class Layout:
    """What an ELF file of a kernel consists of.

    Attributes:
        start: running address of the image's first byte.
        end: running address behind its last byte.
        sections: without gaps from ``start`` to ``end``.
        contents: the bytes of zeroed sections that were written to since, once more as sections with content; these
            have no symbols and stand first in the file, since debuggers read from the first section that has an
            address. (A section with content would change the letter of its symbols.)
        kinds: of each symbol's letter, shape (n,), uint8: a `Kind` or `UNTOLD`.
        build_id: the note, None if there is none.
        missing: bytes that the kernel had in memory and the source lacks, apart from those that are zero at the start.
    """

    start: int
    end: int
    sections: tuple[Section, ...]
    contents: tuple[Section, ...]
    kinds: NDArray[np.uint8]
    build_id: Note | None
    missing: int


def lay_out(kernel: Kernel) -> Layout:
    """Divides a kernel's image into sections.

    Raises:
        KallsiftError: if nothing tells where the image lies, or it is contrived.
    """
    kinds = _kinds(kernel)
    start, end = _image(kernel, kinds)
    held = tuple(_held(kernel, start, end))
    note = find_build_id(kernel, held)
    addresses = kernel.symbols.addresses
    order = np.argsort(addresses, kind="stable")
    within = (kinds != UNTOLD) & (addresses >= np.uint64(start)) & (addresses < np.uint64(end))
    inside = order[within[order]]
    division = Division(
        addresses=addresses[inside],
        kinds=kinds[inside],
        ranges=tuple((*bounds, one) for one in RANGES if (bounds := _bounds(kernel, one, start, end))),
        held=held,
        note=(note.address, note.address + len(note.data)) if note and note.address is not None else (0, 0),
    )
    sections = tuple(divide(start, end, division))
    contents = tuple(
        replace(one, name=f"{one.name}.content", kind=Kind.DATA)
        for one in sections
        if one.kind is Kind.ZEROED and one.held and _written(kernel, one)
    )
    # between the parts of an image as it was built there is nothing to miss
    lacking = [one for one in sections if not one.held and one.kind is not Kind.ZEROED and not kernel.memory.image]
    missing = sum(one.end - one.start for one in lacking)
    return Layout(start, end, sections, contents, kinds, note, missing)


def letters(kernel: Kernel) -> NDArray[np.uint8]:
    """The type letter of each symbol, 0 for those whose name is unknown, shape (n,), uint8."""
    table = kernel.symbols
    known = np.diff(table.bounds) > 0
    found = np.zeros(len(table), np.uint8)
    found[known] = table.characters[table.bounds[:-1][known]]
    return found


def _kinds(kernel: Kernel) -> NDArray[np.uint8]:
    of_byte = np.full(256, UNTOLD, np.uint8)
    for letter, kind in LETTERS.items():
        of_byte[[ord(letter), ord(letter.upper())]] = kind
    return of_byte[letters(kernel)]


def _image(kernel: Kernel, kinds: NDArray[np.uint8]) -> tuple[int, int]:
    """The image's first address and the one behind its last, from boundary symbols or else from all that lies near."""
    told = kernel.symbols.addresses
    if (kinds != UNTOLD).any():  # up to 2.6.9 no letter is known
        told = told[kinds != UNTOLD]
    low = min((int(table.virtual) for table in kernel.tables), default=0)
    high = max((table.virtual + table.size for table in kernel.tables), default=0)
    near = told[(told >= np.uint64(max(0, low - REACH))) & (told <= np.uint64(min(WORD, high + REACH)))]
    if not len(near):
        raise KallsiftError("no symbol lies near the kernel's tables, so its image cannot be told; use 'symbols'")
    firsts = [_first(kernel, (name,), max(0, low - REACH), low) for name in ("_start", "_text", "_stext")]
    start = min((first for first in firsts if first is not None), default=min(int(near.min()), low))
    end = _first(kernel, ("_end",), high, WORD) or min(-PAGE & WORD, max(int(near.max()) + 1, high) + PAGE - 1 & -PAGE)
    if not start < end <= start + MAX_IMAGE:
        raise KallsiftError(f"the image would reach from {start:#x} to {end:#x}: no kernel is that large; see 'info'")
    return start, end


def _first(kernel: Kernel, names: tuple[str, ...], low: int, high: int) -> int | None:
    """Address of the first symbol of these names that lies from ``low`` to ``high``."""
    for name in names:
        for symbol in kernel.symbols.all(name):
            if low <= symbol.address <= high:
                return symbol.address
    return None


def _bounds(kernel: Kernel, one: Range, start: int, end: int) -> tuple[int, int] | None:
    """Where a range begins and ends; None if a symbol of it is not in the table."""
    low = _first(kernel, one.starts, start, end)
    if low is None:
        return None
    high = _first(kernel, one.ends, low, end)
    if high is None:
        # offsets into the per-CPU area (x86-64 up to 6.14): their distance is the template's size
        bounds = [kernel.symbols.find(name) for name in ("__per_cpu_start", *one.ends)]
        if "__per_cpu_load" not in one.starts or None in bounds:
            return None
        first, last = (kernel.symbols.symbol(index).address for index in bounds if index is not None)
        high = low + last - first
    return (low, high) if low < high <= end else None


def _held(kernel: Kernel, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of the image that the source holds, by running addresses, ascending."""
    source = start - kernel.distance & WORD
    before: tuple[int, int] | None = None
    for segment in kernel.memory.segments:
        low, high = max(segment.start, source), min(segment.end, source + end - start)
        if low >= high:
            continue
        if before and before[1] == low:
            before = before[0], high
            continue
        if before:
            yield before[0] - source + start, before[1] - source + start
        before = low, high
    if before:
        yield before[0] - source + start, before[1] - source + start


def _written(kernel: Kernel, section: Section) -> bool:
    """Whether any byte of a section that the source holds is not zero."""
    source = section.start - kernel.distance & WORD
    return any(
        kernel.memory.read(source + at, min(CHUNK, section.end - section.start - at)).any()
        for at in range(0, section.end - section.start, CHUNK)
    )
