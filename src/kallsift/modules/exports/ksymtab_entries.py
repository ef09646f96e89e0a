"""Read entries of the tables of exported symbols, in every form that kernels have used.

``struct kernel_symbol`` (include/linux/export-internal.h, include/linux/export.h) has the addresses of the symbol and
of its name, and since 5.4 of a namespace. They are absolute or relative to their own address. Checksums
(``__kcrctab``) and, since 7.1, flags (``__kflagstab``) stand in arrays of their own, in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kallsift.addresses import VirtualAddress
from kallsift.arrays import distinct
from kallsift.errors import UnmappedError
from kallsift.kallsyms.escapes import escaped
from kallsift.kernel.access.virtual_memory import VirtualMemory

MAX_EXPORTS = 1 << 16
"""Highest number of entries of one array."""

FARTHEST = 1 << 28
"""Highest distance in bytes from an array to its strings, and from a module's structure to its arrays."""

MAX_NAME = 512
"""Highest number of characters of a symbol's name with its NUL (KSYM_NAME_LEN since 6.1)."""

MAX_STRINGS = 1 << 23
"""Highest number of bytes of an array's strings that are read at once; a kernel has less than a MiB of them."""

GPL_ONLY = 1
"""Bit of an entry's flags: only modules under a licence that is compatible with the GPL may use the symbol."""


@dataclass(frozen=True)
class EntryForm:
    """One form of ``struct kernel_symbol``.

    Attributes:
        fields: number of fields: address, name, and since 5.4 a namespace.
        relative: True if the fields are 32-bit distances from their own address; False if they are words.
    """

    fields: int
    relative: bool


ENTRY_FORMS = (EntryForm(3, True), EntryForm(3, False), EntryForm(2, True), EntryForm(2, False))

EXPORT_SYMBOL, EXPORT_SYMBOL_GPL = "EXPORT_SYMBOL", "EXPORT_SYMBOL_GPL"

UNKNOWN_MACRO = "EXPORT_SYMBOL or EXPORT_SYMBOL_GPL"
"""Text that is shown where it is unknown which of the two macros exports a symbol."""

MACROS = {
    "": EXPORT_SYMBOL,
    "_gpl": EXPORT_SYMBOL_GPL,
    "_gpl_future": "EXPORT_SYMBOL_GPL_FUTURE",
    "_unused": "EXPORT_UNUSED_SYMBOL",
    "_unused_gpl": "EXPORT_UNUSED_SYMBOL_GPL",
}
"""Macros that make a section's entries, by the end of the section's name: ``__ksymtab``, ...

The last three ended with 5.12.
"""


@dataclass(frozen=True, repr=False)
class Export:
    """One exported symbol.

    Attributes:
        name: its name.
        address: address in the running kernel or, in an image, the link address; None if the loader has yet to fill it
            in and the image's symbol table does not list it.
        owner: ``vmlinux`` or the module's name.
        macro: macro that exported it, one of `MACROS` or `UNKNOWN_MACRO`.
        namespace: namespace that a module must import to use it; empty for none.
        crc: checksum of its type; None if the kernel keeps none.
    """

    name: str
    address: VirtualAddress | None
    owner: str
    macro: str
    namespace: str
    crc: int | None

    def __repr__(self) -> str:
        place = "" if self.address is None else f" at {self.address:#x}"
        return f"<Export {escaped(self.name)}{place}: {escaped(self.owner)}, {self.macro}>"

    @property
    def gpl_only(self) -> bool:
        """True if only modules under a licence that is compatible with the GPL may use it."""
        return self.macro in (MACROS["_gpl"], MACROS["_unused_gpl"])


@dataclass(frozen=True)
class Checksums:
    """The form of checksums.

    Attributes:
        width: size of one in bytes; a word up to 4.9, then 4.
        relative: True if an entry is the distance from its own address to the checksum (CONFIG_MODULE_REL_CRCS, 4.10 to
            5.18).
    """

    width: int
    relative: bool = False


@dataclass(frozen=True)
class ExportArray:
    """One array of entries.

    Attributes:
        start: address of the first entry.
        count: number of entries.
        form: form of an entry.
        macro: macro that exported them.
        crcs: address of their checksums; None if there are none.
        flags: address of their flags; None if there are none.
    """

    start: int
    count: int
    form: EntryForm
    macro: str
    crcs: int | None = None
    flags: int | None = None


def entry_size(memory: VirtualMemory, form: EntryForm) -> int:
    """Return the size of an entry in bytes."""
    return form.fields * (4 if form.relative else memory.words.size)


def entry_starts(memory: VirtualMemory, start: int, count: int, form: EntryForm) -> NDArray[np.uint64]:
    """Return the addresses of an array's entries, shape (count,)."""
    return np.uint64(start) + np.arange(count, dtype=np.uint64) * np.uint64(entry_size(memory, form))


def entry_fields(
    memory: VirtualMemory, starts: NDArray[np.uint64], form: EntryForm
) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Return the addresses in entries, and which entries could be read.

    The shapes are (n, fields) and (n,).
    """
    width = 4 if form.relative else memory.words.size
    places = starts[:, None] + np.arange(form.fields, dtype=np.uint64) * np.uint64(width)
    values, held = memory.values(places.ravel(), np.dtype(f"{memory.words.byte_order}u{width}"))
    values = values.reshape(places.shape)
    if form.relative:
        # a distance of 0 means that there is no namespace
        values = np.where(values == 0, values, memory.words.wrap(places + extended(values)))
    return values, np.asarray(held.reshape(places.shape).all(axis=1))


def extended(distances: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return signed 32-bit distances as numbers to add modulo 2^64."""
    return distances.astype(np.uint32).view(np.int32).astype(np.int64).astype(np.uint64)


def are_entries(
    memory: VirtualMemory,
    starts: NDArray[np.uint64],
    form: EntryForm,
    near: NDArray[np.uint64],
    *,
    filled: bool = True,
) -> NDArray[np.bool_]:
    """Return which addresses hold an entry: a symbol's name, and perhaps a namespace.

    Args:
        memory: the kernel's memory.
        starts: addresses of possible entries, shape (n,).
        form: form of the entries.
        near: address that each entry's strings must be close to, shape (n,).
        filled: True if the symbol's address must not be 0. In a word the loader may have yet to fill it in, and a
            per-CPU symbol can have the address 0.
    """
    good: NDArray[np.bool_] = starts % np.uint64(4) == 0
    fields, held = entry_fields(memory, starts, form)
    good &= held
    if filled or form.relative:
        good &= memory.values(starts, memory.words.int_dtype if form.relative else None)[0] != 0
    for number in range(1, form.fields):
        close = memory.words.wrap(fields[:, number] - near + np.uint64(FARTHEST)) < np.uint64(2 * FARTHEST)
        first, there = memory.values(fields[:, number], np.dtype("u1"))
        letter = (first | np.uint64(0x20)) - np.uint64(ord("a")) < 26
        fits = close & there & (letter | (first == ord("_")) | ((number == 2) & (first == 0)))
        good &= fits | ((number == 2) & (fields[:, number] == 0))
    return good


def read_strings(memory: VirtualMemory, addresses: NDArray[np.uint64]) -> list[bytes | None]:
    """Return the strings at some addresses; None for each that cannot be read.

    The string at address 0 is empty.
    """
    wanted = distinct(addresses[addresses != 0])
    found: dict[int, bytes | None] = {0: b""}
    # all strings lie close together, except for damaged addresses
    for part in np.split(wanted, np.flatnonzero(np.diff(wanted) > np.uint64(MAX_STRINGS)) + 1):
        found |= _strings_between(memory, part) if len(part) else {}
    return [found[address] for address in addresses.tolist()]


def _strings_between(memory: VirtualMemory, addresses: NDArray[np.uint64]) -> dict[int, bytes | None]:
    low, high = int(addresses[0]), int(addresses[-1])
    found: dict[int, bytes | None] = {}
    try:
        text = memory.read(low, high - low + len(memory.string(high, MAX_NAME)) + 1).tobytes()
    except UnmappedError:
        for address in addresses.tolist():
            try:
                found[address] = memory.string(address, MAX_NAME)
            except UnmappedError:
                found[address] = None
        return found
    for address in addresses.tolist():
        end = text.find(b"\0", address - low, address - low + MAX_NAME)
        found[address] = text[address - low : end if end >= 0 else address - low + MAX_NAME]
    return found


def checksum_form(memory: VirtualMemory, start: int, size: int, count: int) -> Checksums | None:
    """Return the form of the checksums in a range of addresses.

    A checksum can be any number; a distance to one is small, and leads to readable memory. The result is None if there
    are no checksums, or no form has that size.
    """
    width = size // count if count else 0
    if width not in (4, memory.words.size) or width * count != size:
        return None
    values, places, held = _raw_checksums(memory, start, count, width)
    targets = memory.words.wrap(places + extended(values))
    near = memory.words.wrap(targets - places + np.uint64(FARTHEST)) < np.uint64(2 * FARTHEST)
    relative = (
        width == 4 and bool((near | ~held).all()) and bool(memory.values(targets, memory.words.int_dtype)[1].any())
    )
    return Checksums(width, relative)


def _raw_checksums(
    memory: VirtualMemory, start: int, count: int, width: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.bool_]]:
    places = np.uint64(start) + np.arange(count, dtype=np.uint64) * np.uint64(width)
    values, held = memory.values(places, np.dtype(f"{memory.words.byte_order}u{width}"))
    return values, places, held


def _checksums(
    memory: VirtualMemory, array: ExportArray, form: Checksums | None
) -> tuple[list[int | None], NDArray[np.bool_]]:
    """Return the checksums of an array, and which of them could be read.

    All are None if the kernel keeps none.
    """
    if array.crcs is None or form is None:
        return [None] * array.count, np.ones(array.count, np.bool_)
    values, places, held = _raw_checksums(memory, array.crcs, array.count, form.width)
    if form.relative:
        values, there = memory.values(memory.words.wrap(places + extended(values)), memory.words.int_dtype)
        held = held & there
    return (values & np.uint64(0xFFFF_FFFF)).tolist(), held


def read_array(
    memory: VirtualMemory, array: ExportArray, owner: str, checksums: Checksums | None
) -> tuple[list[Export], int]:
    """Return the exports in an array, and the number of entries that were lost.

    An entry is lost if any part of it cannot be read.

    Args:
        memory: the kernel's memory.
        array: the array.
        owner: ``vmlinux`` or the module's name.
        checksums: form of the kernel's checksums; None for none.
    """
    fields, held = entry_fields(memory, entry_starts(memory, array.start, array.count, array.form), array.form)
    names = read_strings(memory, np.where(held, fields[:, 1], 0).astype(np.uint64))
    spaces: list[bytes | None] = [b""] * array.count
    if array.form.fields > 2:
        spaces = read_strings(memory, np.where(held, fields[:, 2], 0).astype(np.uint64))
    crcs, known = _checksums(memory, array, checksums)
    macros = [array.macro] * array.count
    if array.flags is not None:
        places = np.uint64(array.flags) + np.arange(array.count, dtype=np.uint64)
        flags, there = memory.values(places, np.dtype("u1"))
        known &= there
        macros = [EXPORT_SYMBOL_GPL if flag & GPL_ONLY else EXPORT_SYMBOL for flag in flags.tolist()]
    found = [
        Export(name.decode("latin-1"), VirtualAddress(address), owner, macro, space.decode("latin-1"), crc)
        for whole, address, name, space, macro, crc in zip(
            (held & known).tolist(), fields[:, 0].tolist(), names, spaces, macros, crcs, strict=True
        )
        if whole and name and space is not None
    ]
    return found, array.count - len(found)


def ascending(names: list[bytes | None]) -> list[int]:
    """Return the indices of names that are less than the name before them.

    A sorted sequence has no such index; two sorted sequences have one. A name may be repeated: arm64's kernels up to
    5.x export ``memcpy`` from assembly and from C.
    """
    return [number + 1 for number, (one, next_one) in enumerate(pairwise(names)) if (one or b"") > (next_one or b"")]
