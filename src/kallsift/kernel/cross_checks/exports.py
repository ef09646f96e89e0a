"""Exports: the kernel's array of what modules may use has a name beside each address, as strings of its own.

``struct kernel_symbol`` (include/linux/export-internal.h) begins with where the symbol is and where its name is, as
words or, since 4.19 on some architectures, as distances from their own place. Up to 6.3 the table of symbols lists the
names' strings (``__kstrtab_``) as well, with all symbols the entries (``__ksymtab_``), and since 7.1 their flags.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import is_in
from kallsift.errors import UnmappedError
from kallsift.kernel.cross_checks.at_addresses import Comparison, compare
from kallsift.kernel.cross_checks.export_search import searched_runs
from kallsift.kernel.cross_checks.findings import Finding, Source
from kallsift.kernel.cross_checks.name_keys import EXPORT_ENDS, PREFIXES, Names, whole_keys
from kallsift.kernel.placement.placement import Placement
from kallsift.kernel.placement.pointer_targets import without_code_bit
from kallsift.lanes import lanes
from kallsift.memory.memory import Memory

FORMS = ((3, True), (3, False), (2, True), (2, False))
"""Fields of an entry, and whether they are distances of 32 bits."""

MIN_ENTRIES = 32
"""Entries that make an array worth believing."""

MAX_SIZE = 1 << 22
"""Bytes of one array, and of all strings, at most."""

MAX_EXCEPTIONS = 0.02
"""Share of the entries that may disagree before they are not what they seem: descriptors of functions, for example."""

MAX_NAME = 512
"""Characters of a name, with a NUL, at most."""

MAX_OLD_NAME = 127
"""Characters of a name in the table of symbols up to 6.0: what is longer is exported, but not listed."""


@dataclass(frozen=True, eq=False)
class Entries:
    """Entries of the arrays of exports.

    Attributes:
        places: virtual address of each entry, shape (n,), uint64.
        values: what it says of the symbol's address, shape (n,), uint64.
        strings: virtual address of its name, shape (n,), uint64.
        spaces: virtual address of its namespace's name, that of its name where there is none.
        names: the strings.
    """

    places: NDArray[np.uint64]
    values: NDArray[np.uint64]
    strings: NDArray[np.uint64]
    spaces: NDArray[np.uint64]
    names: Names

    @property
    def keys(self) -> NDArray[np.uint64]:
        """Keys of the names."""
        return self.names.keys

    def name(self, number: int) -> str:
        """The name of one."""
        return self.names.string(number).decode("latin-1")


def export_finding(memory: Memory, placement: Placement, names: Names) -> Finding:
    """Compare all exports with the symbols."""
    symbols = placement.symbols
    nothing = Finding.none(Source.EXPORTS, len(symbols), "no array of exports with names was found")
    entries = _entries(memory, placement, names)
    if entries is None:
        return _searched(memory, placement, names) or nothing
    values = without_code_bit(entries.values, symbols) if placement.code_bit else entries.values
    found = compare(names, symbols, values, entries.keys)
    wrong = (found.displaced | found.renamed) & ~_exported_again(found, entries.keys)
    if np.count_nonzero(~found.agree) > MAX_EXCEPTIONS * len(found.agree):
        return nothing
    confirmed = np.zeros(len(symbols), np.bool_)
    confirmed[found.index[found.agree]] = True
    broken = [
        (int(found.there[number]), f"{entries.name(number)} is exported at {entries.values[number]:#x}")
        for number in np.flatnonzero(wrong).tolist()
        if found.known[number] or len(entries.name(number)) <= MAX_OLD_NAME
    ]
    own, placed = _own_symbols(placement, names, entries)
    broken += own
    confirmed |= placed
    return Finding(Source.EXPORTS, confirmed, confirmed, len(broken), min(broken, default=(0, ""))[1])


def _searched(memory: Memory, placement: Placement, names: Names) -> Finding | None:
    """Compare the exports of a kernel that does not name the bounds of its arrays; None where none are found.

    Only functions: where the bounds are not listed, data are not either.
    """
    symbols = placement.symbols
    low, high = names.find(b"_stext"), names.find(b"_etext")
    if low is None or high is None or names.find(b"__start___ksymtab") is not None:
        return None
    code = (symbols.addresses[low], symbols.addresses[high])
    confirmed = np.zeros(len(symbols), np.bool_)
    broken: list[tuple[int, str]] = []
    for runs in searched_runs(memory, placement, int(code[1])):
        for values, strings in runs:
            values = without_code_bit(values, symbols) if placement.code_bit else values
            broken += _of_run(compare(names, symbols, values, strings.keys), values, strings, code, confirmed)
        if confirmed.any():
            return Finding(Source.EXPORTS, confirmed, confirmed, len(broken), min(broken, default=(0, ""))[1])
    return None


def _exported_again(found: Comparison, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Tell which names are exported at their symbols' addresses as well.

    Kernels of arm64 up to 5.x link ``memcpy`` and others a second time, for the EFI stub, with their exports
    (drivers/firmware/efi/libstub/Makefile).
    """
    return is_in(keys, keys[found.agree])


def _of_run(
    found: Comparison,
    values: NDArray[np.uint64],
    strings: Names,
    code: tuple[np.uint64, np.uint64],
    confirmed: NDArray[np.bool_],
) -> list[tuple[int, str]]:
    """What of a run of entries the table contradicts, if it is one of exports; marks what it has."""
    wrong = found.displaced | found.renamed
    wrong &= (values >= code[0]) & (values < code[1]) & ~_exported_again(found, strings.keys)
    places = np.flatnonzero(wrong)
    agree = int(np.count_nonzero(found.agree))
    # what is no array of exports has few names of symbols, or many that are others'
    if agree < MIN_ENTRIES or len(places) > max(1, MAX_EXCEPTIONS * agree):
        return []
    confirmed[found.index[found.agree]] = True
    return [
        (int(found.there[number]), f"{strings.string(number).decode('latin-1')} is exported at {values[number]:#x}")
        for number in places.tolist()
        if found.known[number] or len(strings.string(number)) <= MAX_OLD_NAME
    ]


def _own_symbols(
    placement: Placement, names: Names, entries: Entries
) -> tuple[list[tuple[int, str]], NDArray[np.bool_]]:
    """Symbols that name entries, their strings or flags and are not there; and a mask of those that are."""
    symbols = placement.symbols
    placed = np.zeros(len(symbols), np.bool_)
    broken: list[tuple[int, str]] = []
    own = [(b"__ksymtab_", entries.places), (b"__kstrtab_", entries.strings), (b"__kstrtabns_", entries.spaces)]
    if (index := names.find(b"__start___kflagstab")) is not None:
        # a byte for each entry of the one array, in the same order
        own.append((b"__flags_", symbols.addresses[index] + np.arange(len(entries.places), dtype=np.uint64)))
    for prefix, places in own:
        if len(names.members(prefix)) < MIN_ENTRIES:
            continue
        number = np.full(len(places), PREFIXES.index(prefix) + 1, np.uint8)
        found = compare(names, symbols, places, whole_keys(entries.keys, number))
        if np.count_nonzero(~found.agree) > MAX_EXCEPTIONS * len(places):
            continue
        placed[found.index[found.agree]] = True
        broken += [
            (int(found.there[at]), f"{prefix.decode()}{entries.name(at)} belongs to {places[at]:#x}")
            for at in np.flatnonzero(found.displaced | found.renamed).tolist()
        ]
    return broken, placed


def _entries(memory: Memory, placement: Placement, names: Names) -> Entries | None:
    """All entries between the symbols that bound the arrays; None without any."""
    parts = []
    for end in EXPORT_ENDS:
        low, high = (names.find(f"__{edge}___ksymtab{end}".encode()) for edge in ("start", "stop"))
        if low is None or high is None:
            continue
        start, stop = (int(placement.symbols.addresses[index]) for index in (low, high))
        if 0 < stop - start <= MAX_SIZE and (part := _array(memory, placement, start, stop - start)) is not None:
            parts.append(part)
    if not parts:
        return None
    places, values, strings, spaces = (np.concatenate(column) for column in zip(*parts, strict=True))
    if len(places) < MIN_ENTRIES:
        return None
    first, last = int(strings.min()), int(strings.max())
    if last - first > MAX_SIZE:
        return None
    try:
        text = memory.window(placement.physical(first), 0, last - first + MAX_NAME)
    except UnmappedError:
        return None
    if len(text.data) <= last - first:
        return None
    return Entries(
        places, values, strings, spaces, Names.of(lanes(text.data), (strings - np.uint64(first)).astype(np.int64))
    )


def _array(memory: Memory, placement: Placement, start: int, size: int) -> tuple[NDArray[np.uint64], ...] | None:
    """Addresses of an array's entries, and what their first three fields say; None where no form has names in them."""
    words = placement.words
    try:
        data = np.ascontiguousarray(memory.read(placement.physical(start), size))
    except UnmappedError:
        return None
    for fields, relative in FORMS:
        width = 4 if relative else words.size
        count, rest = divmod(size, width * fields)
        if rest:
            continue
        values = data.view(f"{words.byte_order}u{width}").astype(np.uint64).reshape(count, fields)
        places = np.uint64(start) + np.arange(count, dtype=np.uint64) * np.uint64(width * fields)
        if relative:
            values = values.astype(np.uint32).view(np.int32).astype(np.int64).view(np.uint64).reshape(count, fields)
            values = words.wrap(values + places[:, None] + np.arange(fields, dtype=np.uint64) * np.uint64(width))
        before, held = memory.words(
            words.wrap(values[:, 1] - np.uint64(placement.distance) - np.uint64(1)), np.dtype("u1")
        )
        # a linker that merges strings lets one begin inside another that ends alike
        if 4 * np.count_nonzero(held & (before == 0)) > 3 * count:
            return words.wrap(places), *(values[:, field].copy() for field in (0, 1, fields - 1))
    return None
