"""Modules that the loader refuses, made out of one that it accepts."""

from __future__ import annotations

import io
from collections.abc import Callable

from elftools.elf.elffile import ELFFile

from .errors import LabError

Change = Callable[[bytes], bytes]


def _text(section: str, old: bytes, new: bytes) -> Change:
    """Puts a text of the same length in place of the first one of a section."""

    def change(module: bytes) -> bytes:
        start, stop = _bounds(module, section)
        place = module.find(old, start, stop)
        if place < 0 or len(old) != len(new):
            raise LabError(f"a module's section {section} has no {old!r} that {new!r} could replace: see variants.py")
        return module[:place] + new + module[place + len(old) :]

    return change


def _checksum(symbol: bytes) -> Change:
    """Changes the checksum that a module of 64 bits expects of a symbol: it stands before the symbol's name."""

    def change(module: bytes) -> bytes:
        place = module.find(b"\0" + symbol + b"\0", *_bounds(module, "__versions")) + 1
        if not place:
            raise LabError(f"a module has no version of {symbol!r}: see variants.py")
        return module[: place - 8] + bytes([module[place - 8] ^ 1]) + module[place - 7 :]

    return change


def _bounds(module: bytes, section: str) -> tuple[int, int]:
    found = ELFFile(io.BytesIO(module)).get_section_by_name(section)
    if found is None:
        raise LabError(f"a module has no section {section}: see variants.py")
    return found["sh_offset"], found["sh_offset"] + found["sh_size"]


VARIANTS: dict[str, Change] = {
    "labproprietary": _text(".modinfo", b"license=GPL\0", b"license=BSD\0"),
    "labrelease": _text(".modinfo", b"vermagic=6.", b"vermagic=9."),  # not compared where symbols have checksums
    "labvermagic": _text(".modinfo", b" mod_unload ", b" mod_unlobd "),
    "labnamespace": _text(".modinfo", b"import_ns=LAB\0", b"import_ns=BAL\0"),
    "labunversioned": _text("__versions", b"\0lab_for_all\0", b"\0lab_for_bll\0"),
    "labcrc": _checksum(b"lab_for_all"),
    "lablayout": _checksum(b"module_layout"),
}
"""What is changed in labuser.ko for each."""


def with_variants(modules: dict[str, bytes]) -> dict[str, bytes]:
    """The modules, and with labuser among them its variants."""
    user = modules.get("labuser")
    return modules if user is None else {**modules, **{name: change(user) for name, change in VARIANTS.items()}}
