"""Check that symbols of recognisable things, the landmarks, point at these things."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kallsift.errors import UnmappedError
from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kallsyms.recovered_tables import Tables
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.placement.placement import Placement
from kallsift.memory.memory import Memory

BANNER = b"Linux version "
MAX_BANNER = 1024
BTF_MAGIC = (b"\x9f\xeb\x01", b"\xeb\x9f\x01")
BTF_HEADER = 24
NEAR = 24 << 20

PAGE = 4096
PAGED = ("x86-64", "x86", "arm64")
"""Architectures whose linker scripts align the section of initial code to a page: of use where only text is listed."""


def landmark_checks(memory: Memory, tables: Tables, placement: Placement) -> Iterator[Check]:
    """Check that the banner, the BTF header and the tables lie where the symbols say."""
    symbols = placement.symbols
    text = read_banner(memory, symbols, placement)
    if "linux_banner" not in symbols:
        yield Check(CheckId.LINUX_BANNER, Outcome.ABSENT, _absence(tables, "linux_banner", "text symbols only"))
    elif _lost(memory, tables, placement.physical(symbols["linux_banner"].address)):
        yield Check(CheckId.LINUX_BANNER, Outcome.ABSENT, "its page is lost")
    else:
        yield Check.that(
            CheckId.LINUX_BANNER,
            text is not None,
            "points at the text 'Linux version ...'" if text else "does not point at the text 'Linux version ...'",
        )
    btf = symbols.find("__start_BTF")
    if btf is not None:
        place = placement.physical(symbols.symbol(btf).address)
        header = _read(memory, place, BTF_HEADER)
        empty = "__stop_BTF" in symbols and symbols["__stop_BTF"].address == symbols.symbol(btf).address
        # where the banner is in its place, zeros mean that the types were erased
        erased = text is not None and len(header) == BTF_HEADER and not header.strip(b"\0")
        if erased or (not empty and _lost(memory, tables, place)):
            yield Check(CheckId.START_BTF, Outcome.ABSENT, "the types are lost")
        elif not empty:
            begins = header.startswith(BTF_MAGIC)
            yield Check.that(
                CheckId.START_BTF, begins, "points at a BTF header" if begins else "does not point at a BTF header"
            )
    yield from _own_names(tables, symbols, placement)
    paged = placement.mapping is not None and placement.mapping.architecture in PAGED
    if paged and (index := symbols.find("_sinittext")) is not None:
        initial = symbols.symbol(index).address
        holds = initial % PAGE == 0
        yield Check.that(
            CheckId.SINITTEXT, holds, f"{initial:#x} is {'' if holds else 'not '}where a section can begin"
        )


def _lost(memory: Memory, tables: Tables, address: int) -> bool:
    """Tell whether an address is on a lost page.

    A page is lost if the source could not read it, if it is blank while pages of the tables are lost, or if the tables
    lost it.
    """
    page = address // PAGE * PAGE
    is_blank = not _read(memory, page, PAGE).strip(b"\0")
    is_lost = not memory.is_readable(page, PAGE) or (is_blank and bool(tables.damage))
    return is_lost or any(page in one.lost for one in tables.damage)


def _own_names(tables: Tables, symbols: SymbolTable, placement: Placement) -> Iterator[Check]:
    """Check the symbols ``kallsyms_*`` of the tables themselves.

    They are in the table since 6.11 (and 6.10.7).
    """
    right: list[str] = []
    wrong: list[str] = []
    for name, place, _ in tables.places:
        index = symbols.find(f"kallsyms_{name}")
        if index is not None:
            at = placement.physical(symbols.symbol(index).address)
            # the lower half of a big-endian count of 64 bits is four bytes behind its start
            (right if at == place or (name == "num_syms" and at == place - 4) else wrong).append(name)
    if right or wrong:
        yield Check.that(
            CheckId.KALLSYMS_SYMBOLS,
            not wrong,
            f"{len(right)} symbols name the tables where they were found"
            + (f", but not {', '.join(wrong)}" if wrong else ""),
        )
    else:
        yield Check(
            CheckId.KALLSYMS_SYMBOLS, Outcome.ABSENT, _absence(tables, "the tables' own names", "normal up to 6.10")
        )


def _absence(tables: Tables, what: str, reason: str) -> str:
    """Say why symbols are not known: a damaged table can have them, with their names or addresses lost."""
    return f"{what}: lost or not in the table" if tables.damage else f"{what}: not in the table ({reason})"


def read_banner(memory: Memory, symbols: SymbolTable, placement: Placement) -> str | None:
    """Return the banner that ``linux_banner`` is or, up to 2.6.9, points at; or None.

    None without that symbol or that text.
    """
    index = symbols.find("linux_banner")
    if index is None:
        return None
    place = placement.physical(symbols.symbol(index).address)
    values, held = memory.words(np.array([place], np.uint64), placement.words.dtype)
    return _banner_at(memory, place) or (_banner_at(memory, placement.physical(int(values[0]))) if held[0] else None)


def nearest_banner(memory: Memory, around: int) -> str | None:
    """Return the banner nearest to an address, for tables without data symbols.

    It is shown, never used as proof.
    """
    window = memory.window(around, NEAR, NEAR)
    text = window.data.tobytes()
    places: list[int] = []
    place = text.find(BANNER)
    while place >= 0 and len(places) < 64:
        if text[place + len(BANNER) : place + len(BANNER) + 1].isdigit():
            places.append(window.start + place)
        place = text.find(BANNER, place + 1)
    for place in sorted(places, key=lambda p: abs(p - around)):
        if banner := _banner_at(memory, place):
            return banner
    return None


def _banner_at(memory: Memory, address: int) -> str | None:
    try:
        text = memory.window(address, 0, MAX_BANNER).data.tobytes()
    except UnmappedError:
        return None
    if not text.startswith(BANNER):
        return None
    return text.split(b"\0", 1)[0].rstrip(b"\n").decode("latin-1")


def _read(memory: Memory, address: int, size: int) -> bytes:
    try:
        return memory.read(address, size).tobytes()
    except UnmappedError:
        return b""
