"""A real guest's memory and registers as VirtualBox, Xen and Hyper-V would have saved them: pages, table, and CR3.

None of these can be had here; the writers follow their published structures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import kallsift
from kallsift.kallsyms.evidence import CheckId
from tests.lab import Capture
from tests.memory.writers import hyperv, virtualbox, xen
from tests.real.comparison import text_of
from tests.real.conftest import Taken

AT_ONCE = 1 << 24
VGA = range(0xA0000, 0xC0000)

REGISTER = re.compile(r"\b(RIP|CR0|CR3|CR4|IDT)= *([0-9a-f]+)")


def registers(capture: Capture) -> list[dict[str, int]]:
    """Each processor's, as QEMU told of them, and LSTAR as the guest did."""
    states = re.split(r"^CPU#\d+$", capture.registers, flags=re.MULTILINE)[1:]
    found = [{name.lower(): int(value, 16) for name, value in REGISTER.findall(state)} for state in states]
    lstar = int(capture.manifest["lstar"][0], 16)
    return [{**state, "idt_base": state.pop("idt"), "lstar": lstar} for state in found]


def parts(memory: kallsift.Memory) -> Iterator[tuple[int, int]]:
    """First address and size of the guest's RAM, which neither program writes what the display adapter answers for."""
    for segment in memory.segments:
        if segment.start < VGA.start < segment.end:
            yield segment.start, VGA.start - segment.start
            yield VGA.stop, segment.end - VGA.stop
        else:
            yield segment.start, segment.size


def read(memory: kallsift.Memory, ranges: list[tuple[int, int]]) -> Iterator[bytes]:
    for start, size in ranges:
        for offset in range(0, size, AT_ONCE):
            yield memory.read(start + offset, min(AT_ONCE, size - offset)).tobytes()


@pytest.mark.parametrize("program", ["Xen", "VirtualBox"])
@pytest.mark.parametrize("guest", ["amd64-7.2", "amd64-5.10"])
def test_a_guest(taken: Taken, tmp_path: Path, guest: str, program: str) -> None:
    capture = taken(guest)
    states = registers(capture)
    with kallsift.open(capture.dump("elf")) as plain:
        ranges = list(parts(plain))
        if program == "Xen":
            frames = [number for start, size in ranges for number in range(start >> 12, start + size >> 12)]
            contexts = [xen.context(state["rip"], {each: state[f"cr{each}"] for each in (0, 3, 4)}) for state in states]
            head = xen.head(frames, contexts)
        else:
            head = virtualbox.head(ranges, [virtualbox.processor(state) for state in states])
        with (tmp_path / "core").open("wb") as file:
            file.write(head)
            file.writelines(read(plain, ranges))
        with kallsift.open(tmp_path / "core") as memory:
            assert [(segment.start, segment.size) for segment in memory.segments] == ranges
            assert all(ours == theirs for ours, theirs in zip(read(memory, ranges), read(plain, ranges), strict=True))
            assert [cpu.registers["cr3"] for cpu in memory.hints.cpus] == [state["cr3"] for state in states]
            kernel = kallsift.recover(memory)
    assert kernel.proven
    assert text_of(kernel) == capture.core_kallsyms()
    outcomes = {check.name: check.outcome for check in kernel.evidence}
    wanted = [CheckId.CR3] if program == "Xen" else [CheckId.CR3, CheckId.LSTAR, CheckId.IDT]
    assert [outcomes[name] for name in wanted] == [kallsift.Outcome.PASSED] * len(wanted)


PACKED = 16
"""One in so many blocks is packed: the writer's own packing takes its time."""


@pytest.mark.parametrize("guest", ["amd64-7.2", "amd64-5.10"])
def test_a_guest_of_hyperv(taken: Taken, tmp_path: Path, guest: str) -> None:
    capture = taken(guest)
    states = registers(capture)
    with kallsift.open(capture.dump("elf")) as plain:
        [segment, *_] = plain.segments
        assert segment.start == 0
        ranges = [(0, segment.size // hyperv.BLOCK * hyperv.BLOCK)]
        half = ranges[0][1] // hyperv.PAGE // 2
        # the upper half comes first in the RAM, to see that the runs count
        places = [*range(half * hyperv.PAGE, ranges[0][1], hyperv.BLOCK), *range(0, half * hyperv.PAGE, hyperv.BLOCK)]
        blocks = (plain.read(place, hyperv.BLOCK).tobytes() for place in places)
        some = (hyperv.packed_block(block) if not number % PACKED else block for number, block in enumerate(blocks))
        record = hyperv.partition([hyperv.x86(number, state) for number, state in enumerate(states)])
        with (tmp_path / "guest.vmrs").open("wb") as file:
            file.writelines(hyperv.pieces(hyperv.saved(some, [(half, 0, half), (half, half, 0)], record)))
        with kallsift.open(tmp_path / "guest.vmrs") as memory:
            assert memory.container == "Hyper-V saved state"
            assert all(ours == theirs for ours, theirs in zip(read(memory, ranges), read(plain, ranges), strict=True))
            assert [cpu.registers["cr3"] for cpu in memory.hints.cpus] == [state["cr3"] for state in states]
            kernel = kallsift.recover(memory)
    assert kernel.proven
    assert text_of(kernel) == capture.core_kallsyms()
    outcomes = {check.name: check.outcome for check in kernel.evidence}
    assert outcomes[CheckId.CR3] is outcomes[CheckId.IDT] is kallsift.Outcome.PASSED
