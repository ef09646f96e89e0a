"""Kernels and memories made by hand, for tests of what is done with a recovered kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kallsift.addresses import PhysicalAddress, VirtualAddress
from kallsift.arch.registry import mapping_named
from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.kernel import Kernel, State, TableLocation
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment

Row = tuple[int, str, str]
"""Address, type, name (Latin-1)."""

ROWS: tuple[Row, ...] = (
    (0x0, "A", "fixed_percpu_data"),
    (0x1000, "A", "cpu_debug_store"),
    (0xFFFFFFFF9FA00000, "T", "_text"),
    (0xFFFFFFFF9FA00000, "T", "_stext"),
    (0xFFFFFFFF9FA00040, "t", "init"),
    (0xFFFFFFFF9FA00100, "t", "init"),
    (0xFFFFFFFF9FA00200, "T", "a_rather_long_name_that_takes_more_than_a_few_lanes_to_copy"),
    (0xFFFFFFFFA2000000, "B", "_end"),
)
SLIDE = 0x1EA00000


def table(rows: Sequence[Row], word_size: int = 8) -> SymbolTable:
    """A symbol table of these rows."""
    texts = [(kind + name).encode("latin-1") for _, kind, name in rows]
    return SymbolTable(
        addresses=np.array([address for address, _, _ in rows], np.uint64),
        characters=np.frombuffer(b"".join(texts), np.uint8),
        bounds=np.concatenate(([0], np.cumsum([len(text) for text in texts]))).astype(np.int64),
        word_size=word_size,
    )


def kernel(rows: Sequence[Row] = ROWS, word_size: int = 8, **changes: Any) -> Kernel:
    """A proven kernel, unless the changes of its attributes say otherwise."""
    proven = Kernel(
        symbols=table(rows, word_size),
        evidence=(
            Check(CheckId.MARKERS, Outcome.PASSED, "all 3 markers equal the offsets of entries"),
            Check(CheckId.CR3, Outcome.ABSENT, "the source records no CR3"),
        ),
        state=State.RUNNING,
        byte_order="<",
        architecture="x86-64",
        banner="Linux version 7.2.13 (somebody@somewhere)\n",
        encoding="self-relative",
        tables=(TableLocation("names", PhysicalAddress(0x73D0F44), VirtualAddress(0xFFFFFFFFA0FD0F44), 2943356),),
        virtual_base=VirtualAddress(0xFFFFFFFF9FA00000),
        physical_base=PhysicalAddress(0x5E00000),
        kaslr_slide=SLIDE,
        page_table_root=PhysicalAddress(0x802A000),
        mapping=mapping_named("x86-64", "4-level", "<"),
        memory=memory(),
        distance=0xFFFFFFFF9FA00000 - 0x5E00000,
    )
    return replace(proven, **changes)


def unproven() -> Kernel:
    """A stale copy with a check that failed."""
    failed = Check(CheckId.PAGE_TABLE, Outcome.FAILED, "maps none of the tables")
    return kernel(evidence=(failed,), state=State.STALE, kaslr_slide=None, virtual_base=None, page_table_root=None)


def memory(source: str = "memory.raw", **changes: Any) -> Memory:
    """A page of raw memory."""
    page = BytesSegment(0, np.zeros(4096, np.uint8))
    return replace(Memory(source, "raw", AddressSpace.PHYSICAL, (page,)), **changes)
