"""Bare RAM of a machine that has a hole in it: bare .vmem, memory files of Firecracker and Cloud Hypervisor, files
behind a guest's memory.

What lies behind the hole stands in the file where the hole would be. A kernel in front of it is found all the same, but
its lists run into memory that is elsewhere; behind it, not even its page table maps it where it lies. So the layouts
that machines have are tried one after the other, and only a kernel that is proven there shows that one is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from kallsift.memory.holes import LAYOUTS, Layout, Piece
from kallsift.memory.model import AddressSpace, Memory, Segment


class Arrangement(NamedTuple):
    """A way to lay out bare RAM: the machine's layout, the parts of the file, and the memory that comes of it."""

    layout: Layout
    pieces: tuple[Piece, ...]
    memory: Memory

    def address(self, offset: int) -> int:
        """Physical address of what stands at an offset of the file."""
        piece = next(piece for piece in self.pieces if piece.offset <= offset < piece.offset + piece.size)
        return piece.address + offset - piece.offset


def arrangements(memory: Memory) -> Iterator[Arrangement]:
    """Layouts in which so much RAM lies in several parts; none unless the memory is one run of bytes from address 0."""
    if memory.space is not AddressSpace.PHYSICAL or memory.image or len(memory.segments) != 1:
        return
    (ram,) = memory.segments
    if not isinstance(ram, Segment) or ram.start:
        return
    tried = set()
    for layout in LAYOUTS:
        pieces = layout.pieces(ram.size)
        if len(pieces) > 1 and pieces not in tried:
            tried.add(pieces)
            segments = tuple(
                Segment(piece.address, ram.read(piece.offset, piece.offset + piece.size)) for piece in pieces
            )
            yield Arrangement(layout, pieces, replace(memory, segments=segments))
