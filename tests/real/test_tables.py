"""Tables of pointers in real kernels: against the bytes of the dump and the guest's own list of symbols, and hooked."""

from __future__ import annotations

import struct

import pytest

import kallsift
from kallsift.analysis.pointer_tables.pointer_tables import PointerTable, pointer_table
from tests.lab import Capture
from tests.real.conftest import GUESTS, Taken, writable
from tests.real.listed import changed, listed, names_at, resources, running, text_only

CALLS = {
    "x86-64": {0: "read", 1: "write", 39: "getpid", 57: "fork", 60: "exit", 257: "openat"},
    "x86": {1: "exit", 2: "fork", 3: "read", 4: "write", 20: "getpid", 295: "openat"},
    "arm64": {56: "openat", 63: "read", 64: "write", 93: "exit", 172: "getpid"},
    "loongarch64": {56: "openat", 63: "read", 64: "write", 93: "exit", 172: "getpid"},
    "s390x": {1: "exit", 2: "fork", 3: "read", 4: "write", 20: "getpid", 288: "openat"},
}
"""Numbers of system calls, as programs use them (``syscall(2)``)."""

TEXT = {"arm64": "_text", "x86": "_text"}
"""What the resource ``Kernel code`` begins with; elsewhere _stext."""

WINDOWS = {"loongarch64": 0x9000_0000_0000_0000}
"""Where the image lies in a window of the processor's, and what the resource begins with is not listed."""


def asked(capture: Capture, name: str) -> tuple[kallsift.Kernel, PointerTable]:
    kernel = running(capture.dump("elf"))
    return kernel, pointer_table(kernel, name)


def distance(capture: Capture, kernel: kallsift.Kernel) -> int:
    """How far the image lies above its physical address in memory, from the guest's own lists."""
    if kernel.architecture in WINDOWS:
        return WINDOWS[kernel.architecture]
    symbols = listed(capture)
    text = TEXT.get(kernel.architecture or "", "_stext")
    return symbols[text] - resources(capture)["Kernel code"][0]


@pytest.mark.parametrize("guest", GUESTS)
def test_system_calls_are_what_memory_and_the_guest_say(taken: Taken, guest: str) -> None:
    """Word by word from the raw dump, as far as the next symbol that the guest lists."""
    capture = taken(guest)
    kernel, table = asked(capture, "sys_call_table")
    assert table.clean
    symbols, names = listed(capture), names_at(capture)
    start = table.entries[0].address
    assert symbols.get("sys_call_table", start) == start
    size = kernel.symbols.word_size
    letter = {8: "Q", 4: "I"}[size]
    offset = start - distance(capture, kernel)
    data = writable(capture)[offset : offset + size * len(table.entries)].tobytes()
    words = struct.unpack(f"{kernel.byte_order}{len(table.entries)}{letter}", data)
    assert [entry.target for entry in table.entries] == list(words)
    assert [entry.address for entry in table.entries] == [start + size * number for number in range(len(words))]
    for entry in table.entries:
        assert (entry.symbol or "").split("+0x0/")[0] in names[entry.target]
    if "sys_call_table" in symbols:
        behind = min(address for address in names if address > start)
        assert 0 <= (behind - start) // size - len(words) < 64 // size
    for number, call in CALLS[kernel.architecture or ""].items():
        assert any(name.endswith(f"sys_{call}") for name in names[words[number]])


@pytest.mark.parametrize("guest", GUESTS)
def test_without_its_symbol_the_table_is_found_by_its_content(taken: Taken, guest: str) -> None:
    kernel, whole = asked(taken(guest), "sys_call_table")
    less = text_only(kernel)
    assert "sys_call_table" not in less.symbols
    found = pointer_table(less, "sys_call_table")
    assert "no symbol names it" in found.evidence
    assert [entry.target for entry in found.entries] == [entry.target for entry in whole.entries]


@pytest.mark.parametrize("guest", GUESTS)
def test_hooks_are_marked(taken: Taken, guest: str) -> None:
    """Entries that lead into a module, nowhere, and into the middle of a function."""
    capture = taken(guest)
    kernel, table = asked(capture, "sys_call_table")
    module = next(
        address
        for name, address in listed(capture).items()
        if ":" in name and name.endswith(("_init", "_exit", "_open", "_read")) and address
    )
    functions = {entry.number: entry.target for entry in table.entries}
    targets = {
        3: (module, "module"),
        5: (0x1234 if kernel.architecture != "s390x" else 1 << 52, "not mapped"),
        6: (functions[6] + 4, "not at the beginning"),
    }
    words = {table.entries[number].address: target for number, (target, _) in targets.items()}
    hooked = pointer_table(changed(capture, words), "sys_call_table")
    assert not hooked.clean
    assert {entry.number for entry in hooked.entries if entry.fault} == targets.keys()
    for number, (target, why) in targets.items():
        assert hooked.entries[number].target == target
        assert why in hooked.entries[number].fault
    assert "[" in (hooked.entries[3].symbol or "")


@pytest.mark.parametrize("guest", GUESTS)
def test_the_interrupt_table(taken: Taken, guest: str) -> None:
    """x86's gates and arm64's vectors lead to the handlers whose names say for what they are."""
    capture = taken(guest)
    kernel = running(capture.dump("elf"))
    names = names_at(capture)
    if (kernel.architecture or "").startswith("x86"):
        table = pointer_table(kernel, "idt_table")
        assert table.clean
        assert len(table.entries) == 256
        for number, name in {0: "divide_error", 3: "int3", 13: "general_protection", 14: "page_fault"}.items():
            assert any(one.endswith(name) for one in names[table.entries[number].target])
        assert all(entry.symbol for entry in table.entries if entry.target)
    elif kernel.architecture == "arm64":
        table = pointer_table(kernel, "vectors")
        assert table.clean
        assert len(table.entries) == 16
        kinds = ("sync", "irq", "fiq", "error")
        for entry in table.entries:
            assert any(one.endswith(kinds[entry.number % 4]) for one in names[entry.target])
    else:
        pytest.skip("this architecture has no table of interrupts that a symbol or a register names")


@pytest.mark.parametrize("guest", GUESTS)
def test_a_table_that_is_not_there_is_an_error(taken: Taken, guest: str) -> None:
    kernel = running(taken(guest).dump("elf"))
    with pytest.raises(kallsift.KallsiftError, match="no symbol called nosuch"):
        pointer_table(kernel, "nosuch")
