"""What a source or its user says of a machine is used where nothing else tells, and contradicted where it is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import kallsift
from kallsift import Hints, Kernel, Memory, Outcome, State
from kallsift.memory.memory import AddressSpace
from kallsift.memory.segments import BytesSegment
from tests.kernel.made_machine import DATA, ROOT, TABLES, VARIABLES, Machine

pytestmark = pytest.mark.sampled(2)

ENTRY = "entry_SYSCALL_64"
NAMES = ("vmcoreinfo_here", ENTRY, "init_uts_ns")


def machine() -> Machine:
    return Machine(variables=dict.fromkeys(NAMES, 0))


def text(made: Machine, moved: int = 0) -> bytes:
    names = ("_stext", "init_task", "linux_banner", "init_uts_ns")
    lines = [f"SYMBOL({name})={made.address(name) + moved:x}" for name in names]
    return "\n".join(["OSRELEASE=7.1.0-made", "PAGESIZE=4096", *lines, ""]).encode()


def carved(made: Machine) -> Memory:
    """The tables alone, without all that they are placed by."""
    start = made.place + TABLES
    data = np.array(made.data[start : made.place + DATA])
    return Memory("carved", "raw", AddressSpace.PHYSICAL, (BytesSegment(start, data),))


def checks(kernel: Kernel) -> dict[str, Outcome]:
    return {check.name: check.outcome for check in kernel.evidence}


def told(kernel: Kernel) -> str:
    return next(check.detail for check in kernel.evidence if check.name == "placement")


def test_lstar_places_tables_that_nothing_else_does() -> None:
    made = machine()
    kernel = kallsift.recover(carved(made).with_hints(made.memory(lstar=made.address(ENTRY)).hints))
    assert (kernel.proven, kernel.state) == (False, State.TABLES)
    assert kernel.symbols.same_as(kallsift.recover(made.memory()).symbols)
    assert "as LSTAR says" in told(kernel)


@pytest.mark.parametrize("where", ["note", "memory"])
def test_vmcoreinfo_places_tables_that_nothing_else_does(where: str) -> None:
    made = machine()
    memory = carved(made)
    if where == "note":
        memory = replace(memory, hints=Hints(vmcoreinfo=text(made)))
    else:
        page = np.frombuffer(text(made).ljust(1 << 16, b"\0"), np.uint8)
        memory = replace(memory, segments=(BytesSegment(0x10_0000, page), *memory.segments))
    kernel = kallsift.recover(memory)
    assert (kernel.proven, kernel.state) == (False, State.TABLES)
    assert kernel.symbols.same_as(kallsift.recover(made.memory()).symbols)
    assert "VMCOREINFO" in told(kernel)


def test_a_text_whose_symbols_disagree_places_nothing() -> None:
    made = machine()
    lines = (
        text(made)
        .replace(b"SYMBOL(_stext)=f", b"SYMBOL(_stext)=e")
        .replace(b"SYMBOL(init_task)=f", b"SYMBOL(init_task)=d")
    )
    lines = lines.replace(b"SYMBOL(linux_banner)=f", b"SYMBOL(linux_banner)=c")
    kernel = kallsift.recover(replace(carved(made), hints=Hints(vmcoreinfo=lines)))
    assert "VMCOREINFO" not in told(kernel)


def test_a_page_table_that_is_cut_off() -> None:
    made = machine()
    memory = made.memory()
    cut = replace(memory, segments=(BytesSegment(0, made.data[: made.place + ROOT]),))
    kernel = kallsift.recover(cut)
    assert not kernel.proven
    assert kernel.symbols.same_as(kallsift.recover(memory).symbols)


@pytest.mark.parametrize(
    ("register", "value"),
    [("cr3", 0x5000), ("idt_base", 0x1234_5000), ("ttbr1", 0x5000), ("lstar", 0x1234), ("vbar", 0x1234)],
)
def test_a_wrong_register_is_warned_of(register: str, value: int) -> None:
    kernel = kallsift.recover(machine().memory(**{register: value}))
    name = {"idt_base": "IDT"}.get(register, register.upper())
    assert (kernel.proven, kernel.state) == (False, State.RUNNING)
    assert checks(kernel)[name] is Outcome.FAILED


def test_a_register_that_cannot_be_asked_is_not_said_to_be_missing() -> None:
    made = machine()
    cut = replace(made.memory(cr3=made.pgds[0]), segments=(BytesSegment(0, made.data[: made.place + ROOT]),))
    (cr3,) = (check for check in kallsift.recover(cut).evidence if check.name == "CR3")
    assert (cr3.outcome, "records no" in cr3.detail) == (Outcome.ABSENT, False)


@pytest.mark.parametrize(
    ("kind", "expected"), [("right", True), ("wrong", False), ("without a head", False), ("of nothing known", True)]
)
def test_a_vmcoreinfo_that_is_given(kind: str, expected: bool) -> None:
    made = machine()
    lines = text(made, 0 if kind == "right" else 0x20_0000)
    if kind == "without a head":
        lines = lines[lines.index(b"SYMBOL") :]
    elif kind == "of nothing known":
        lines = b"OSRELEASE=7.1.0-made\nPAGESIZE=4096\nSYMBOL(nothing)=ffffffff81000000\n"
    kernel = kallsift.recover(replace(made.memory(), hints=Hints(vmcoreinfo=lines)))
    assert kernel.proven is expected
    outcome = Outcome.ABSENT if kind == "of nothing known" else Outcome.PASSED if expected else Outcome.FAILED
    assert checks(kernel)["VMCOREINFO"] is outcome


def test_variables_stand_behind_each_other() -> None:
    assert machine().address(ENTRY) == machine().base + VARIABLES + 8
