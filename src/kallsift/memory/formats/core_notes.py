"""The notes on processors that a core has, for those who write them into another one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CoreNotes:
    """Notes on processors as they stand in a core, whatever architecture's registers they hold.

    Attributes:
        machine: ELF machine number; 0 where the core does not tell.
        bits: width of a word; None where the core does not tell.
        byte_order: ``"<"`` or ``">"``.
        count: processors: how many of the notes are NT_PRSTATUS.
        data: all of the notes, each padded to 4 bytes.
    """

    machine: int
    bits: int | None
    byte_order: str
    count: int
    data: bytes
