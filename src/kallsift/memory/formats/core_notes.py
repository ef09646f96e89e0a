"""Carry the notes on processors from one core to another."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CoreNotes:
    """The notes on processors as they stand in a core, with registers of any architecture.

    Attributes:
        machine: ELF machine number; 0 if the core does not tell.
        bits: width of a word; None if the core does not tell.
        byte_order: ``"<"`` or ``">"``.
        count: number of processors: the number of NT_PRSTATUS notes.
        data: all of the notes, each padded to 4 bytes.
    """

    machine: int
    bits: int | None
    byte_order: str
    count: int
    data: bytes
