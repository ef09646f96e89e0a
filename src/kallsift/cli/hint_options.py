"""What a user knows of a machine's processors: options for it, which are checked and never trusted."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from kallsift.cli.address import Address
from kallsift.cli.rich_help import source_option
from kallsift.memory.model import CpuState, Hints

REGISTERS = {
    "lstar": ("lstar", "Where SYSCALL enters the kernel: MSR 0xC0000082 of x86-64."),
    "idt": ("idt_base", "Where x86's interrupt descriptor table lies."),
    "cr3": ("cr3", "Physical address of x86's page table."),
    "ttbr1": ("ttbr1", "Physical address of arm64's page table of the kernel."),
    "vbar": ("vbar", "Where exceptions enter the kernel on arm64."),
}
"""Options, with the register's name in `CpuState` and what it is."""

LARGEST = 1 << 20
"""Bytes of a VMCOREINFO text that are read at most."""


def hint_options(command: Callable[..., int]) -> Callable[..., int]:
    """Adds the options to a command, which gets them as ``hints``."""

    @functools.wraps(command)
    def with_hints(*arguments: Any, vmcoreinfo: Path | None, **rest: Any) -> int:
        values = {register: value for name, (register, _) in REGISTERS.items() if (value := rest.pop(name)) is not None}
        cpus = (CpuState(0, values),) if values else ()
        return command(*arguments, hints=Hints(cpus, _text(vmcoreinfo)), **rest)

    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    text = "VMCOREINFO text, as a crash tool or a note has it."
    with_hints = source_option("--vmcoreinfo", type=file, metavar="FILE", help=text)(with_hints)
    # click shows options in the reverse order of their decorators
    for name, (_, meaning) in reversed(REGISTERS.items()):
        with_hints = source_option(f"--{name}", type=Address(), metavar="ADDRESS", help=meaning)(with_hints)
    return with_hints


def _text(path: Path | None) -> bytes | None:
    if path is None:
        return None
    with path.open("rb") as file:
        text = file.read(LARGEST)
    if not re.search(
        rb"^(OSRELEASE|PAGESIZE|BUILD-ID|(SYMBOL|NUMBER|OFFSET|SIZE|LENGTH)\([^)\n]*\))=", text, re.MULTILINE
    ):
        raise click.UsageError(f"{path} has no line of VMCOREINFO, such as OSRELEASE=...; give its text alone.")
    return text
