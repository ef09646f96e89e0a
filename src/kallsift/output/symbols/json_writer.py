"""Write JSON documents of one shape for all commands (docs/json.schema.json).

A document has a version, its command, the source, and a list of kernels. Each kernel has all known facts about it, and
the results of the command. Addresses are strings like ``"0xffff…"``, because not every JSON reader keeps 64-bit numbers
without loss. Names of the kernel are read as Latin-1, byte by byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols
from kallsift.kernel.kernel import Kernel
from kallsift.kernel.placement.rebase import image_base
from kallsift.memory.memory import Memory
from kallsift.output.symbols.line_writer import RowFormat

FORMAT = 1
"""Version of the shape.

It increases if a key is removed or changes its meaning, not if one is added.
"""

# A line is a member of an array behind a comma; the writer drops the comma of the first member.
_MEMBER = RowFormat(
    before=b',\n{"address":"0x',
    between=b'","type":"',
    gap=b'","name":"',
    after=b'"}',
    unprintable=b"\\u%04x",
    escapes={ord('"'): b'\\"', ord("\\"): b"\\\\"},
)


def symbols_json(
    memory: Memory, listings: Sequence[tuple[Kernel, DynamicSymbols | None]]
) -> Iterator[bytes | memoryview]:
    """Yield the symbols of kernels as one document, in chunks of bounded size.

    A kernel's ``symbols`` are in its own order; those in its `DynamicSymbols` have a ``module`` too. ``missing`` lists
    the parts that could not be read.
    """
    yield _open(_header("symbols", memory)) + b'"kernels":['
    for index, (kernel, dynamic) in enumerate(listings):
        yield b",\n" if index else b"\n"
        yield from _with_symbols(kernel, dynamic)
    yield b"\n]}\n"


def document(command: str, memory: Memory, kernels: Sequence[tuple[Kernel, Mapping[str, Any]]]) -> str:
    """Return a command's document as indented text with a line break at its end.

    Args:
        command: name of the command.
        memory: the source.
        kernels: each with the results of the command, as values that JSON can express.
    """
    entries = [{**kernel_document(kernel), **found} for kernel, found in kernels]
    return text_of({**_header(command, memory), "kernels": entries})


def text_of(values: Mapping[str, Any]) -> str:
    """Return a document as indented text with a line break at its end."""
    return json.dumps(values, indent=2) + "\n"


def _header(command: str, memory: Memory) -> dict[str, Any]:
    """Return the first members of every document about one source."""
    return {
        "format": FORMAT,
        "command": command,
        "source": memory.source,
        "container": memory.container,
        "address_space": memory.space.value,
        "size": memory.size,
        "notes": list(memory.remarks),
    }


def _open(values: Mapping[str, Any]) -> bytes:
    """Return an object in one line without its closing brace.

    So other members can follow.
    """
    return json.dumps(values).encode()[:-1] + b","


def kernel_document(kernel: Kernel) -> dict[str, Any]:
    """Return all known facts about a kernel except its symbols.

    Unknown facts are None.
    """
    return {
        "banner": kernel.banner,
        "architecture": kernel.architecture,
        "state": kernel.state.value,
        "proven": kernel.proven,
        "role": kernel.role.value,
        "address_space": kernel.memory.space.value,
        "word_size": kernel.symbols.word_size,
        "symbol_count": len(kernel.symbols),
        "encoding": kernel.encoding,
        "virtual_base": _hex(kernel.virtual_base),
        "physical_base": _hex(None if kernel.physical_base is None else kernel.place(kernel.physical_base)),
        "kaslr_slide": _hex(kernel.kaslr_slide),
        "page_table_root": _hex(kernel.page_table_root),
        "paging": kernel.paging,
        "attribute_bits": _hex(kernel.attribute_bits or None),
        "tables": [
            {
                "name": place.name,
                "physical": _hex(kernel.place(place.physical)),
                "virtual": _hex(place.virtual if kernel.is_placed else None),
                "size": place.size,
            }
            for place in kernel.tables
        ],
        "image": _image(kernel),
        "damage": [
            {"name": one.name, "pages": one.pages, "first": _hex(one.first), "lost": [_hex(page) for page in one.lost]}
            for one in kernel.damage
        ],
        "evidence": [
            {
                "name": check.name,
                "outcome": check.outcome.value,
                "essential": check.essential,
                "detail": check.detail,
            }
            for check in kernel.evidence
        ],
    }


def _image(kernel: Kernel) -> dict[str, Any] | None:
    """Return a kernel image's packaging, and the place of its first byte."""
    image = kernel.memory.image
    if image is None:
        return None
    base = _hex(image_base(kernel) if kernel.is_placed else None)
    return {"packaging": list(image.packaging), "offset": image.offset, "base": base}


def _with_symbols(kernel: Kernel, dynamic: DynamicSymbols | None) -> Iterator[bytes | memoryview]:
    """Yield one kernel's document with its symbols."""
    missing = list(dynamic.missing) if dynamic else []
    yield _open({**kernel_document(kernel), "missing": missing}) + b'"symbols":['
    for index, chunk in enumerate(_MEMBER.lines(kernel.symbols)):
        yield chunk if index else chunk[1:]
    for group in dynamic.groups if dynamic else ():
        yield from replace(_MEMBER, after=b'","module":' + json.dumps(group.owner).encode() + b"}").lines(group.symbols)
    yield b"\n]}"


def _hex(number: int | None) -> str | None:
    """Return a number as a hexadecimal string.

    Not every JSON reader keeps large numbers without loss.
    """
    return None if number is None else f"{number:#x}"
