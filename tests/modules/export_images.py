"""Made-up kernel images that export symbols, in any of the forms that kernels have had."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kallsift.addresses import PhysicalAddress, VirtualAddress
from kallsift.kernel.kernel import Kernel, State, TableLocation
from kallsift.kernel.placement.pointers import Words
from kallsift.memory.memory import AddressSpace, ImageFacts, Memory
from kallsift.memory.segments import BytesSegment
from kallsift.modules.exports.ksymtab_entries import Checksums, EntryForm
from tests.output.sample import Row
from tests.output.sample import kernel as sample_kernel

PLACE = 0x100000
SIZE = 0x40000
TEXT, DATA, ARRAYS = 0x1000, 0x20000, 0x28010
"""Offsets of functions, of data and of the arrays."""

SYMSEARCH = 0x18000
"""Offset of the table of the arrays' bounds, where there is one."""

BASES = {8: 0xFFFF_FFFF_8100_0000, 4: 0xC100_0000}

EACH = 120
"""Symbols that each of the two arrays has; every fourth is data."""

Line = tuple[str, int, str, str, int]
"""Name, address, macro, namespace and checksum."""


@dataclass(frozen=True)
class ExportImage:
    """An image, and what it exports.

    Attributes:
        data: the bytes, from `PLACE` on.
        words: how its words are written.
        rows: all its symbols.
        lines: what it exports, in the order of its arrays.
    """

    data: bytearray
    words: Words
    rows: tuple[Row, ...]
    lines: tuple[Line, ...]

    def kernel(self, *, data_symbols: bool) -> Kernel:
        """The kernel in it, with all its symbols or with those of its text alone."""
        segment = BytesSegment(PLACE, np.frombuffer(bytes(self.data), np.uint8))
        memory = Memory("test", "test", AddressSpace.FILE, (segment,), image=ImageFacts(("test",), 0))
        base = BASES[self.words.size]
        return sample_kernel(
            sorted(row for row in self.rows if data_symbols or row[1] == "T"),
            self.words.size,
            byte_order=self.words.byte_order,
            memory=memory,
            state=State.IMAGE,
            distance=base - PLACE,
            tables=(TableLocation("names", PhysicalAddress(PLACE + 0x100), VirtualAddress(base + 0x100), 16),),
        )


def export_image(
    words: Words,
    form: EntryForm,
    checksums: Checksums | None,
    *,
    flags: bool = False,
    is_sorted: bool = True,
    twice: tuple[int, ...] = (),
) -> ExportImage:
    """An image that exports to everybody and to modules under the GPL, from two arrays, or from one with flags.

    Args:
        is_sorted: whether the linker sorted each array by name, as since 2.6.39.
        twice: numbers of symbols that are exported once more.
    """
    base, data = BASES[words.size], bytearray(SIZE)
    lines, rows = [], [(base, "T", "_text")]
    for number in range(2 * EACH):
        kind = "D" if number % 4 == 3 else "T"
        address = base + (DATA if kind == "D" else TEXT) + 0x40 * number
        name = f"symbol_{number * 7919 % 1000:03}_{number}"
        gpl = (number * 31) % 240 >= 120
        space = f"SPACE_{number % 3}" if form.fields == 3 and number % 5 == 0 else ""
        crc = 0 if checksums is None else number * 2654435761 + 0x1234567 & 0xFFFFFFFF
        lines.append((name, address, "EXPORT_SYMBOL_GPL" if gpl else "EXPORT_SYMBOL", space, crc))
        rows.append((address, kind, name))
    lines += [lines[number] for number in twice]
    lines.sort(key=lambda line: (not flags and line[2].endswith("GPL"), line[0] if is_sorted else ""))
    plain = len(lines) if flags else sum(line[2] == "EXPORT_SYMBOL" for line in lines)
    width = 4 if form.relative else words.size
    entry = form.fields * width
    crc_width = checksums.width if checksums else 0
    ends = ARRAYS + entry * len(lines)
    crcs = ends + -ends % (crc_width or 1)
    marks = crcs + crc_width * len(lines)
    strings = marks + (len(lines) if flags else 0)
    elsewhere = DATA - 0x4000

    def put(place: int, value: int, size: int) -> None:
        order = "little" if words.byte_order == "<" else "big"
        data[place : place + size] = (value & (1 << 8 * size) - 1).to_bytes(size, order)  # type: ignore[arg-type]

    def point(place: int, target: int, size: int, relative: bool) -> None:
        put(place, target - base - place if relative else target, size)

    texts: dict[str, int] = {}
    for text in [text for line in lines for text in (line[0], line[3]) if text]:
        if text not in texts:
            texts[text] = strings
            data[strings : strings + len(text)] = text.encode()
            strings += len(text) + 1
    for number, (name, address, macro, space, crc) in enumerate(lines):
        place = ARRAYS + entry * number
        for field, target in enumerate((address, base + texts[name], space and base + texts[space])[: form.fields]):
            if target:
                point(place + width * field, int(target), width, form.relative)
        if checksums and checksums.relative:
            point(crcs + 4 * number, base + elsewhere + 4 * number, 4, relative=True)
            put(elsewhere + 4 * number, crc, 4)
        elif checksums:
            put(crcs + crc_width * number, crc, crc_width)
        if flags:
            data[marks + number] = macro.endswith("GPL")
    if not is_sorted:  # each_symbol's table, in the kernel's read-only data
        for number, target in enumerate((0, plain, plain, len(lines))):
            put(SYMSEARCH + (number % 2 + number // 2 * 5) * words.size, base + ARRAYS + entry * target, words.size)
    rows += _bounds(base + ARRAYS, entry, plain, len(lines), "ksymtab")
    if checksums:
        rows += _bounds(base + crcs, crc_width, plain, len(lines), "kcrctab")
    if flags:
        rows += _bounds(base + marks, 1, plain, len(lines), "kflagstab")
    return ExportImage(data, words, tuple(rows), tuple(lines))


def _bounds(start: int, size: int, plain: int, total: int, name: str) -> list[Row]:
    """The symbols that bound the parts of an array."""
    middle, end = start + size * plain, start + size * total
    return [
        (start, "R", f"__start___{name}"),
        (middle, "R", f"__stop___{name}"),
        (middle, "R", f"__start___{name}_gpl"),
        (end, "R", f"__stop___{name}_gpl"),
    ]
