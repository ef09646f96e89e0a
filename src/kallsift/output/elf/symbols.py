"""Make the symbol table of a kernel's ELF file from whole arrays.

``nm`` derives its letter from a symbol's binding and from its section's type and flags. So each symbol goes into a
section that yields its own letter again: the one that contains it, else the one that ends at it, else an empty one of
its kind. An empty one is needed for constants and data in pages that the source lacks, since a section without content
yields ``b``, and for zeroed variables that were written to, since a section with content yields ``d``.

Per-CPU symbols that are offsets are absolute, as the kernel has them (``A``), unless the layout has a section for them.

No section can express some differences: between ``n`` and ``r``, ``c`` and ``b``, and on other machines than ppc64
``g`` and ``d``, ``s`` and ``b``. ``w`` and ``v`` (undefined and weak) become ``W`` and ``V``. All other letters become
``?``, which ``nm`` prints for the unknown. Names and addresses are exact for all symbols.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import distinct
from kallsift.kernel.kernel import Kernel
from kallsift.output.elf.layout import Layout, letters
from kallsift.output.elf.sections import UNTOLD, Kind

LOCAL, GLOBAL, WEAK = 0, 1, 2
NOTYPE, OBJECT, FUNCTION = 0, 1, 2
ABSOLUTE = 0xFFF1

_LOW_BIT = np.uint8(0x20)
"""Bit that distinguishes a small letter from a capital one."""


@dataclass(frozen=True, eq=False)
class ElfSymbols:
    """Columns of the symbol table, shape (m,) each, local symbols first.

    The null symbol is not among them.

    Attributes:
        names: offsets into ``text``, uint32.
        info: binding and type, uint8.
        sections: section numbers, uint16.
        values: running addresses, uint64.
        sizes: distance to the next greater address in the same section, uint64; 0 for absolute symbols.
        moved: whether the address is one of the image, bool.
        rows: indices in the kernel's own table, int64.
        locals: number of local symbols.
        text: names, each ended by a NUL, uint8.
        strays: kinds of the empty sections behind the layout's, each with an address that its symbols have; None is the
            kind of unknown letters.
    """

    names: NDArray[np.uint32]
    info: NDArray[np.uint8]
    sections: NDArray[np.uint16]
    values: NDArray[np.uint64]
    sizes: NDArray[np.uint64]
    moved: NDArray[np.bool_]
    rows: NDArray[np.int64]
    locals: int
    text: NDArray[np.uint8]
    strays: tuple[tuple[Kind | None, int], ...]


def elf_symbols(kernel: Kernel, layout: Layout) -> ElfSymbols:
    """Return the symbols whose names are known.

    Sections are numbered from 1: those of the layout, then the strays, then that of per-CPU symbols.
    """
    table = kernel.symbols
    rows = np.flatnonzero(np.diff(table.bounds) > 0)
    letter, kinds, values = letters(kernel)[rows], layout.kinds[rows], table.addresses[rows]
    small = letter | _LOW_BIT
    weak = (small == ord("w")) | (small == ord("v"))
    absolute = small == ord("a")
    per_cpu = _in_per_cpu_area(values, absolute, layout)

    starts = np.array([one.start for one in layout.sections], np.uint64)
    of_section = np.array([one.kind for one in layout.sections], np.uint8)
    owner = np.searchsorted(starts, values, side="right") - 1
    inside = (values >= np.uint64(layout.start)) & (values < np.uint64(layout.end)) & ~absolute
    within = inside & ((kinds == UNTOLD) | (of_section[owner] == kinds))
    lettered = np.array(
        [one.kind is Kind.CODE or one.has_content != one.kind.is_zeroed for one in layout.sections], np.bool_
    )
    unknown = (kinds == UNTOLD) & ~absolute & ~weak
    fits = within & ~unknown & (weak | lettered[owner])
    behind, ended = _behind(values, kinds, owner, layout)
    behind &= ~fits & ~absolute & lettered[ended]
    sections = np.full(len(rows), ABSOLUTE, np.uint16)
    sections[fits] = owner[fits] + 1
    sections[behind] = ended[behind] + 1
    strays: list[tuple[Kind | None, int]] = []
    for kind in (*Kind, None):
        chosen = unknown if kind is None else ~fits & ~behind & (kinds == kind)
        if chosen.any():
            sections[chosen] = 1 + len(starts) + len(strays)
            strays.append((kind, int(values[chosen].min())))

    sections[per_cpu] = 1 + len(starts) + len(strays)

    info = _info(letter, kinds, within, owner, layout)
    sizes = _sizes(values, within, owner, layout)
    if layout.per_cpu is not None:
        info[per_cpu] |= OBJECT
        sizes[per_cpu] = _distances(values[per_cpu], layout.per_cpu.stop)
    order = np.argsort(info >> 4 != LOCAL, kind="stable")
    text = np.append(table.characters, np.uint8(0))
    text[table.bounds[rows]] = 0
    if not len(text) or text[0]:
        text = np.zeros(1, np.uint8)
    return ElfSymbols(
        names=(table.bounds[rows] + 1).astype(np.uint32)[order],
        info=info[order],
        sections=sections[order],
        values=values[order],
        sizes=sizes[order],
        moved=(inside | behind)[order],
        rows=rows[order],
        locals=int((info >> 4 == LOCAL).sum()),
        text=text,
        strays=tuple(strays),
    )


def _behind(
    values: NDArray[np.uint64], kinds: NDArray[np.uint8], owner: NDArray[np.intp], layout: Layout
) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Tell which symbols stand behind the last byte of a section of their kind, and which section ends there.

    It is the one before that which begins there, or the last one.
    """
    starts = np.array([one.start for one in layout.sections], np.uint64)
    of_section = np.array([one.kind for one in layout.sections], np.uint8)
    last = values == np.uint64(layout.end)
    ended = np.where(last, len(starts) - 1, np.maximum(owner - 1, 0))
    at_start = (owner > 0) & (values == starts[owner])
    return (last | at_start) & (of_section[ended] == kinds), ended


def _in_per_cpu_area(values: NDArray[np.uint64], absolute: NDArray[np.bool_], layout: Layout) -> NDArray[np.bool_]:
    """Tell which symbols are offsets into the per-CPU area, where they have a section."""
    if layout.per_cpu is None:
        return np.zeros(len(values), np.bool_)
    area = layout.per_cpu
    return absolute & (values >= np.uint64(area.start)) & (values <= np.uint64(area.stop))


def _distances(values: NDArray[np.uint64], end: int) -> NDArray[np.uint64]:
    """Return distances to the next greater address, at most to an end."""
    places = np.append(distinct(values[values < np.uint64(end)]), np.uint64(end))
    following = np.minimum(np.searchsorted(places, values, "right"), len(places) - 1)
    return places[following] - values


def _info(
    letter: NDArray[np.uint8],
    kinds: NDArray[np.uint8],
    within: NDArray[np.bool_],
    owner: NDArray[np.intp],
    layout: Layout,
) -> NDArray[np.uint8]:
    """Return binding and type of each symbol."""
    small = letter | _LOW_BIT
    weak = (small == ord("w")) | (small == ord("v"))
    variables = np.array([one.variables for one in layout.sections], np.bool_)
    code = (kinds == Kind.CODE) | (small == ord("w"))
    function = code & within & ~variables[owner]
    kind = np.where(function, FUNCTION, OBJECT)
    # a weak object has another letter (V), so a weak symbol that is no function has no type
    kind[(small == ord("w")) & ~function] = NOTYPE
    kind[~within & (small != ord("v"))] = NOTYPE
    binding = np.where(weak, WEAK, np.where(letter != small, GLOBAL, LOCAL))
    return (binding << 4 | kind).astype(np.uint8)


def _sizes(
    values: NDArray[np.uint64], within: NDArray[np.bool_], owner: NDArray[np.intp], layout: Layout
) -> NDArray[np.uint64]:
    """Return distances to the next greater address, at most to the section's end."""
    ends = np.array([one.end for one in layout.sections], np.uint64)
    places = np.append(distinct(values[within]), np.uint64(layout.end))
    following = places[np.searchsorted(places, values[within], side="right")]
    sizes = np.zeros(len(values), np.uint64)
    sizes[within] = np.minimum(following, ends[owner[within]]) - values[within]
    return sizes
