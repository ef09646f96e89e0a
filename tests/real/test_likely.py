"""Where registers and VMCOREINFO say that a kernel lies, it does: a compressed dump is not decoded as a whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import kallsift
from kallsift.kallsyms.token_scan import packed_runs
from kallsift.kernel.recovery.search_order import priority_ranges
from kallsift.memory.formats import registry as containers
from kallsift.memory.memory import CpuState, Hints
from kallsift.output.dumps.machine_facts import memory_facts
from tests.memory.writers.avml import avml
from tests.real.conftest import GUESTS, Taken

AROUND = 16 << 20
"""Bytes before and behind a token table that are packed."""


@pytest.mark.parametrize("name", ["amd64-5.10", "amd64-7.2"])
def test_registers_lead_to_the_tables(taken: Taken, name: str) -> None:
    with kallsift.open(taken(name).dump("elf")) as memory:
        kernel = kallsift.recover(replace(memory, hints=Hints()))
        place = kernel.tables[0].physical
        # from the gates alone, as when a user's program was interrupted
        cpus = tuple(
            CpuState(cpu.number, {key: cpu.registers[key] for key in ("cr3", "idt_base")}) for cpu in memory.hints.cpus
        )
        for hints in (memory.hints, Hints(cpus), Hints((), memory_facts(memory, kernel).vmcoreinfo)):
            assert any(low <= place < high for low, high in priority_ranges(replace(memory, hints=hints)))
        assert not list(priority_ranges(replace(memory, hints=Hints())))


@pytest.mark.parametrize("name", GUESTS)
def test_tables_are_found_in_what_is_packed(taken: Taken, name: str) -> None:
    with kallsift.open(taken(name).dump("elf")) as memory:
        tables = {table.name: table for table in kallsift.recover(memory).tables}
        place = int(tables["token_table"].physical)
        segment = memory.segment_at(place)
        assert segment is not None
        low = max(0, place - segment.start - AROUND)
        part = segment.read(low, low + 2 * AROUND).tobytes()
        packed = containers.open_mapped("dump", np.frombuffer(avml([(segment.start + low, part)]), np.uint8))
        found = list(packed_runs(packed))
        assert any(start <= place < end for start, end in found)
        assert sum(end - start for start, end in found) < AROUND


def test_wrong_registers_cost_nothing_but_time(taken: Taken) -> None:
    with kallsift.open(taken("amd64-7.2").dump("elf")) as memory:
        wrong = Hints((CpuState(0, {"cr3": 0x1000, "idt_base": (1 << 64) - 8, "rip": (1 << 64) - 1}),), b"\xff")
        assert kallsift.recover(replace(memory, hints=wrong)).symbols.same_as(kallsift.recover(memory).symbols)
