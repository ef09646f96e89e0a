"""Modules made by hand: ELF objects with what a kernel's loader looks at, in any class and byte order."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MARK = b"~Module signature appended~\n"

MACHINES = {"x86-64": 62, "x86": 3, "arm64": 183, "s390x": 22, "ppc": 20}

LOCAL, GLOBAL, WEAK = 0, 1, 2
UNDEFINED, COMMON, TEXT = 0, 0xFFF2, 1


@dataclass(frozen=True)
class Built:
    """What a module has.

    Attributes:
        machine: its architecture.
        bits: its class.
        order: its byte order.
        symbols: names with binding and section number, behind the first entry.
        information: modinfo.
        versions: checksums by name; None for no such section.
        extended: the same in the form of 6.13.
        signature: behind the file; None for none.
        kind: e_type.
        this_module: whether it has the section that makes a module of an object.
    """

    machine: str = "x86-64"
    bits: int = 64
    order: str = "<"
    symbols: Sequence[tuple[str, int, int]] = ()
    information: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    versions: Mapping[str, int] | None = None
    extended: Mapping[str, int] | None = None
    signature: bytes | None = None
    kind: int = 1
    this_module: bool = True

    def data(self) -> bytes:
        """The file."""
        strings = b"\0" + b"".join(name.encode() + b"\0" for name, _, _ in self.symbols)
        sections: list[tuple[str, int, bytes]] = [("", 0, b""), (".text", 1, bytes(64)), (".symtab", 2, self._symtab())]
        sections += [(".strtab", 3, strings), (".modinfo", 1, self._modinfo()), (".bss", 8, b"")]
        if self.this_module:
            sections.append((".gnu.linkonce.this_module", 1, bytes(512)))
        if self.versions is not None:
            word = f"{self.order}{'Q' if self.bits == 64 else 'I'}"
            rows = (struct.pack(word, crc) + name.encode() for name, crc in self.versions.items())
            sections.append(("__versions", 1, b"".join(row.ljust(64, b"\0") for row in rows)))
        if self.extended is not None:
            crcs = b"".join(struct.pack(f"{self.order}I", crc) for crc in self.extended.values())
            sections.append(("__version_ext_crcs", 1, crcs))
            sections.append(("__version_ext_names", 1, b"".join(name.encode() + b"\0" for name in self.extended)))
        sections.append((".shstrtab", 3, b"\0".join(name.encode() for name, _, _ in sections) + b"\0.shstrtab\0"))
        return self._file(sections) + self._signed()

    def _modinfo(self) -> bytes:
        pairs = [
            (key, value)
            for key, values in self.information.items()
            for value in ([values] if isinstance(values, str) else values)
        ]
        return b"".join(f"{key}={value}\0".encode() for key, value in pairs)

    def _symtab(self) -> bytes:
        wide = self.bits == 64
        table, place = bytes(24 if wide else 16), 1
        for name, binding, section in self.symbols:
            info = binding << 4 | (2 if section == TEXT else 0)
            if wide:
                table += struct.pack(f"{self.order}IBBHQQ", place, info, 0, section, 0x10, 8)
            else:
                table += struct.pack(f"{self.order}IIIBBH", place, 0x10, 8, info, 0, section)
            place += len(name.encode()) + 1
        return table

    def _file(self, sections: list[tuple[str, int, bytes]]) -> bytes:
        wide = self.bits == 64
        body, headers, place = b"", b"", 64 if wide else 52
        names = sections[-1][2]
        first_global = 1 + sum(binding == LOCAL for _, binding, _ in self.symbols)
        for number, (name, kind, content) in enumerate(sections):
            entry = (24 if wide else 16) if name == ".symtab" else 0
            at = names.find(b"\0" + name.encode() + b"\0") + 1 if number else 0
            fields = (at, kind, 0, 0, place, len(content), 3 if entry else 0, first_global if entry else 0, 1, entry)
            headers += struct.pack(f"{self.order}{'IIQQQQIIQQ' if wide else '10I'}", *fields)
            padded = content + bytes(-len(content) % 8)
            body, place = body + padded, place + len(padded)
        ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if self.order == "<" else 2, 1]) + bytes(9)
        counts = (64 if wide else 52, 0, 0, 64 if wide else 40, len(sections), len(sections) - 1)
        head = struct.pack(
            f"{self.order}HHI{'QQQ' if wide else 'III'}I6H",
            self.kind,
            MACHINES[self.machine],
            1,
            0,
            0,
            place,
            0,
            *counts,
        )
        return ident + head + body + headers

    def _signed(self) -> bytes:
        if self.signature is None:
            return b""
        return self.signature + struct.pack(">BBBBB3xI", 0, 0, 2, 0, 0, len(self.signature)) + MARK
