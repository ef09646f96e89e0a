"""What modules export without restriction, in any of the forms that kernels keep it in.

The forms are those of ``struct kernel_symbol`` (include/linux/export-internal.h, include/linux/export.h): addresses and
pointers to names, absolute or relative to their own place, since 5.4 with a namespace. In ``struct module`` stand a
pointer to the array, one to its checksums, and the number of its entries. What is for modules under the GPL alone has
another array, up to 7.0, whose number stands before it. ``/proc/kallsyms`` writes the former's letters in upper case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kernel.virtual import VirtualMemory

MAX_EXPORTS = 1 << 16
"""Entries of one array at most."""

FARTHEST = 1 << 28
"""How far from its structure a module's strings can lie, in bytes."""

MAX_NAME = 512
"""Characters of a symbol's name at most, the NUL included (KSYM_NAME_LEN since 6.1)."""

COUNT_PLACES = (2, 3, 4)
"""Where the number can stand, in words from the pointer: behind the checksums, since 7.1 behind the flags as well."""


@dataclass(frozen=True)
class EntryForm:
    """One form of ``struct kernel_symbol``.

    Attributes:
        fields: how many there are: address, name, and since 5.4 a namespace.
        relative: whether they are 32-bit distances from their own places, else words.
    """

    fields: int
    relative: bool


ENTRY_FORMS = (EntryForm(3, True), EntryForm(3, False), EntryForm(2, True), EntryForm(2, False))


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
    best: tuple[int, ExportForm] | None = None
    for entry in ENTRY_FORMS:
        owner, place = np.nonzero(near)
        named = _named(memory, words[owner, place], entry, addresses[owner])
        candidates = np.unique(place[named]).tolist()
        for array in candidates:
            for behind in COUNT_PLACES:
                form = ExportForm(entry, array, array + behind)
                agreeing = _agreeing(memory, addresses, words, form)
                if agreeing and (best is None or agreeing > best[0]):
                    best = agreeing, form
    return best[1] if best else None


def _agreeing(memory: VirtualMemory, addresses: NDArray[np.uint64], words: NDArray[np.uint64], form: ExportForm) -> int:
    """How many modules have exports of this form; 0 if any of them contradicts it."""
    counts = _counts(memory, addresses, form)
    some = np.flatnonzero(counts)
    if (counts > MAX_EXPORTS).any():
        return 0
    last = words[some, form.array] + (counts[some] - np.uint64(1)) * np.uint64(_size(memory, form.entry))
    good = _named(memory, words[some, form.array], form.entry, addresses[some])
    good &= _named(memory, last, form.entry, addresses[some])
    return len(some) if good.all() else 0


def _counts(memory: VirtualMemory, addresses: NDArray[np.uint64], form: ExportForm) -> NDArray[np.uint64]:
    places = addresses + np.uint64(form.count * memory.words.size)
    return memory.values(places, np.dtype(f"{memory.words.byte_order}u4"))[0]


def exported(
    memory: VirtualMemory, address: int, words: NDArray[np.uint64], form: ExportForm
) -> frozenset[tuple[int, bytes]]:
    """Address and name of all that one module exports.

    Args:
        memory: the kernel's.
        address: of the module's structure.
        words: of the structure, shape (m,).
        form: as `find_exports` gives it.
    """
    count = int(_counts(memory, np.array([address], np.uint64), form)[0])
    if not 0 < count <= MAX_EXPORTS:
        return frozenset()
    starts = words[form.array] + np.arange(count, dtype=np.uint64) * np.uint64(_size(memory, form.entry))
    fields, held = _fields(memory, starts, form.entry)
    return frozenset((value, memory.string(name, MAX_NAME)) for value, name in fields[held][:, :2].tolist())


def _size(memory: VirtualMemory, form: EntryForm) -> int:
    return form.fields * (4 if form.relative else memory.words.size)


def _fields(
    memory: VirtualMemory, starts: NDArray[np.uint64], form: EntryForm
) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """The addresses in entries, shape (n, fields), and which entries could be read, shape (n,)."""
    width = 4 if form.relative else memory.words.size
    places = starts[:, None] + np.arange(form.fields, dtype=np.uint64) * np.uint64(width)
    values, held = memory.values(places.ravel(), np.dtype(f"{memory.words.byte_order}u{width}"))
    values = values.reshape(places.shape)
    if form.relative:
        distances = values.astype(np.uint32).view(np.int32).astype(np.int64).astype(np.uint64)
        # a distance of 0 stands for no namespace
        values = np.where(distances == 0, distances, memory.words.wrap(places + distances))
    return values, np.asarray(held.reshape(places.shape).all(axis=1))


def _named(
    memory: VirtualMemory, starts: NDArray[np.uint64], form: EntryForm, addresses: NDArray[np.uint64]
) -> NDArray[np.bool_]:
    """Whether an entry stands at each place: something with the name of a symbol, and perhaps of a namespace."""
    good: NDArray[np.bool_] = starts % np.uint64(4) == 0
    fields, held = _fields(memory, starts, form)
    good &= held & (fields[:, 0] != 0)
    for number in range(1, form.fields):
        near = memory.words.wrap(fields[:, number] - addresses + np.uint64(FARTHEST)) < np.uint64(2 * FARTHEST)
        first, there = memory.values(fields[:, number], np.dtype("u1"))
        letter = (first | np.uint64(0x20)) - np.uint64(ord("a")) < 26
        fits = near & there & (letter | (first == ord("_")) | ((number == 2) & (first == 0)))
        good &= fits | ((number == 2) & (fields[:, number] == 0))
    return good
