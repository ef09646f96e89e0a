"""Find the arrays of exports of loaded modules by the fields of ``struct module`` that lead to them.

``struct module`` has a pointer to the array, one to its checksums, since 7.1 one to its flags, and then the number of
entries. Up to 7.0, exports for modules under the GPL have a second array, whose number stands right before its
pointer. Where there are no entries, the pointer is 0. ``/proc/kallsyms`` writes the letters of the first array's
symbols in upper case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import distinct
from kallsift.errors import UnmappedError
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.modules.exports.ksymtab_entries import (
    ENTRY_FORMS,
    EXPORT_SYMBOL,
    EXPORT_SYMBOL_GPL,
    FARTHEST,
    MAX_EXPORTS,
    MAX_NAME,
    EntryForm,
    ExportArray,
    are_entries,
    entry_fields,
    entry_size,
    entry_starts,
    read_strings,
)
from kallsift.modules.struct_module import Structures

WITHIN = 128
"""Number of words of ``struct module`` that can contain these fields; so far they are within the first 50."""

FEW_CONTRADICT = 4
"""Number of modules that must confirm a form for each module that contradicts it."""

WITH_FLAGS = 3
"""Words from the pointer to the number if there are flags: the number stands behind them and the checksums."""

COUNT_PLACES = (2, WITH_FLAGS)
"""Possible distances in words from the pointer to the number: behind the checksums, since 7.1 behind the flags too."""


@dataclass(frozen=True)
class ExportForm:
    """Fields of ``struct module`` that describe the exports.

    Attributes:
        entry: form of an entry.
        array: offset of the pointer to the array, in words.
        count: offset of the number of entries, in words; the number has 32 bits.
    """

    entry: EntryForm
    array: int
    count: int


def find_exports(memory: VirtualMemory, structures: Structures) -> ExportForm | None:
    """Return the fields of the modules' structures that describe the exports.

    Where a module has entries, the first and the last one must have names. The result is None if no module exports
    anything.
    """
    addresses, words = structures.addresses, structures.words[:, :WITHIN]
    near = memory.words.wrap(words - addresses[:, None] + np.uint64(FARTHEST)) < np.uint64(2 * FARTHEST)
    near[:, :4] = near[:, -max(COUNT_PLACES) :] = False
    numbers = _numbers(memory, words)
    best: tuple[int, ExportForm] | None = None
    for entry in ENTRY_FORMS:
        owner, place = np.nonzero(near)
        named = are_entries(memory, words[owner, place], entry, addresses[owner])
        candidates = distinct(place[named]).tolist()
        for array in candidates:
            for behind in COUNT_PLACES:
                form = ExportForm(entry, array, array + behind)
                counts = numbers[:, form.count * memory.words.size // 4]
                agreeing = _bearing_out(memory, addresses, words[:, array], counts, entry)
                if agreeing and (best is None or agreeing > best[0]):
                    best = agreeing, form
    return best[1] if best else None


def _bearing_out(
    memory: VirtualMemory,
    addresses: NDArray[np.uint64],
    starts: NDArray[np.uint64],
    counts: NDArray[np.uint32],
    form: EntryForm,
) -> int:
    """Count the modules that confirm a form; return 0 if too many contradict it."""
    possible = (counts > 0) & (counts <= MAX_EXPORTS) & (starts != 0)
    # the counts alone exclude most columns, so that their pointers need not be followed
    if not _agreeing(possible, (counts != 0) & ~possible):
        return 0
    good = _judged(memory, addresses, starts, counts, form)
    return _agreeing(good, (counts != 0) & ~good)


def _judged(
    memory: VirtualMemory,
    addresses: NDArray[np.uint64],
    starts: NDArray[np.uint64],
    counts: NDArray[np.uint32],
    form: EntryForm,
) -> NDArray[np.bool_]:
    """Return which modules have that many entries at their pointer, shape (n,).

    Only the first and the last entry are checked.
    """
    some = np.flatnonzero((counts > 0) & (counts <= MAX_EXPORTS))
    last = starts[some] + (counts[some].astype(np.uint64) - np.uint64(1)) * np.uint64(entry_size(memory, form))
    both, owners = np.concatenate((starts[some], last)), np.tile(addresses[some], 2)
    good = np.zeros(len(counts), np.bool_)
    good[some] = are_entries(memory, both, form, owners).reshape(2, len(some)).all(axis=0)
    return good


def _agreeing(good: NDArray[np.bool_], bad: NDArray[np.bool_]) -> int:
    """Count the modules that confirm a form; return 0 if too many contradict it.

    Some may contradict the right form, because they are damaged.
    """
    agreeing, contrary = int(np.count_nonzero(good)), int(np.count_nonzero(bad))
    return agreeing if contrary * FEW_CONTRADICT <= agreeing else 0


def _numbers(memory: VirtualMemory, words: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Return structures as 32-bit numbers in the order of memory.

    The shape is (n, m), or (n, 2 m) where words have 64 bits.
    """
    stored = np.ascontiguousarray(words.astype(memory.words.dtype))
    return stored.view(memory.words.int_dtype).astype(np.uint32)


def exported(
    memory: VirtualMemory, address: int, words: NDArray[np.uint64], form: ExportForm
) -> frozenset[tuple[int, bytes]]:
    """Return the address and name of each entry in a module's first array.

    Args:
        memory: the kernel's memory.
        address: address of the module's structure.
        words: words of the structure, shape (m,).
        form: result of `find_exports`.
    """
    count = memory.value(address + form.count * memory.words.size, 4)
    if not 0 < count <= MAX_EXPORTS:
        return frozenset()
    starts = entry_starts(memory, int(words[form.array]), count, form.entry)
    fields, held = entry_fields(memory, starts, form.entry)
    names = read_strings(memory, fields[held, 1])
    if None in names:
        raise UnmappedError(int(fields[held, 1][names.index(None)]), MAX_NAME)
    addresses = fields[held, 0].tolist()
    return frozenset((address, name) for address, name in zip(addresses, names, strict=True) if name is not None)


@dataclass(frozen=True)
class ModuleArrays:
    """The arrays of one module.

    Attributes:
        arrays: the arrays; none if it exports nothing.
        broken: True if its structure leads to entries that are not valid.
    """

    arrays: tuple[ExportArray, ...]
    broken: bool


def module_arrays(memory: VirtualMemory, structures: Structures) -> list[ModuleArrays]:
    """Return the arrays of each module."""
    addresses, words = structures.addresses, structures.words[:, :WITHIN]
    numbers = _numbers(memory, words)
    form = find_exports(memory, structures)
    with_flags = form is not None and form.count - form.array == WITH_FLAGS
    fields: list[tuple[EntryForm, int, NDArray[np.uint32], str]] = []
    if form is not None:
        counts = numbers[:, form.count * memory.words.size // 4]
        fields.append((form.entry, form.array, counts, EXPORT_SYMBOL))
    if not with_flags and (gpl := _gpl_place(memory, addresses, words, form)) is not None:
        fields.append((*gpl, _number_before(memory, numbers, gpl[1]), EXPORT_SYMBOL_GPL))
    found: list[tuple[ExportArray, ...]] = [()] * len(addresses)
    broken = np.zeros(len(addresses), np.bool_)
    for entry, place, counts, macro in fields:
        good = _judged(memory, addresses, words[:, place], counts, entry)
        broken |= (counts != 0) & ~good
        flags = words[:, place + 2] if with_flags else np.zeros(len(addresses), np.uint64)
        columns = (good, words[:, place], counts, words[:, place + 1], flags)
        rows = zip(found, *(column.tolist() for column in columns), strict=True)
        found = [
            (*arrays, ExportArray(start, count, entry, macro, crcs or None, mark or None)) if fits else arrays
            for arrays, fits, start, count, crcs, mark in rows
        ]
    return [ModuleArrays(arrays, mark) for arrays, mark in zip(found, broken.tolist(), strict=True)]


def _number_before(memory: VirtualMemory, numbers: NDArray[np.uint32], place: int) -> NDArray[np.uint32]:
    """Return the 32-bit number right before a word of each structure, shape (n,)."""
    return np.asarray(numbers[:, place * memory.words.size // 4 - 1])


def _gpl_place(
    memory: VirtualMemory, addresses: NDArray[np.uint64], words: NDArray[np.uint64], form: ExportForm | None
) -> tuple[EntryForm, int] | None:
    """Return the form and column of the pointer to the second array.

    Its number stands right before it. The pointer is 0 in exactly those modules where the number is 0.
    """
    best: tuple[int, EntryForm, int] | None = None
    numbers = _numbers(memory, words)
    for place in range(form.count + 1 if form else 4, words.shape[1] - 1):
        counts, starts = _number_before(memory, numbers, place), words[:, place]
        if not _agreeing((counts != 0) & (starts != 0), (counts != 0) != (starts != 0)):
            continue
        for entry in (form.entry,) if form else ENTRY_FORMS:
            agreeing = _bearing_out(memory, addresses, starts, counts, entry)
            if agreeing and (best is None or agreeing > best[0]):
                best = agreeing, entry, place
    return best[1:] if best else None
