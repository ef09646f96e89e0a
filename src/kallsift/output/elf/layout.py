"""Divide a kernel's image into sections for an ELF file.

The layout also tells which part of the address space the image covers, and which bytes of it the source holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import KallsiftError
from kallsift.kernel.access.image_sections import PER_CPU, address_of
from kallsift.kernel.kernel import Kernel
from kallsift.memory.memory import AddressSpace
from kallsift.output.elf.build_id import BuildIdNote, find_build_id
from kallsift.output.elf.sections import LETTERS, RANGES, UNTOLD, Division, Section, SectionBounds, divide

MAX_IMAGE = 1 << 30
"""Greatest size of an image in bytes.

x86-64 has room for so much; the largest images seen so far are below 128 MB.
"""

REACH = 128 << 20
"""Greatest distance in bytes from the kallsyms tables to the image's first symbol.

The same holds for its last symbol if there is no ``_end``.
"""

PER_CPU_NAME, LOADED_NAME = ".data..percpu", ".init.percpu"
"""Names of the section of per-CPU symbols, and of the template that the kernel copies for each processor."""

CHUNK = 1 << 20
PAGE = 4096
WORD = (1 << 64) - 1


@dataclass(frozen=True)
class HeldRange:
    """A part of the image that the source holds.

    Attributes:
        start: running address of its first byte.
        end: running address behind its last byte.
        source: address of its first byte in the source's memory.
    """

    start: int
    end: int
    source: int


@dataclass(frozen=True, eq=False)
class Layout:
    """The parts of a kernel's ELF file.

    Attributes:
        start: running address of the image's first byte.
        end: running address behind its last byte.
        sections: without gaps from ``start`` to ``end``.
        kinds: kind of each symbol's letter, shape (n,), uint8: a `Kind` or `UNTOLD`.
        build_id: the note; None if there is none.
        held: the parts that the source holds, ascending.
        missing: number of bytes that the kernel had in memory and the source lacks, without sections that are zero at
            the start.
        per_cpu: where per-CPU symbols lie if that is outside of the image and these have a section there; else None.
    """

    start: int
    end: int
    sections: tuple[Section, ...]
    kinds: NDArray[np.uint8]
    build_id: BuildIdNote | None
    held: tuple[HeldRange, ...]
    missing: int
    per_cpu: range | None = None

    def read(self, kernel: Kernel, start: int, size: int) -> Iterator[NDArray[np.uint8]]:
        """Yield bytes of the image from a running address on, as the source has them.

        A piece has at most `CHUNK` bytes.
        """
        while size:
            part = next(part for part in self.held if part.start <= start < part.end)
            count = min(size, part.end - start, CHUNK)
            yield kernel.memory.around(part.source + start - part.start & WORD, 0, count).data
            start, size = start + count, size - count


def lay_out(kernel: Kernel) -> Layout:
    """Divide a kernel's image into sections.

    Raises:
        KallsiftError: if the image cannot be located, or its size or number of sections is impossible.
    """
    if not kernel.is_placed:
        raise KallsiftError(
            "the image of these tables is unknown, so there is no ELF file of it; use 'kallsift symbols'"
        )
    kinds = _kinds(kernel)
    start, end = _image(kernel, kinds)
    held = tuple(_held(kernel, start, end))
    note = find_build_id(kernel, tuple((part.start, part.end) for part in held))
    held = tuple(sorted((*held, *_per_cpu_template(kernel, held, end)), key=lambda part: part.start))
    addresses = kernel.symbols.addresses
    order = np.argsort(addresses, kind="stable")
    within = (kinds != UNTOLD) & (addresses >= np.uint64(start)) & (addresses < np.uint64(end))
    inside = order[within[order]]
    division = Division(
        addresses=addresses[inside],
        kinds=kinds[inside],
        ranges=tuple((*bounds, one) for one in RANGES if (bounds := _bounds(kernel, one, start, end))),
        held=tuple((part.start, part.end) for part in held),
        note=(note.address, note.address + len(note.data)) if note and note.address is not None else (0, 0),
    )
    sections = tuple(divide(start, end, division))
    # an image file has gaps between its parts by design; they are not missing
    lacking = [one for one in sections if not one.held and not one.kind.is_zeroed and not kernel.memory.image]
    missing = sum(one.end - one.start for one in lacking)
    layout = Layout(start, end, sections, kinds, note, held, missing)
    filled = (
        replace(one, has_content=True) if one.kind.is_zeroed and one.held and _is_written(kernel, layout, one) else one
        for one in sections
    )
    return replace(layout, sections=tuple(filled))


def with_per_cpu_section(kernel: Kernel, layout: Layout) -> Layout:
    """Return a layout in which per-CPU symbols that are offsets (x86-64 up to 6.14) have a section.

    vmlinux links them at 0 in a section that debuggers know by its name. So what is in the image in its stead, where
    the kernel was loaded, gets another name.
    """
    low, high = (address_of(kernel, name) for name in PER_CPU[:2])
    if low is None or high is None:
        return layout
    if not low < high <= low + MAX_IMAGE or (low < layout.end and layout.start < high):
        return layout
    sections = (replace(one, name=one.name.replace(PER_CPU_NAME, LOADED_NAME, 1)) for one in layout.sections)
    return replace(layout, sections=tuple(sections), per_cpu=range(low, high))


def _is_written(kernel: Kernel, layout: Layout, section: Section) -> bool:
    """Tell whether any byte of a section that the source holds is not zero."""
    return any(piece.any() for piece in layout.read(kernel, section.start, section.end - section.start))


def letters(kernel: Kernel) -> NDArray[np.uint8]:
    """Return the type letter of each symbol, shape (n,), uint8.

    0 stands for symbols whose name is unknown.
    """
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
    """Return the image's first address and the one behind its last.

    Boundary symbols give them, else all symbols near the tables.

    Raises:
        KallsiftError: if no symbol lies near the tables, or the image would be too large.
    """
    listed = kernel.symbols.addresses
    if (kinds != UNTOLD).any():  # kernels up to 2.6.9 have no letters
        listed = listed[kinds != UNTOLD]
    low = min((int(table.virtual) for table in kernel.tables), default=0)
    high = max((table.virtual + table.size for table in kernel.tables), default=0)
    near = listed[(listed >= np.uint64(max(0, low - REACH))) & (listed <= np.uint64(min(WORD, high + REACH)))]
    if not len(near):
        raise KallsiftError(
            "no symbol lies near the kernel's tables, so the bounds of its image are unknown; use 'kallsift symbols'"
        )
    firsts = [_first(kernel, (name,), max(0, low - REACH), low) for name in ("_start", "_text", "_stext")]
    start = min((first for first in firsts if first is not None), default=min(int(near.min()), low))
    end = _first(kernel, ("_end",), high, WORD) or min(-PAGE & WORD, max(int(near.max()) + 1, high) + PAGE - 1 & -PAGE)
    if not start < end <= start + MAX_IMAGE:
        raise KallsiftError(
            f"the image would reach from {start:#x} to {end:#x}, larger than any kernel; see 'kallsift info'"
        )
    return start, end


def _first(kernel: Kernel, names: tuple[str, ...], low: int, high: int) -> int | None:
    """Return the address of the first symbol of these names from ``low`` to ``high``."""
    for name in names:
        for symbol in kernel.symbols.all(name):
            if low <= symbol.address <= high:
                return symbol.address
    return None


def _bounds(kernel: Kernel, one: SectionBounds, start: int, end: int) -> tuple[int, int] | None:
    """Return a range's first address and the one behind it.

    None if the table lacks a symbol of the range.
    """
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


def _held(kernel: Kernel, start: int, end: int) -> Iterator[HeldRange]:
    """Yield the parts of the image that the source holds, ascending.

    They are looked up at the image's distance.
    """
    source = start - kernel.distance & WORD
    before: HeldRange | None = None
    for segment in kernel.memory.segments:
        low, high = max(segment.start, source), min(segment.end, source + end - start)
        if low >= high:
            continue
        part = HeldRange(low - source + start, high - source + start, low)
        if before and before.end == part.start:
            before = replace(before, end=part.end)
            continue
        if before:
            yield before
        before = part
    if before:
        yield before


def _per_cpu_template(kernel: Kernel, held: tuple[HeldRange, ...], end: int) -> Iterator[HeldRange]:
    """Yield the parts of an image file's per-CPU template that the source holds.

    Its bytes lie at its link address, not where they are loaded. x86-64 up to 6.14 links it at 0
    (arch/x86/kernel/vmlinux.lds.S); ``__per_cpu_load`` stands at its place in the image.
    """
    names = ("__per_cpu_load", "__per_cpu_start", "__per_cpu_end")
    found = [kernel.symbols.find(name) for name in names]
    if kernel.memory.space is not AddressSpace.VIRTUAL or None in found:
        return
    load, low, high = (kernel.symbols.symbol(index).address for index in found if index is not None)
    if (
        not low < high
        or load + high - low > end
        or any(part.start < load + high - low and load < part.end for part in held)
    ):
        return
    for segment in kernel.memory.segments:
        first, last = max(segment.start, low), min(segment.end, high)
        if first < last:
            yield HeldRange(load + first - low, load + last - low, first)
