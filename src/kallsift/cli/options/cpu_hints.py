"""Define options for facts about a machine that the user knows.

They are checked and never trusted, or used if nothing else decides.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from kallsift.cli.options.address import Address
from kallsift.cli.rich_help import source_option
from kallsift.memory.input_files import open_input
from kallsift.memory.memory import CpuState, Hints

REGISTERS = {
    "lstar": ("lstar", "Virtual address at which SYSCALL enters the kernel: MSR 0xC0000082 of x86-64."),
    "idt": ("idt_base", "Virtual address of x86's interrupt descriptor table."),
    "cr3": ("cr3", "Physical address of x86's page table."),
    "ttbr1": ("ttbr1", "Physical address of arm64's page table of the kernel."),
    "vbar": ("vbar", "Virtual address of arm64's exception vectors (VBAR_EL1)."),
}
"""Options, with the register's name in `CpuState` and its description."""

WORD_SIZES = {"32": 4, "64": 8}
"""Bytes of a word, by the value of the option, which is its bits."""

BYTE_ORDERS = {"little": "<", "big": ">"}
"""Byte orders as in `Hints`, by the value of the option."""

LARGEST = 1 << 20
"""Highest number of bytes of a VMCOREINFO text that are read."""


def hint_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options to a command, which receives them as ``hints``."""

    @functools.wraps(command)
    def with_hints(
        *arguments: Any, vmcoreinfo: Path | None, word_size: str | None, byte_order: str | None, **rest: Any
    ) -> int:
        values = {register: value for name, (register, _) in REGISTERS.items() if (value := rest.pop(name)) is not None}
        cpus = (CpuState(0, values),) if values else ()
        words = WORD_SIZES.get(word_size or ""), BYTE_ORDERS.get(byte_order or "")
        return command(*arguments, hints=Hints(cpus, _text(vmcoreinfo), *words), **rest)

    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    text = "File with the VMCOREINFO text, as makedumpfile or an ELF note has it."
    meaning = "Byte order to use if the tables can be read in both."
    with_hints = source_option("--byte-order", type=click.Choice(list(BYTE_ORDERS)), help=meaning)(with_hints)
    meaning = "Word size to use if the tables can be read with both."
    with_hints = source_option("--word-size", type=click.Choice(list(WORD_SIZES)), help=meaning)(with_hints)
    with_hints = source_option("--vmcoreinfo", type=file, metavar="FILE", help=text)(with_hints)
    # click shows options in the reverse order of their decorators
    for name, (_, meaning) in reversed(REGISTERS.items()):
        with_hints = source_option(f"--{name}", type=Address(), metavar="ADDRESS", help=meaning)(with_hints)
    return with_hints


def _text(path: Path | None) -> bytes | None:
    if path is None:
        return None
    with open_input(path) as file:
        text = file.read(LARGEST)
    if not re.search(
        rb"^(OSRELEASE|PAGESIZE|BUILD-ID|(SYMBOL|NUMBER|OFFSET|SIZE|LENGTH)\([^)\n]*\))=", text, re.MULTILINE
    ):
        raise click.UsageError(f"{path} has no line of VMCOREINFO, such as OSRELEASE=...; give the text alone.")
    return text
