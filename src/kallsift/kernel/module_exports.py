"""What modules export: the fields of ``struct module`` that lead to their arrays.

In ``struct module`` stand a pointer to the array, one to its checksums, since 7.1 one to its flags, and the number of
its entries. What is for modules under the GPL alone has another array, up to 7.0, whose number stands right before it.
Where there are no entries, the pointer is 0. ``/proc/kallsyms`` writes the first array's letters in upper case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kernel.export_entries import (
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
    values4,
)
from kallsift.kernel.virtual import VirtualMemory

WITHIN = 128
"""Words of ``struct module`` among which these fields stand; so far they are within the first 50."""

WITH_FLAGS = 3
"""Where the number stands, in words from the pointer, if there are flags: behind those and the checksums."""

COUNT_PLACES = (2, WITH_FLAGS)
"""Where the number can stand: behind the checksums, since 7.1 behind the flags as well."""


@dataclass(frozen=True)
class ExportForm:
    """How modules export.

    Attributes:
        entry: form of an entry.
        array: where in ``struct module`` the pointer to the array is, in words.
        count: where the number of entries is, in words; 32 bits.
    """

    entry: EntryForm
    array: int
    count: int


def find_exports(memory: VirtualMemory, addresses: NDArray[np.uint64], words: NDArray[np.uint64]) -> ExportForm | None:
    """The fields of the modules' structures that lead to what they export; None if no module exports anything.

    Where there are some, the first entry and the last must have names.

    Args:
        memory: the kernel's.
        addresses: of the structures, shape (n,).
        words: of the structures, shape (n, m).
    """
    near = memory.words.wrap(words - addresses[:, None] + np.uint64(FARTHEST)) < np.uint64(2 * FARTHEST)
    near[:, :4] = near[:, -max(COUNT_PLACES) :] = False
    numbers = _numbers(memory, words)
    best: tuple[int, ExportForm] | None = None
    for entry in ENTRY_FORMS:
        owner, place = np.nonzero(near)
        named = are_entries(memory, words[owner, place], entry, addresses[owner])
        candidates = np.unique(place[named]).tolist()
        for array in candidates:
            for behind in COUNT_PLACES:
                form = ExportForm(entry, array, array + behind)
                counts = numbers[:, form.count * memory.words.size // 4]
                agreeing = _agreeing(memory, addresses, words[:, array], counts, entry)
                if agreeing and (best is None or agreeing > best[0]):
                    best = agreeing, form
    return best[1] if best else None


def _agreeing(
    memory: VirtualMemory,
    addresses: NDArray[np.uint64],
    starts: NDArray[np.uint64],
    counts: NDArray[np.uint32],
    form: EntryForm,
) -> int:
    """How many modules have so many entries there; 0 if any of them contradicts it."""
    some = np.flatnonzero(counts)
    if (counts > MAX_EXPORTS).any():
        return 0
    last = starts[some] + (counts[some].astype(np.uint64) - np.uint64(1)) * np.uint64(entry_size(memory, form))
    good = are_entries(memory, starts[some], form, addresses[some])
    good &= are_entries(memory, last, form, addresses[some])
    return len(some) if good.all() else 0


def _numbers(memory: VirtualMemory, words: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Structures as numbers of 32 bits, in the order in which they stand there, shape (n, m or 2 m)."""
    stored = np.ascontiguousarray(words.astype(memory.words.dtype))
    return stored.view(values4(memory)).astype(np.uint32)


def exported(
    memory: VirtualMemory, address: int, words: NDArray[np.uint64], form: ExportForm
) -> frozenset[tuple[int, bytes]]:
    """Address and name of all in the first array of one module.

    Args:
        memory: the kernel's.
        address: of the module's structure.
        words: of the structure, shape (m,).
        form: as `find_exports` gives it.
    """
    count = memory.value(address + form.count * memory.words.size, 4)
    if not 0 < count <= MAX_EXPORTS:
        return frozenset()
    starts = entry_starts(memory, int(words[form.array]), count, form.entry)
    fields, held = entry_fields(memory, starts, form.entry)
    return frozenset((value, memory.string(name, MAX_NAME)) for value, name in fields[held][:, :2].tolist())


def module_arrays(memory: VirtualMemory, addresses: NDArray[np.uint64]) -> list[tuple[ExportArray, ...]]:
    """The arrays of each module, none where it exports nothing.

    Args:
        memory: the kernel's.
        addresses: of the structures, shape (n,).
    """
    places = addresses[:, None] + np.arange(WITHIN, dtype=np.uint64) * np.uint64(memory.words.size)
    words = memory.values(places.ravel())[0].reshape(places.shape)
    form = find_exports(memory, addresses, words)
    gpl = None
    with_flags = form is not None and form.count - form.array == WITH_FLAGS
    if not with_flags:
        gpl = _gpl_place(memory, addresses, words, form)
    found: list[tuple[ExportArray, ...]] = [() for _ in addresses]
    numbers = _numbers(memory, words)
    if form is not None:
        counts = numbers[:, form.count * memory.words.size // 4]
        flags = words[:, form.array + 2] if with_flags else None
        found = _with(found, words, form.array, counts, form.entry, EXPORT_SYMBOL, flags)
    if gpl is not None:
        counts = numbers[:, gpl[1] * memory.words.size // 4 - 1]
        found = _with(found, words, gpl[1], counts, gpl[0], EXPORT_SYMBOL_GPL, None)
    return found


def _with(
    found: list[tuple[ExportArray, ...]],
    words: NDArray[np.uint64],
    place: int,
    counts: NDArray[np.uint32],
    form: EntryForm,
    macro: str,
    flags: NDArray[np.uint64] | None,
) -> list[tuple[ExportArray, ...]]:
    """What was found of each module, with the array that one place leads to."""
    columns = words[:, place : place + 2].tolist()
    marks = [None] * len(columns) if flags is None else [flag or None for flag in flags.tolist()]
    return [
        (*arrays, ExportArray(start, count, form, macro, crcs or None, mark)) if 0 < count <= MAX_EXPORTS else arrays
        for arrays, (start, crcs), count, mark in zip(found, columns, counts.tolist(), marks, strict=True)
    ]


def _gpl_place(
    memory: VirtualMemory, addresses: NDArray[np.uint64], words: NDArray[np.uint64], form: ExportForm | None
) -> tuple[EntryForm, int] | None:
    """Form and place of the pointer to the second array, right before which its number stands.

    It is 0 in exactly those modules where the number is.
    """
    best: tuple[int, EntryForm, int] | None = None
    numbers = _numbers(memory, words)
    first = form.count + 1 if form else 4
    for place in range(first, words.shape[1] - 1):
        counts = numbers[:, place * memory.words.size // 4 - 1]
        if (counts > MAX_EXPORTS).any() or ((counts != 0) != (words[:, place] != 0)).any():
            continue
        for entry in (form.entry,) if form else ENTRY_FORMS:
            agreeing = _agreeing(memory, addresses, words[:, place], counts, entry)
            if agreeing and (best is None or agreeing > best[0]):
                best = agreeing, entry, place
    return best[1:] if best else None
