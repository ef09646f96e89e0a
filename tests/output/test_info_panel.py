"""The terminal view must show all that is known, and nothing of a dump may act on the terminal."""

from __future__ import annotations

import io

from rich.console import Console

from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kernel.kernel import Kernel
from kallsift.memory.memory import Memory
from kallsift.output.text.info import info_panel
from tests.output.sample import kernel, memory, unproven


def shown(source: Memory, *kernels: Kernel, width: int = 120) -> str:
    """What a terminal without colours shows."""
    screen = io.StringIO()
    Console(file=screen, width=width, color_system=None, force_terminal=True).print(info_panel(source, kernels))
    return screen.getvalue()


def test_all_facts_are_there() -> None:
    text = shown(memory(), kernel())
    for fact in (
        "memory.raw",
        "raw, 4,096 bytes in one range",
        "kernel 0: running, proven",
        "Linux version 7.2.13",
        "x86-64",
        "8, addresses self-relative",
        "0xffffffff9fa00000",
        "0x5e00000",
        "0x1ea00000",
        "0x802a000, 4-level",
        "names",
        "0x73d0f44",
        "0xffffffffa0fd0f44",
        "2,943,356",
        "✓  markers",
    ):
        assert fact in text


def test_what_is_unknown_or_failed_is_said() -> None:
    text = shown(memory(), kernel(), unproven())
    assert "kernel 1: stale copy, NOT PROVEN" in text
    assert "unknown" in text
    assert "✗  page table" in text


def test_hostile_strings_are_harmless() -> None:
    evil = "\x1b]0;owned\x07 [red]markup[/] \u202e\n"
    check = Check(CheckId.NAMES, Outcome.PASSED, evil)
    text = shown(memory(evil, notes=(evil,)), kernel(banner=evil, evidence=(check,), architecture=evil))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert "[red]markup[/]" in text


def test_a_narrow_terminal_is_enough() -> None:
    assert all(len(line) <= 60 for line in shown(memory(), kernel(), width=60).splitlines())
