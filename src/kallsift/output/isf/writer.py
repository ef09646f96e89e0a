"""Write a symbol file of Volatility 3: JSON of schema 6.2.0, as it is or packed with xz.

Format: schemas/schema-6.2.0.json of Volatility 3. It knows no kind of source for BTF, so none is named for types.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from kallsift.errors import KallsiftError
from kallsift.kernel.access.btf_blob import BtfError
from kallsift.kernel.kernel import Kernel
from kallsift.output.isf.base_types import base_types
from kallsift.output.isf.descriptions import Descriptions
from kallsift.output.isf.symbols import symbol_entries
from kallsift.output.isf.type_names import enum_names, structure_names
from kallsift.output.isf.user_types import UserTypes, enum_entries
from kallsift.types.btf import Btf
from kallsift.types.types import Types

FORMAT = "6.2.0"
"""Version of the schema: the last one that also older releases of Volatility read."""

BATCH = 1 << 11
"""Entries that are made into text at once."""

MAX_SIZE = 1 << 28
"""Highest size of a file in bytes before it is packed; kernels of distributions need some 30 MB."""

PRESET = 0
"""Level of xz: higher ones take ten times as long for a file that is a third smaller."""


SUFFIXES = (".json", ".json.xz")
"""Ends of the names of files that Volatility reads."""


@dataclass(frozen=True)
class Producer:
    """The program that a file says it was made by.

    Attributes:
        name: its name.
        version: its version, three numbers.
    """

    name: str
    version: str


def symbol_file(types: Types, modules: Sequence[tuple[str, Types]], producer: Producer) -> Iterator[bytes]:
    """Return a symbol file in pieces.

    Args:
        types: the kernel's types.
        modules: loaded modules with types of their own.
        producer: the program that made it.

    Raises:
        KallsiftError: if the KASLR slide is unknown; while the pieces are made, if the types are larger than any
            kernel's.
    """
    if types.kernel.kaslr_slide is None:
        raise KallsiftError(
            "this kernel's KASLR slide is unknown, but symbol files need addresses without it; give a "
            "VMCOREINFO text (--vmcoreinfo)"
        )
    return _bounded(_pieces(types, modules, producer))


def file_name(kernel: Kernel) -> str:
    """Return a name for a packed file that builds of one release do not share."""
    words = (kernel.banner or "").split()
    release = re.sub(r"[^\w.+-]", "_", words[2] if len(words) > 2 else "unknown", flags=re.ASCII)
    digest = hashlib.sha256((kernel.banner or "").encode("latin-1", "replace")).hexdigest()
    return f"{release[:64]}-{digest[:8]}{SUFFIXES[-1]}"


def _bounded(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield pieces up to `MAX_SIZE` bytes.

    Raises:
        BtfError: if there are more.
    """
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_SIZE:
            raise BtfError("the types are larger than those of any kernel; leave out those of modules with --core")
        yield piece


def packed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a file packed with xz."""
    from lzma import LZMACompressor

    packer = LZMACompressor(preset=PRESET)
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()


def _pieces(types: Types, modules: Sequence[tuple[str, Types]], producer: Producer) -> Iterator[bytes]:
    is_big_endian = types.kernel.byte_order == ">"
    numbers = base_types(types, "big" if is_big_endian else "little")
    scopes = _scopes(types.btf, modules)
    yield b'{"metadata":' + _text(_metadata(producer)) + b',"base_types":' + _text(numbers)
    structures = (entry for scope in scopes for entry in UserTypes(scope, is_big_endian).entries())
    enums = (entry for scope in scopes for entry in enum_entries(scope, numbers))
    for name, entries in (
        ("user_types", structures),
        ("enums", enums),
        ("symbols", symbol_entries(types, scopes[0], numbers)),
    ):
        yield from _section(name, entries)
    yield b"}\n"


def _scopes(btf: Btf, modules: Sequence[tuple[str, Types]]) -> list[Descriptions]:
    """Return the descriptions of the kernel's types, then those of each module's."""
    kinds: dict[str, str] = {}
    enums: set[str] = set()
    scopes: list[Descriptions] = []
    for scope, own in (("", btf), *((name, types.btf) for name, types in modules)):
        structures, enumerations = structure_names(own, kinds, scope), enum_names(own, enums, scope)
        kinds.update({name: own.info(number)[0].name.lower() for number, name in structures.items()})
        enums.update(enumerations.values())
        scopes.append(Descriptions(own, structures | enumerations, kinds, scopes[0] if scopes else None))
    return scopes


def _metadata(producer: Producer) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "producer": {"name": producer.name, "version": producer.version},
        "linux": {"symbols": [{"kind": "system-map", "name": "kallsyms"}], "types": []},
    }


def _section(name: str, entries: Iterator[tuple[str, dict[str, Any]]]) -> Iterator[bytes]:
    """Yield a member of the file whose value has many entries."""
    before = b',"%s":{' % name.encode("ascii")
    while batch := dict(islice(entries, BATCH)):
        yield before + _text(batch)[1:-1]
        before = b","
    yield b"}" if before == b"," else before + b"}"


def _text(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")
