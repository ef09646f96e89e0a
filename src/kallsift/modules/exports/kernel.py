"""Find the kernel's own arrays of exports, by the symbols that bound them or by what must be true.

Tables of text symbols up to 6.11 do not list the bounds. There, the arrays are where entries follow each other whose
names are those of the symbols at their addresses. The linker sorts each array by name. Behind the first array it puts
the one for modules under the GPL, then the checksums, then the strings (RO_DATA in
include/asm-generic/vmlinux.lds.h).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import KallsiftError
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.checks.ksymtab import pairs
from kallsift.kernel.kernel import Kernel
from kallsift.kernel.placement.pointers import AFTER, BEFORE, Words, pointers_between
from kallsift.memory.segments import BytesSegment
from kallsift.modules.exports.ksymtab_entries import (
    ENTRY_FORMS,
    EXPORT_SYMBOL,
    EXPORT_SYMBOL_GPL,
    GPL_ONLY,
    MACROS,
    MAX_EXPORTS,
    MAX_NAME,
    UNKNOWN_MACRO,
    Checksums,
    EntryForm,
    ExportArray,
    are_entries,
    ascending,
    checksum_form,
    entry_fields,
    entry_size,
    entry_starts,
    read_strings,
)

FEW = 16
"""Number of entries with the names of their symbols that distinguishes an array from chance."""

BEYOND = 1 << 16
"""Highest distance of an array's other strings from those of proven entries, in bytes."""


class ExportsError(KallsiftError):
    """The arrays of the kernel's exports could not be found."""


@dataclass(frozen=True)
class KernelArrays:
    """The kernel's own arrays.

    Attributes:
        arrays: arrays in the order in which the kernel searches them, without empty ones.
        checksums: form of the checksums, also of modules; None if there are none or their form is unknown.
        missing: parts that could not be found, one line each.
    """

    arrays: tuple[ExportArray, ...]
    checksums: Checksums | None
    missing: tuple[str, ...] = ()


def kernel_arrays(kernel: Kernel, memory: VirtualMemory) -> KernelArrays:
    """Return the kernel's own arrays of exports.

    Args:
        kernel: the kernel.
        memory: its memory, or that of its image.

    Raises:
        ExportsError: if there are none, or none could be found.
    """
    known = "__start___ksymtab" in kernel.symbols
    # a damaged table may have lost one bound of an array, or both
    if known and (kernel.symbols.whole.all() or all(_bounds(kernel, f"__ksymtab{end}") for end in MACROS)):
        return _bounded(kernel, memory)
    return _searched(kernel, memory)


def _bounds(kernel: Kernel, section: str) -> tuple[int, int] | None:
    """Return the address and size of a section, by the symbols at its bounds.

    The result is None if there are no such symbols, or the section is empty.
    """
    start, stop = kernel.symbols.find(f"__start_{section}"), kernel.symbols.find(f"__stop_{section}")
    if start is None or stop is None:
        return None
    low, high = kernel.symbols.symbol(start).address, kernel.symbols.symbol(stop).address
    return (low, high - low) if low < high else None


def _bounded(kernel: Kernel, memory: VirtualMemory) -> KernelArrays:
    """Return the arrays between the symbols that bound them."""
    arrays: list[ExportArray] = []
    missing: list[str] = []
    kept: Checksums | None = None
    for end, macro in MACROS.items():
        section = _bounds(kernel, f"__ksymtab{end}")
        if section is None:
            continue
        start, size = section
        form = _form_of(memory, start, size)
        if form is None:
            raise ExportsError(f"__ksymtab{end} at {start:#x} is not an array of exports")
        count = size // entry_size(memory, form)
        array = ExportArray(start, count, form, macro)
        if (crcs := _bounds(kernel, f"__kcrctab{end}")) is not None:
            kept = kept or checksum_form(memory, *crcs, count)
            if kept is not None and crcs[1] == kept.width * count:
                array = replace(array, crcs=crcs[0])
            else:
                missing.append(f"checksums: __kcrctab{end} at {crcs[0]:#x} does not have the size of {count} checksums")
        if (flags := _bounds(kernel, f"__kflagstab{end}")) is not None:
            if flags[1] == count:
                array = replace(array, flags=flags[0])
            else:
                missing.append(f"flags: __kflagstab{end} at {flags[0]:#x} does not have the size of {count} flags")
        arrays.append(array)
    return KernelArrays(tuple(arrays), kept, tuple(missing))


def _form_of(memory: VirtualMemory, start: int, size: int) -> EntryForm | None:
    """Return the form that more than half of an array's entries have, else None."""
    best: tuple[int, EntryForm] | None = None
    for form in ENTRY_FORMS:
        count, rest = divmod(size, entry_size(memory, form))
        if rest or count > MAX_EXPORTS:
            continue
        starts = entry_starts(memory, start, count, form)
        good = int(np.count_nonzero(are_entries(memory, starts, form, starts, filled=False)))
        if 2 * good > count and (best is None or good > best[0]):
            best = good, form
    return best[1] if best else None


def _searched(kernel: Kernel, memory: VirtualMemory) -> KernelArrays:
    """Return the arrays, found without symbols at their bounds."""
    window = kernel.memory.around(kernel.tables[0].physical, BEFORE, AFTER)
    found = _proven(kernel, memory, window)
    if found is None:
        raise ExportsError("no array of names and addresses in the image agrees with the kernel's symbols")
    form, proven = found
    starts, outside = _run(memory, form, proven)
    fields, _ = entry_fields(memory, starts, form)
    names = read_strings(memory, fields[:, 1])
    breaks: list[int] | None = ascending(names)
    if breaks is not None and len(breaks) > 1:
        breaks = _named_bounds(memory, window, starts, entry_size(memory, form))
    bounds = [0, *(breaks or ()), len(starts)]
    macros = (UNKNOWN_MACRO,) if breaks is None else (EXPORT_SYMBOL, EXPORT_SYMBOL_GPL)
    arrays = [
        ExportArray(int(starts[low]), high - low, form, macro)
        for low, high, macro in zip(bounds, bounds[1:], macros, strict=False)
    ]
    complete = _with_checksums(memory, arrays, form, fields)
    if breaks is None:
        line = "macros: it is unknown where the GPL-only exports begin"
        complete = replace(complete, missing=(*complete.missing, line))
    if not outside:
        return complete
    line = f"entries: {outside:,} are outside of the array of {len(starts):,} at {int(starts[0]):#x}"
    return replace(complete, missing=(*complete.missing, line))


def _named_bounds(
    memory: VirtualMemory, window: BytesSegment, starts: NDArray[np.uint64], size: int
) -> list[int] | None:
    """Return the index where the second of two arrays in the linker's order begins.

    Up to 2.6.38 exports are not sorted. Since 2.6.30 ``each_symbol`` (kernel/module.c) has a table whose entries begin
    with the bounds of each array.

    Returns:
        The index in a list; an empty list if there is only one array; None if the bounds are not found.
    """
    first, end = int(starts[0]), int(starts[-1]) + size
    found = pointers_between(window, memory.words, first, end)
    neighbours = np.diff(found.places) == np.uint64(memory.words.size)
    lows, highs = found.values[:-1][neighbours].tolist(), found.values[1:][neighbours].tolist()
    ends = {high for low, high in zip(lows, highs, strict=True) if low == first and (high - first) % size == 0}
    middles = {high for high in ends if first < high < end and (high, end) in set(zip(lows, highs, strict=True))}
    if len(middles) == 1:
        return [(middles.pop() - first) // size]
    return [] if ends == {end} else None


def _proven(kernel: Kernel, memory: VirtualMemory, window: BytesSegment) -> tuple[EntryForm, NDArray[np.uint64]] | None:
    """Return the form of the entries, and the addresses of the proven ones.

    A proven entry has the name of the symbol that it points to.
    """
    symbols = kernel.symbols
    known = set(zip(symbols.addresses.tolist(), symbols.names(), strict=True))
    for relative in (True, False):
        words = Words(4, memory.words.byte_order) if relative else memory.words
        places, names, addresses = pairs(window, words, kernel.distance, relative=relative)
        addresses = memory.words.wrap(addresses)
        named = np.isin(addresses, symbols.addresses)
        candidates = zip(places[named].tolist(), names[named].tolist(), addresses[named].tolist(), strict=True)
        proven = [place for place, name, address in candidates if (address, _name(window, name)) in known]
        if len(proven) < FEW:
            continue
        own = memory.words.wrap(np.array(proven, np.uint64) + np.uint64(window.start + kernel.distance & (1 << 64) - 1))
        steps = np.diff(own)
        for form in ENTRY_FORMS:
            if form.relative == relative and 2 * int(np.count_nonzero(steps == entry_size(memory, form))) > FEW:
                return form, own
    return None


def _name(window: BytesSegment, offset: int) -> str:
    text = window.data[offset : offset + MAX_NAME].tobytes()
    return text.partition(b"\0")[0].decode("latin-1")


def _run(memory: VirtualMemory, form: EntryForm, proven: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], int]:
    """Return the addresses of entries that follow each other without a gap.

    Of several such runs, the one with most proven entries is taken.

    Returns:
        The addresses; and the number of proven entries elsewhere whose names stand among those of the run.
    """
    size = np.uint64(entry_size(memory, form))
    residues, counts = np.unique(proven % size, return_counts=True)
    proven = proven[proven % size == residues[np.argmax(counts)]]
    middle = proven[len(proven) // 2]
    reach = np.arange(-MAX_EXPORTS, MAX_EXPORTS, dtype=np.int64)
    starts = memory.words.wrap(middle + (reach * int(size)).astype(np.uint64))
    proven = proven[np.isin(proven, starts)]
    strings = entry_fields(memory, proven, form)[0][:, 1]
    names = entry_fields(memory, starts, form)[0][:, 1]
    good = are_entries(memory, starts, form, starts, filled=False) & _among(names, strings)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], good, [False])).astype(np.int8)))
    if not len(edges):
        raise ExportsError(f"no entries with names are around {int(middle):#x}, where some of the exports are")
    inside = np.concatenate(([0], np.cumsum(np.isin(starts, proven))))
    first, last = max(edges.reshape(-1, 2).tolist(), key=lambda run: int(inside[run[1]] - inside[run[0]]))
    outside = _among(strings, names[first:last]) & ~np.isin(proven, starts[first:last])
    return starts[first:last], int(np.count_nonzero(outside))


def _among(addresses: NDArray[np.uint64], strings: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return which addresses lie between some strings, or close to them."""
    low, high = max(0, int(strings.min()) - BEYOND), min((1 << 64) - 1, int(strings.max()) + BEYOND)
    return np.asarray((addresses >= np.uint64(low)) & (addresses < np.uint64(high)))


def _with_checksums(
    memory: VirtualMemory, arrays: list[ExportArray], form: EntryForm, fields: NDArray[np.uint64]
) -> KernelArrays:
    """Return the arrays with the checksums and flags that belong to them.

    These fill all the space between the entries and the first string.
    """
    count = sum(array.count for array in arrays)
    end = arrays[-1].start + arrays[-1].count * entry_size(memory, form)
    strings = fields[:, 1:][fields[:, 1:] != 0]
    first = int(strings.min())
    flags = first - count
    if len(arrays) == 1 and flags >= end and _are_flags(memory, flags, count):
        arrays, first = [replace(arrays[0], flags=flags)], flags
    gap = first - end
    for width in dict.fromkeys((4, memory.words.size)):
        start = end + -end % width
        if gap == start - end + width * count and (kept := checksum_form(memory, start, width * count, count)):
            places = [start]
            for array in arrays:
                places.append(places[-1] + width * array.count)
            return KernelArrays(
                tuple(replace(array, crcs=place) for array, place in zip(arrays, places, strict=False)), kept
            )
    if 0 <= gap < memory.words.size:
        return KernelArrays(tuple(arrays), None)
    return KernelArrays(
        tuple(arrays), None, (f"checksums: the {gap:,} bytes before the names do not fit {count:,} checksums",)
    )


def _are_flags(memory: VirtualMemory, start: int, count: int) -> bool:
    """Tell whether the bytes at an address are flags of exports.

    Some exports have the flag and some do not.
    """
    flags, there = memory.values(np.uint64(start) + np.arange(count, dtype=np.uint64), np.dtype("u1"))
    return bool(there.all() and flags.any() and not flags.all() and not (flags & ~np.uint64(GPL_ONLY)).any())
