"""List the formats that dumps can be converted to, by name and by suffix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kallsift.memory.memory import Memory
from kallsift.output.dumps.chunks import Piece, Progress
from kallsift.output.dumps.elf_core import elf_core_dump
from kallsift.output.dumps.kdump import kdump_dump
from kallsift.output.dumps.lime import lime_dump
from kallsift.output.dumps.machine_facts import Facts
from kallsift.output.dumps.raw import raw_dump


@dataclass(frozen=True)
class DumpFormat:
    """One format of dumps.

    Attributes:
        summary: text for the help.
        suffixes: usual suffixes of files in it.
        write: function that yields the pieces of a file.
        ordered: whether the pieces come in order, so that they can be written to a pipe.
        described: whether it stores facts about the machine besides its bytes.
    """

    summary: str
    suffixes: tuple[str, ...]
    write: Callable[[Memory, Facts, Progress | None], Iterator[Piece]]
    ordered: bool = True
    described: bool = False


DUMPS = {
    "raw": DumpFormat(
        "offset = physical address, with holes where memory is missing", (".raw", ".img", ".bin", ".mem"), raw_dump
    ),
    "lime": DumpFormat("ranges of memory with their addresses", (".lime",), lime_dump),
    "elf": DumpFormat(
        "core with registers and VMCOREINFO, as QEMU writes it", (".elf", ".core", ".vmcore"), elf_core_dump, True, True
    ),
    "kdump": DumpFormat("the same, with each page compressed", (".kdump",), kdump_dump, False, True),
}


def format_of(name: str) -> str | None:
    """Return the format that a file's name stands for; None if it stands for none."""
    return next((key for key, each in DUMPS.items() if name.lower().endswith(each.suffixes)), None)
