"""Read a module file (``.ko``) as the kernel's loader does before it links it.

pyelftools opens the file; the codecs for kernel images decompress it. The rest is particular to modules: modinfo
(``KEY=value`` texts), the checksums of the symbols that the module uses, and a signature behind the ELF file's end
(scripts/sign-file.c, include/linux/module_signature.h).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kallsift.budget import WorkBudget
from kallsift.compression import codecs
from kallsift.errors import KallsiftError
from kallsift.memory.input_files import open_input

MAX_FILE = 1 << 28
"""Highest size of an uncompressed module in bytes; the largest has some tens of MiB, most of that for debuggers."""

SIGNED = b"~Module signature appended~\n"
"""End of a signed file; before it stand `SIGNATURE_INFO` bytes, the last four of which are the signature's size."""

SIGNATURE_INFO = 12

VERSION_SIZE = 64
"""Size of ``struct modversion_info`` in bytes: a word with the checksum, then the name (include/linux/module.h)."""

THIS_MODULE = ".gnu.linkonce.this_module"


class ModuleFileError(KallsiftError):
    """A file is no module that a kernel could read; the message says why."""


@dataclass(frozen=True)
class ModuleSymbol:
    """One entry of a module's symbol table, in the words of ``readelf``.

    Attributes:
        number: index in the table.
        value: offset in its section.
        size: size in bytes.
        type: e.g. ``FUNC``.
        bind: e.g. ``GLOBAL``.
        visibility: e.g. ``DEFAULT``.
        section: name of its section, or ``UND``, ``ABS``, ``COM``.
        index: that section's number, or the same words.
        name: its name; for a section's symbol the name of the section.
    """

    number: int
    value: int
    size: int
    type: str
    bind: str
    visibility: str
    section: str
    index: str
    name: str


@dataclass(frozen=True, eq=False)
class ModuleElf:
    """The ELF file of a module.

    Attributes:
        architecture: name as in `kallsift.arch`; None for an architecture that it does not know.
        bits: 32 or 64.
        byte_order: ``"<"`` or ``">"``.
        relocatable: True if it is an object that is not linked yet, as modules are.
        sections: bytes of the sections by name; the first one of each name; empty for those without bytes in the file.
        symbols: the symbol table, from entry 0 on; empty if it has none.
    """

    architecture: str | None
    bits: int
    byte_order: str
    relocatable: bool
    sections: Mapping[str, memoryview]
    symbols: tuple[ModuleSymbol, ...]

    def content(self, section: str) -> bytes | None:
        """Return a section's bytes; None if there is no such section."""
        return self.sections[section].tobytes() if section in self.sections else None


@dataclass(frozen=True, eq=False)
class ModuleFile:
    """A module file.

    Attributes:
        elf: the file without its signature.
        information: modinfo, in its order.
        versions: checksums of the symbols that it uses, by name; None if it has none.
        extended_versions: the same in the form for names of any length (6.13); None if it has none.
        signature: PKCS #7 message that signs the file; None if it is not signed.
    """

    elf: ModuleElf
    information: tuple[tuple[str, str], ...]
    versions: Mapping[str, int] | None
    extended_versions: Mapping[str, int] | None
    signature: bytes | None

    def values(self, key: str) -> list[str]:
        """Return all values that modinfo has for a key."""
        return [value for name, value in self.information if name == key]

    def value(self, key: str) -> str | None:
        """Return the first value that modinfo has for a key; None if there is none."""
        return next(iter(self.values(key)), None)

    @property
    def exported(self) -> list[str]:
        """Names that it exports."""
        marks = (symbol.name for symbol in self.elf.symbols if symbol.index != "UND")
        return [name.removeprefix("__ksymtab_") for name in marks if name.startswith("__ksymtab_")]


def open_module(path: Path) -> ModuleFile:
    """Read a module, also a compressed one (``.ko.xz``, ``.ko.zst``, ``.ko.gz``).

    Raises:
        ModuleFileError: if it is no module.
        OSError: if it cannot be read.
    """
    with open_input(path) as file:
        data = file.read(MAX_FILE + 1)
    view = np.frombuffer(data, np.uint8)
    codec = codecs.recognise(view)
    if codec is not None:
        try:
            stream = codecs.decode(codec, view, WorkBudget.of(MAX_FILE))
        except codecs.CodecError as error:
            raise ModuleFileError(str(error)) from error
        if stream.problem:
            raise ModuleFileError(f"{codec.name} stream {stream.problem}")
        data = stream.data.tobytes()
    if len(data) > MAX_FILE:
        raise ModuleFileError(f"has more than {MAX_FILE >> 20} MiB, more than any module")
    return read_module(data)


def read_module(data: bytes) -> ModuleFile:
    """Read a module from its bytes.

    Raises:
        ModuleFileError: if they are no module.
    """
    content, signature = _signature(data)
    if not content.startswith(b"\x7fELF"):
        raise ModuleFileError("is not an ELF file")
    from kallsift.modules.insmod.ko_elf import read_elf  # pyelftools is slow to import

    elf = read_elf(content)
    word, order = elf.bits // 8, elf.byte_order
    return ModuleFile(
        elf=elf,
        information=tuple(_information(elf.content(".modinfo") or b"")),
        versions=_versions(elf.content("__versions"), word, order),
        extended_versions=_extended(elf.content("__version_ext_crcs"), elf.content("__version_ext_names"), order),
        signature=signature,
    )


def _signature(data: bytes) -> tuple[bytes, bytes | None]:
    """Return the file without its signature, and the signature; None if not signed."""
    if not data.endswith(SIGNED):
        return data, None
    end = len(data) - len(SIGNED) - SIGNATURE_INFO
    size = int.from_bytes(data[end + SIGNATURE_INFO - 4 : end + SIGNATURE_INFO], "big")
    if end < 0 or size > end:
        raise ModuleFileError("claims a signature longer than the file")
    return data[: end - size], data[end - size : end]


def _information(data: bytes) -> Iterator[tuple[str, str]]:
    for text in data.split(b"\0"):
        key, equals, value = text.decode("latin-1").partition("=")
        if equals:
            yield key, value


def _versions(data: bytes | None, word: int, order: str) -> dict[str, int] | None:
    """Return the checksums in ``__versions``; the first one of each name counts."""
    if data is None:
        return None
    found: dict[str, int] = {}
    for start in range(0, len(data) - VERSION_SIZE + 1, VERSION_SIZE):
        name = data[start + word : start + VERSION_SIZE].partition(b"\0")[0].decode("latin-1")
        found.setdefault(name, _number(data[start : start + word], order))
    return found


def _extended(checksums: bytes | None, names: bytes | None, order: str) -> dict[str, int] | None:
    """Return the checksums in ``__version_ext_crcs``, by ``__version_ext_names``.

    A checksum has 32 bits.
    """
    if checksums is None or names is None:
        return None
    found: dict[str, int] = {}
    for number, name in zip(range(0, len(checksums) - 3, 4), names.split(b"\0"), strict=False):
        found.setdefault(name.decode("latin-1"), _number(checksums[number : number + 4], order))
    return found


def _number(data: bytes, order: str) -> int:
    return int.from_bytes(data, "little" if order == "<" else "big")
