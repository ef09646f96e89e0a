"""Divide a kernel's image into sections, by type letters and boundary symbols.

The boundary symbols are those of the kernel's linker script. The letters give the kinds of the linker's sections,
because ``nm`` derives each letter from the symbol's section. So a section ends where the letters change, where a
boundary symbol stands, and where the source lacks pages.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import KallsiftError


class Kind(IntEnum):
    """Contents of a section, as far as type letters tell."""

    CODE = 0
    CONSTANT = 1
    DATA = 2
    SMALL_DATA = 3
    """Data that code reaches by a short offset from a register."""
    ZEROED = 4
    SMALL_ZEROED = 5

    @property
    def section_name(self) -> str:
        """Usual name of a section of this kind."""
        return (".text", ".rodata", ".data", ".sdata", ".bss", ".sbss")[self]

    @property
    def is_zeroed(self) -> bool:
        """True if it has no content before a kernel runs."""
        return self in (Kind.ZEROED, Kind.SMALL_ZEROED)

    @property
    def is_small(self) -> bool:
        """True for small data, whose letter depends on the section's name.

        binutils takes .sdata and .sbss of ppc64 for small data.
        """
        return self in (Kind.SMALL_DATA, Kind.SMALL_ZEROED)


LETTERS: dict[str, Kind] = {
    "t": Kind.CODE,
    "r": Kind.CONSTANT,
    "n": Kind.CONSTANT,
    "d": Kind.DATA,
    "g": Kind.SMALL_DATA,
    "b": Kind.ZEROED,
    "s": Kind.SMALL_ZEROED,
    "c": Kind.ZEROED,
}
"""Kind of section of each letter of ``nm``, in lower case.

Source: bfd_decode_symclass in binutils.
"""

UNTOLD = len(Kind)
"""Stands for a `Kind` if the letter gives none: weak, absolute or unknown symbols."""


@dataclass(frozen=True)
class SectionBounds:
    """A part of the image that symbols of the linker script bound.

    Attributes:
        name: name of the section.
        starts: names of the symbol at its first byte, the preferred one first.
        ends: names of the symbol behind its last byte.
        kind: its kind, whatever the letters are; None if the letters give it.
        only: kinds that get the range's name; other kinds in it are named as if it did not exist.
        variables: whether it is written to, and its symbols are no functions. The letters alone do not tell: linkers
            have made data executable (Debian's 7.3 for amd64).
    """

    name: str
    starts: tuple[str, ...]
    ends: tuple[str, ...]
    kind: Kind | None = None
    only: tuple[Kind, ...] = tuple(Kind)
    variables: bool = False


NO_CODE = tuple(kind for kind in Kind if kind is not Kind.CODE)
INIT = ("__initdata_begin", "__init_begin"), ("__initdata_end", "__init_end")

RANGES = (
    SectionBounds(".head.text", ("_text",), ("_stext",), only=(Kind.CODE,)),
    SectionBounds(".text", ("_stext", "_text"), ("_etext",), Kind.CODE),
    SectionBounds(".rodata", ("__start_rodata",), ("__end_rodata",), only=NO_CODE),
    SectionBounds(".data", ("_sdata",), ("_edata",), variables=True),
    SectionBounds(".init.data", *INIT, only=NO_CODE),
    SectionBounds(".init.text", *INIT, only=(Kind.CODE,)),
    SectionBounds(".init.text", ("_sinittext",), ("_einittext",), Kind.CODE),
    SectionBounds(".exit.text", ("__exittext_begin",), ("__exittext_end",), Kind.CODE),
    SectionBounds(".data..percpu", ("__per_cpu_load", "__per_cpu_start"), ("__per_cpu_end",), variables=True),
    SectionBounds("__ksymtab", ("__start___ksymtab",), ("__stop___ksymtab",)),
    SectionBounds("__ksymtab_gpl", ("__start___ksymtab_gpl",), ("__stop___ksymtab_gpl",)),
    SectionBounds("__param", ("__start___param",), ("__stop___param",)),
    SectionBounds("__ex_table", ("__start___ex_table",), ("__stop___ex_table",)),
    SectionBounds("__bug_table", ("__start___bug_table",), ("__stop___bug_table",)),
    SectionBounds(".notes", ("__start_notes",), ("__stop_notes",)),
    SectionBounds(".bss", ("__bss_start",), ("__bss_stop",), variables=True),
    SectionBounds(".brk", ("__brk_base",), ("__brk_limit",), variables=True),
)
"""Ranges of the image; inner ranges stand behind those that contain them.

Source: include/asm-generic/vmlinux.lds.h.
"""


@dataclass(frozen=True)
class Section:
    """A run of bytes of one kind.

    Attributes:
        name: name that no other section has.
        start: running address of the first byte.
        end: running address behind the last byte.
        kind: kind of its contents.
        held: whether the source holds its bytes.
        writable: whether the kernel writes to it.
        variables: whether its symbols are no functions.
        note: whether it is the build ID's note.
        has_content: whether the file stores its bytes as content of a section; for zeroed sections only if they are not
            zero any more.
    """

    name: str
    start: int
    end: int
    kind: Kind
    held: bool
    writable: bool
    variables: bool
    note: bool = False
    has_content: bool = False


NOTE_NAME = ".note.gnu.build-id"
MAX_SECTIONS = 4096
"""Highest number of sections; a kernel has about fifty.

Section numbers from 0xff00 on are reserved (SHN_LORESERVE).
"""


@dataclass(frozen=True, eq=False)
class Division:
    """The data that divides an image into sections.

    Attributes:
        addresses: addresses of the symbols in the image that have a kind, ascending, shape (n,), uint64.
        kinds: their kinds, shape (n,), uint8.
        ranges: first address, address behind the last one, and the range; inner ranges behind outer ones.
        held: the parts of the image that the source holds, ascending.
        note: bounds of the build ID's note; an empty range if it is not in the image.
    """

    addresses: NDArray[np.uint64]
    kinds: NDArray[np.uint8]
    ranges: tuple[tuple[int, int, SectionBounds], ...]
    held: tuple[tuple[int, int], ...]
    note: tuple[int, int]


def divide(start: int, end: int, division: Division) -> Iterator[Section]:
    """Yield the sections of an image from ``start`` to ``end``.

    They are ascending and have no gaps.

    Raises:
        KallsiftError: if there would be too many of them.
    """
    ranges, held = division.ranges, division.held
    changes, begins = _runs(division)
    if len(changes) + 2 * len(held) + 2 * len(ranges) > MAX_SECTIONS:
        raise KallsiftError(
            f"the image has {len(changes)} sections and {len(held)} ranges of present pages, too many for "
            "an ELF file; use 'kallsift symbols'"
        )
    bounds = {start, end, *division.note, *changes.tolist()}
    bounds.update(at for pair in held for at in pair)
    bounds.update(at for low, high, _ in ranges for at in (low, high))
    cuts = sorted(at for at in bounds if start <= at <= end)
    used: dict[str, int] = {}
    before: Section | None = None
    for low, high in pairwise(cuts):
        index = max(0, int(np.searchsorted(changes, np.uint64(low), side="right")) - 1)
        section = _section(low, high, Kind(int(begins[index])) if len(begins) else Kind.CODE, division)
        if before and replace(before, start=low, end=high) == section:
            before = replace(before, end=high)
            continue
        if before:
            yield _named(before, used)
        before = section
    if before:
        yield _named(before, used)


def _runs(division: Division) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Return the addresses at which the kind of symbols changes, and the new kinds.

    If several kinds stand at one address, one of the symbols ends the previous section. The kind that begins there is
    the one that continues behind the address, or else any other than the previous one. In a range of known kind,
    letters change nothing.
    """
    addresses, kinds = division.addresses, division.kinds
    for low, high, one in division.ranges:
        if one.kind is not None:
            outside = (addresses < np.uint64(low)) | (addresses >= np.uint64(high))
            addresses, kinds = addresses[outside], kinds[outside]
    places, owner = np.unique(addresses, return_inverse=True)
    present = np.zeros((len(places), len(Kind)), np.bool_)
    present[owner, kinds] = True
    stands = present.copy()
    plain = np.flatnonzero(present.sum(axis=1) == 1)
    mixed = np.flatnonzero(present.sum(axis=1) > 1)
    only = present.argmax(axis=1)
    following = np.searchsorted(plain, mixed)
    if len(plain):
        preceded = following > 0
        present[mixed[preceded], only[plain[following[preceded] - 1]]] = False
    # of several kinds that can begin, take the last of Kind: never code if it can be data
    begins = (len(Kind) - 1 - present[:, ::-1].argmax(axis=1)).astype(np.uint8)
    if len(plain):
        followed = following < len(plain)
        kind = only[plain[following[followed]]]
        goes_on = stands[mixed[followed], kind]
        begins[mixed[followed][goes_on]] = kind[goes_on]
    changes = np.flatnonzero(np.diff(begins, prepend=np.uint8(UNTOLD)) != 0)
    return places[changes], begins[changes]


def _section(start: int, end: int, kind: Kind, division: Division) -> Section:
    """Return the section of a piece that has no bound inside.

    Its name need not be unique yet.
    """
    name, variables = kind.section_name, False
    for low, high, one in division.ranges:
        if low <= start < high and (one.kind is not None or kind in one.only):
            kind, variables = kind if one.kind is None else one.kind, one.variables
            name = kind.section_name if kind.is_small else one.name
    noted = division.note[0] <= start < division.note[1]
    before = bisect_right(division.held, start, key=lambda part: part[0])
    held = bool(before) and start < division.held[before - 1][1]
    return Section(
        name=NOTE_NAME if noted else name,
        start=start,
        end=end,
        kind=kind,
        held=held,
        writable=kind > Kind.CONSTANT or (kind is Kind.CODE and variables),
        variables=variables or kind is not Kind.CODE,
        note=noted,
        has_content=held and not kind.is_zeroed,
    )


def _named(section: Section, used: dict[str, int]) -> Section:
    """Return the section, with a number behind its name if another one has the same."""
    count = used[section.name] = used.get(section.name, -1) + 1
    return replace(section, name=f"{section.name}.{count}") if count else section
