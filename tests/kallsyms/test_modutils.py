"""The section that modutils' kallsyms wrote into kernels of 2.4, written here from its header's structures."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Literal

import pytest

import kallsift
from kallsift.errors import RecoveryError
from kallsift.kernel.kernel import State

COUNT = 600
SYMBOLS = [(0xC0100000 + 0x40 * (index // 2), f"function_{index}") for index in range(COUNT)]


def section(size: int, order: Literal["<", ">"], **changed: int) -> bytes:
    """A header, one section with its own symbol, symbols in the order of their names, and strings."""
    header_size, section_size, symbol_size = {4: (44, 16, 12), 8: (56, 24, 24)}[size]
    long, base = {4: "I", 8: "Q"}[size], SYMBOLS[0][0]
    strings, entries = b"\0.text\0", []
    for address, name in [(base, ".text"), *sorted(SYMBOLS, key=lambda symbol: symbol[1])]:
        at = strings.find(b"\0" + name.encode() + b"\0") + 1
        if not at:
            at, strings = len(strings), strings + name.encode() + b"\0"
        pad = "4x" if size == 8 else ""
        entries.append(struct.pack(f"{order}I{pad}{long}I{pad}", 0, address, at))
    symbol_offset = header_size + section_size
    string_offset = symbol_offset + symbol_size * len(entries)
    fields = {"size": header_size, "total": string_offset + len(strings), "sections": 1, "section_off": header_size,
              "section_size": section_size, "symbols": len(entries), "symbol_off": symbol_offset,
              "symbol_size": symbol_size, "string_off": string_offset, **changed}  # fmt: skip
    header = struct.pack(f"{order}9I", *fields.values()).ljust(header_size - 2 * size, b"\0")
    header += struct.pack(f"{order}2{long}", base, base + 0x10000)
    return header + struct.pack(f"{order}2{long}2I", base, 0x10000, 1, 6) + b"".join(entries) + strings


@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("before", [0, 3, 4096])
def test_every_symbol_but_the_sections(tmp_path: Path, size: int, order: Literal["<", ">"], before: int) -> None:
    (tmp_path / "section").write_bytes(bytes(before) + section(size, order) + bytes(100))
    kernel = kallsift.recover(kallsift.open(tmp_path / "section"))
    symbols = kernel.symbols
    found = [(one.address, one.type, one.name) for one in map(symbols.symbol, range(len(symbols)))]
    assert sorted(found) == sorted((address, "?", name) for address, name in SYMBOLS)
    assert [address for address, _, _ in found] == sorted(address for address, _ in SYMBOLS)
    assert (kernel.state, kernel.proven) == (State.TABLES, False)


@pytest.mark.parametrize("field", ["total", "sections", "section_off", "symbols", "symbol_off", "string_off"])
def test_a_header_whose_numbers_do_not_fit_is_none(tmp_path: Path, field: str) -> None:
    (tmp_path / "section").write_bytes(section(4, "<", **{field: 0x7FFF0000}))
    with pytest.raises(RecoveryError):
        kallsift.recover(kallsift.open(tmp_path / "section"))
