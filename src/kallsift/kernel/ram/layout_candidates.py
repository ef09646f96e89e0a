"""Try layouts of bare RAM that is not in one piece at physical addresses.

Such files are bare .vmem, memory files of Firecracker and Cloud Hypervisor, files behind a guest's memory, and LiME's
``raw`` format.

In them, the RAM behind a hole stands where the hole would be. A kernel in front of the hole is found all the same, but
its lists run into memory that is elsewhere; a kernel behind the hole is not mapped even by its own page table where it
lies. So the ranges of the kernel's own resources are tried, or, if those are lost, the firmware's ranges, then the
layouts that machines have. Only a kernel that is proven in a layout shows that the layout is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from kallsift.errors import UnmappedError
from kallsift.kallsyms.evidence import Check, CheckId
from kallsift.kernel.kernel import Kernel, State
from kallsift.kernel.ram.firmware_memory_map import firmware_maps
from kallsift.kernel.ram.iomem import NAME, ram_maps
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.ram_layouts import LAYOUTS, Piece
from kallsift.memory.segments import BytesSegment

MAX_TOLD = 8
"""Highest number of parts that the evidence lists; a machine with UEFI has some dozens."""


class Arrangement(NamedTuple):
    """A way to lay out bare RAM.

    Attributes:
        check: the check for the evidence of a kernel that is proven there.
        pieces: the parts of the file.
        memory: the memory in this layout.
        is_from_memory: whether the parts come from the memory itself, rather than from known machines.
        name: virtual address of the text `NAME` if a kernel's resources give the parts; None otherwise.
    """

    check: Check
    pieces: tuple[Piece, ...]
    memory: Memory
    is_from_memory: bool = False
    name: int | None = None

    def address(self, offset: int) -> int:
        """Return the physical address of an offset of the file."""
        piece = next(piece for piece in self.pieces if piece.offset <= offset < piece.offset + piece.size)
        return piece.address + offset - piece.offset

    def named_by(self, kernel: Kernel) -> bool:
        """Tell whether the resources of a kernel found in this layout can give it.

        True for a layout that no resources give.
        """
        if self.name is None:
            return True
        try:
            place = self.name - kernel.distance & (1 << 8 * kernel.symbols.word_size) - 1
            return self.memory.read(place, len(NAME)).tobytes() == NAME
        except UnmappedError:
            return False


def arrangements(memory: Memory) -> Iterator[Arrangement]:
    """Yield ways to lay out the RAM in several parts.

    Nothing is yielded unless the memory is one run of bytes from address 0.
    """
    if memory.space is not AddressSpace.PHYSICAL or memory.image or len(memory.segments) != 1:
        return
    (ram,) = memory.segments
    if not isinstance(ram, BytesSegment) or ram.start:
        return
    maps = tuple(ram_maps(ram))
    if all(each.missing for each in maps):
        maps += tuple(firmware_maps(ram))
    for ranges in maps:
        lost = f"; {ranges.missing:#x} bytes at the end are missing" if ranges.missing else ""
        if len(ranges.pieces) > 1:
            check, what = (CheckId.HOLE, "its hole") if ranges.hole else (CheckId.RANGES, "what is between its ranges")
            detail = f"the file has the RAM without {what}{lost}; {ranges.teller} have"
            yield _arranged(memory, ram, ranges.pieces, check, detail)._replace(is_from_memory=True, name=ranges.name)
    tried = set()
    for layout in LAYOUTS:
        pieces = layout.pieces(ram.size)
        if len(pieces) > 1 and pieces not in tried:
            tried.add(pieces)
            yield _arranged(memory, ram, pieces, CheckId.HOLE, f"the RAM lies as {layout.machine} has it:")


def placed(memory: Memory, kernel: Kernel | None) -> Memory:
    """Return a memory at its true addresses, as a running kernel in it shows them."""
    if kernel is None or kernel.state is not State.RUNNING or kernel.memory.image is not None:
        return memory
    return replace(kernel.memory, hints=memory.hints)


def _arranged(memory: Memory, ram: BytesSegment, pieces: tuple[Piece, ...], check: CheckId, detail: str) -> Arrangement:
    segments = tuple(BytesSegment(piece.address, ram.read(piece.offset, piece.offset + piece.size)) for piece in pieces)
    parts = [f"{piece.size:#x} bytes at {piece.address:#x}" for piece in pieces]
    more = [f"and {len(parts) - MAX_TOLD} more"] if len(parts) > MAX_TOLD else []
    said = Check.that(check, True, f"{detail} {', '.join(parts[:MAX_TOLD] + more)}")
    return Arrangement(said, pieces, replace(memory, segments=segments))
