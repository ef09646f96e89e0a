"""Compare exports with the symbols: the kernel's array of exports has the address and the name of each.

``struct kernel_symbol`` (include/linux/export-internal.h) begins with the symbol's address and that of its name, which
is a string of its own: as words or, since 4.19 on some architectures, as distances from the field itself. Up to 6.3 the
table of symbols lists the names' strings (``__kstrtab_``) as well; if it has data symbols, it lists the entries
(``__ksymtab_``), and since 7.1 their flags.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import is_in
from kallsift.errors import UnmappedError
from kallsift.kallsyms.evidence import CheckId
from kallsift.kernel.cross_checks.at_addresses import Comparison, compare
from kallsift.kernel.cross_checks.bounds import EXPORT_ENDS
from kallsift.kernel.cross_checks.export_search import searched_runs
from kallsift.kernel.cross_checks.findings import Finding
from kallsift.kernel.cross_checks.name_keys import PREFIXES, Names, whole_keys
from kallsift.kernel.placement.placement import Placement
from kallsift.kernel.placement.pointer_targets import without_code_bit
from kallsift.lanes import lanes
from kallsift.memory.memory import Memory

FORMS = ((3, True), (3, False), (2, True), (2, False))
"""Numbers of fields of an entry, and whether they are 32-bit distances."""

MIN_ENTRIES = 32
"""Lowest number of entries of a trusted array."""

MAX_SIZE = 1 << 22
"""Highest size in bytes of one array, and of all strings."""

MAX_EXCEPTIONS = 0.02
"""Highest share of the entries that may disagree; with more, they are no exports, but descriptors of functions, for
example."""

MAX_NAME = 512
"""Highest number of characters of a name, the NUL included."""

MAX_OLD_NAME = 127
"""Highest number of characters of a name in the table of symbols up to 6.0: longer names are exported, but not
listed."""


@dataclass(frozen=True, eq=False)
class Entries:
    """Entries of the arrays of exports.

    Attributes:
        places: virtual address of each entry, shape (n,), uint64.
        values: the symbol's address that the entry gives, shape (n,), uint64.
        strings: virtual address of its name, shape (n,), uint64.
        spaces: virtual address of its namespace's name; that of its name where there is none.
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
        """Return the name of one entry."""
        return self.names.string(number).decode("latin-1")


def export_finding(memory: Memory, placement: Placement, names: Names) -> Finding:
    """Compare all exports with the symbols."""
    symbols = placement.symbols
    nothing = Finding.none(CheckId.EXPORTS_TWICE, len(symbols), "no array of exports with names was found")
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
    return Finding(CheckId.EXPORTS_TWICE, confirmed, confirmed, len(broken), min(broken, default=(0, ""))[1])


def _searched(memory: Memory, placement: Placement, names: Names) -> Finding | None:
    """Compare the exports of a kernel that does not name the bounds of its arrays.

    None where no exports are found. Only functions are compared: where the bounds are not listed, data are not either.
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
            return Finding(CheckId.EXPORTS_TWICE, confirmed, confirmed, len(broken), min(broken, default=(0, ""))[1])
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
    """Return the contradictions of a run of entries, if they are exports.

    Confirmed symbols are marked in ``confirmed``.
    """
    wrong = found.displaced | found.renamed
    wrong &= (values >= code[0]) & (values < code[1]) & ~_exported_again(found, strings.keys)
    places = np.flatnonzero(wrong)
    agree = int(np.count_nonzero(found.agree))
    # a run that is no array of exports has few names of symbols, or many names of other symbols
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
    """Return the contradictions of symbols that name entries, strings or flags.

    The second value is a mask of those symbols that are at the right addresses.
    """
    symbols = placement.symbols
    placed = np.zeros(len(symbols), np.bool_)
    broken: list[tuple[int, str]] = []
    own = [(b"__ksymtab_", entries.places), (b"__kstrtab_", entries.strings), (b"__kstrtabns_", entries.spaces)]
    if (index := names.find(b"__start___kflagstab")) is not None:
        # the flags are a byte for each entry, in the order of the entries
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
    """Return all entries between the symbols that bound the arrays; None without any."""
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
    """Return the addresses of an array's entries, and three of their fields.

    The fields are the first, the second and the last one. None where no form of entries has names in them.
    """
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
        # not all strings stand behind a NUL: a linker that merges strings lets one begin inside another
        if 4 * np.count_nonzero(held & (before == 0)) > 3 * count:
            return words.wrap(places), *(values[:, field].copy() for field in (0, 1, fields - 1))
    return None
