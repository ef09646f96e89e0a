"""JSON: everything known of a kernel and, where asked for, its symbols. Addresses are strings like ``"0xffff…"``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from kallsift.kernel.model import Kernel
from kallsift.kernel.rebase import image_base
from kallsift.memory.model import Memory
from kallsift.output.rows import RowFormat
from kallsift.questions.dynamic import Dynamic

# A line is a member of an array behind a comma, which the first one of all drops.
_MEMBER = RowFormat(
    before=b',\n{"address":"0x',
    between=b'","type":"',
    gap=b'","name":"',
    after=b'"}',
    unprintable=b"\\u%04x",
    escapes={ord('"'): b'\\"', ord("\\"): b"\\\\"},
)


def symbols_json(kernel: Kernel, dynamic: Dynamic | None = None) -> Iterator[bytes | memoryview]:
    """``{"kernel": {...}, "missing": [...], "symbols": [{"address", "type", "name"}...]}`` in bounded chunks.

    In the kernel's order; those in ``dynamic`` have a ``module`` besides. ``missing`` says what could not be read.
    Bytes of names from 0x80 up are read as Latin-1, as `SymbolTable` does.
    """
    yield from _with_symbols(kernel, dynamic)
    yield b"\n"


def all_symbols_json(kernels: Sequence[tuple[Kernel, Dynamic | None]]) -> Iterator[bytes | memoryview]:
    """``{"kernels": [...]}`` of what `symbols_json` has for each, in chunks of bounded size."""
    yield b'{"kernels":['
    for index, (kernel, dynamic) in enumerate(kernels):
        yield b",\n" if index else b"\n"
        yield from _with_symbols(kernel, dynamic)
    yield b"\n]}\n"


def info_json(memory: Memory, kernels: Sequence[Kernel]) -> str:
    """The complete information as an indented document, with a line break at its end."""
    import json

    return json.dumps(info_document(memory, kernels), indent=2) + "\n"


def info_document(memory: Memory, kernels: Sequence[Kernel]) -> dict[str, Any]:
    """The source, what it holds, and each kernel, as values that JSON can express."""
    return {
        "source": memory.source,
        "container": memory.container,
        "address_space": memory.space.value,
        "size": memory.size,
        "notes": list(memory.notes),
        "kernels": [kernel_document(kernel) for kernel in kernels],
    }


def kernel_document(kernel: Kernel) -> dict[str, Any]:
    """All that is known of a kernel but its symbols; what is not known is None."""
    return {
        "banner": kernel.banner,
        "architecture": kernel.architecture,
        "state": kernel.state.value,
        "proven": kernel.proven,
        "word_size": kernel.symbols.word_size,
        "symbol_count": len(kernel.symbols),
        "encoding": kernel.encoding,
        "virtual_base": _hex(kernel.virtual_base),
        "physical_base": _hex(kernel.physical_base),
        "kaslr_slide": _hex(kernel.kaslr_slide),
        "page_table_root": _hex(kernel.page_table_root),
        "paging": kernel.paging,
        "attribute_bits": _hex(kernel.attribute_bits or None),
        "tables": [
            {
                "name": place.name,
                "physical": _hex(place.physical),
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
    """What a kernel image was taken out of, and where its first byte lies."""
    image = kernel.memory.image
    if image is None:
        return None
    base = _hex(image_base(kernel) if kernel.is_placed else None)
    return {"packaging": list(image.packaging), "offset": image.offset, "base": base}


def _with_symbols(kernel: Kernel, dynamic: Dynamic | None) -> Iterator[bytes | memoryview]:
    """One kernel's document with its symbols."""
    import json

    missing = json.dumps(dynamic.missing if dynamic else ()).encode()
    yield b'{"kernel":' + json.dumps(kernel_document(kernel)).encode() + b',"missing":' + missing + b',"symbols":['
    for index, chunk in enumerate(_MEMBER.lines(kernel.symbols)):
        yield chunk if index else chunk[1:]
    for group in dynamic.groups if dynamic else ():
        yield from replace(_MEMBER, after=b'","module":' + json.dumps(group.owner).encode() + b"}").lines(group.symbols)
    yield b"\n]}"


def _hex(number: int | None) -> str | None:
    """The number as JSON cannot hold it without loss in every reader: a hexadecimal string."""
    return None if number is None else f"{number:#x}"
