"""Types made up one after the other, and the bytes that a kernel would carry of them."""

from __future__ import annotations

import numpy as np

from kallsift.kernel.access.btf_blob import EACH, FIXED, BtfBlob, Kind, parse
from kallsift.types.btf import Btf

FLAG = 1 << 31


class MadeTypes:
    """Types that are written one after the other; the first has number 1, or the one behind those of a base."""

    def __init__(self, base: MadeTypes | None = None) -> None:
        self.words: list[int] = []
        self.base = base
        self.strings = b"" if base else b"\0"
        self.count: int = base.count if base else 0

    def name(self, text: str) -> int:
        """Offset of a name; names are written as often as they are asked for."""
        if not text:
            return 0
        self.strings += text.encode("latin-1") + b"\0"
        return self.names_before + len(self.strings) - len(text) - 1

    @property
    def names_before(self) -> int:
        """Bytes of the names that these build on."""
        return self.base.names_before + len(self.base.strings) if self.base else 0

    def add(self, kind: int, name: str, last: int, *behind: int, count: int = 0, flag: bool = False) -> int:
        """The number of a new type: its own words, then those behind them."""
        self.words += [self.name(name), FLAG * flag | kind << 24 | count, last, *behind]
        self.count += 1
        return self.count

    def integer(self, name: str, size: int, signed: bool = False) -> int:
        return self.add(Kind.INT, name, size, signed << 24 | 8 * size)

    def pointer(self, to: int) -> int:
        return self.add(Kind.PTR, "", to)

    def array(self, of: int, length: int) -> int:
        return self.add(Kind.ARRAY, "", 0, of, 1, length)

    def struct(self, name: str, size: int, members: list[tuple[str, int, int]], kind: int = Kind.STRUCT) -> int:
        """A structure of members: name, type and offset in bytes."""
        rows = [word for own, number, offset in members for word in (self.name(own), number, 8 * offset)]
        return self.add(kind, name, size, *rows, count=len(members))

    def fields(self, name: str, size: int, members: list[tuple[str, int, int, int]]) -> int:
        """A structure of bit fields: name, type, offset in bits and width."""
        rows = [word for own, number, at, bits in members for word in (self.name(own), number, bits << 24 | at)]
        return self.add(Kind.STRUCT, name, size, *rows, count=len(members), flag=True)

    def enum(self, name: str, values: dict[str, int], flag: bool = False) -> int:
        rows = [word for own, value in values.items() for word in (self.name(own), value & 0xFFFF_FFFF)]
        return self.add(Kind.ENUM, name, 4, *rows, count=len(values), flag=flag)

    def function(self, name: str, returns: int, parameters: list[tuple[str, int]]) -> int:
        rows = [word for own, number in parameters for word in (self.name(own), number)]
        prototype = self.add(Kind.FUNC_PROTO, "", returns, *rows, count=len(parameters))
        return self.add(Kind.FUNC, name, prototype)

    def data(self, order: str = "<", layout: dict[int, tuple[int, int]] | None = None) -> bytes:
        """The bytes; with a layout section if there is a layout: words behind the common ones, and for each record."""
        header = 24 if layout is None else 32
        sizes = 4 * len(self.words), len(self.strings)
        places = [0, sizes[0], sizes[0], sizes[1]]
        rows = b""
        if layout is not None:
            for kind in range(max(layout) + 1):
                fixed, each = layout.get(kind, (0, 0))
                rows += bytes((4 * fixed, 4 * each, 0, 0))
            places += [sum(sizes), len(rows)]
        head = np.array([0xEB9F], f"{order}u2").tobytes() + b"\1\0"
        return (
            head
            + np.array([header, *places], f"{order}u4").tobytes()
            + np.array(self.words, f"{order}u4").tobytes()
            + self.strings
            + rows
        )

    def blob(self, order: str = "<") -> BtfBlob:
        return parse(np.frombuffer(self.data(order), np.uint8))

    def btf(self, order: str = "<") -> Btf:
        return Btf(self.blob(order), 8, self.base.btf(order) if self.base else None)


def known_layout() -> dict[int, tuple[int, int]]:
    """The layout of all kinds that are known."""
    return {kind: (FIXED.get(kind, 0), EACH.get(kind, 0)) for kind in Kind if kind}
