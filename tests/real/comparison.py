"""Compares a recovered table with the guest's own, and knows the one way in which the guest itself is wrong.

Kernels 6.1 to 6.18 (fixed in 6.1.160, 6.12.64 and 6.19) take the type letter of a name whose length has two bytes
from the length's second byte. Such lines are worked out here from the dump's bytes, one at a time, without kallsift's
decoder; no other difference is excused.
"""

from __future__ import annotations

from dataclasses import dataclass

from kallsift import Kernel, Memory
from kallsift.output.symbols.kallsyms import kallsyms_text


@dataclass(frozen=True)
class Comparison:
    """How a table compares.

    Attributes:
        lines: lines of the guest.
        identical: lines that are the same, byte for byte.
        excused: lines that differ in a type letter which the guest's kernel reads from the wrong byte.
        first: the first difference that is not excused, as (guest's line, ours), or None.
    """

    lines: int
    identical: int
    excused: int
    first: tuple[bytes, bytes] | None

    @property
    def same(self) -> bool:
        """Whether nothing differs that is not excused."""
        return self.first is None


def text_of(kernel: Kernel) -> bytes:
    """The table in the format of ``/proc/kallsyms``."""
    return b"".join(bytes(piece) for piece in kallsyms_text(kernel))


def compare(ours: bytes, truth: bytes, wrong_letters: dict[int, bytes]) -> Comparison:
    """Compares line by line.

    Args:
        ours: the recovered text.
        truth: the guest's lines without modules.
        wrong_letters: what a kernel with the bug prints, by the line's number.
    """
    if ours == truth:
        count = truth.count(b"\n")
        return Comparison(count, count, 0, None)
    left, right = truth.splitlines(), ours.splitlines()
    identical = excused = 0
    first = None
    for number in range(max(len(left), len(right))):
        a = left[number] if number < len(left) else b""
        b = right[number] if number < len(right) else b""
        if a == b:
            identical += 1
        elif number in wrong_letters and a == b[:17] + wrong_letters[number] + b[18:]:
            excused += 1
        elif first is None:
            first = (a, b)
    return Comparison(len(left), identical, excused, first)


def wrong_letters(memory: Memory, kernel: Kernel) -> dict[int, bytes]:
    """The letter that a kernel with the bug prints for each entry whose length takes two bytes."""
    places = {table.name: (table.physical, table.size) for table in kernel.tables}
    stream = memory.read(*places["names"]).tobytes()
    tokens = memory.read(*places["token_table"]).tobytes().split(b"\0")
    letters, position, number = {}, 0, 0
    while number < len(kernel.symbols):
        length, head = stream[position], 1
        if length & 0x80:
            second = stream[position + 1]
            length, head = length & 0x7F | second << 7, 2
            letters[number] = tokens[second][:1]
        position += head + length
        number += 1
    assert position == len(stream)
    return letters
