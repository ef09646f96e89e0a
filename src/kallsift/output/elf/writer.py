"""Write an ELF executable of a kernel.

It has headers, the image as it ran, its symbol table and its build ID.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kallsift.errors import KallsiftError
from kallsift.kernel.kernel import Kernel
from kallsift.output.elf.file_bytes import FileBytes
from kallsift.output.elf.layout import Layout, lay_out, with_per_cpu_section
from kallsift.output.elf.machines import MACHINES
from kallsift.output.elf.symbols import FUNCTION, LOCAL, ElfSymbols, elf_symbols

if TYPE_CHECKING:
    from kallsift.output.dwarf.debug_sections import Unit
    from kallsift.types.types import Types


@dataclass(frozen=True)
class ElfFile:
    """A file to write.

    Attributes:
        chunks: its bytes, in order, in pieces of bounded size.
        remarks: missing or unverified parts of it, one line each.
        complete: whether the source holds all of the image that was not zero at the start, and all names are known.
    """

    chunks: Iterator[bytes | memoryview]
    remarks: tuple[str, ...]
    complete: bool


def elf_file(
    kernel: Kernel,
    *,
    unslid: bool = False,
    machine: str | None = None,
    types: Types | None = None,
    modules: bool = False,
) -> ElfFile:
    """Return a kernel as an ELF file.

    Args:
        kernel: the kernel, with symbols and memory.
        unslid: whether all addresses of the file are link addresses of the kernel.
        machine: a name of `MACHINES`; None for the kernel's own.
        types: the kernel's types, to be written as DWARF; None to write none.
        modules: whether to write those of loaded modules too.

    Raises:
        KallsiftError: if the image cannot be located, or the slide is needed but unknown. It is raised before the first
            chunk.
    """
    if unslid and kernel.kaslr_slide is None:
        raise KallsiftError("this kernel's KASLR slide is not known, so it can only be written as it ran: no --unslid")
    layout = lay_out(kernel) if types is None else with_per_cpu_section(kernel, lay_out(kernel))
    symbols = elf_symbols(kernel, layout)
    architecture = machine or kernel.architecture
    remarks = []
    if architecture not in MACHINES:
        remarks.append("the architecture is not known, so nothing will be disassembled; name it with --machine")
    if layout.missing:
        remarks.append(
            f"{layout.missing:#x} bytes of the image are not in the source; their sections are without content"
        )
    if len(symbols.rows) < len(kernel.symbols):
        remarks.append(f"{len(kernel.symbols) - len(symbols.rows)} symbols without a known name are left out")
    if layout.build_id is None:
        remarks.append("no build ID was found")
    writer = FileBytes(kernel, layout, symbols, architecture, unslid)
    complete = not layout.missing and len(symbols.rows) == len(kernel.symbols)
    if types is not None:
        from kallsift.output.dwarf.debug_sections import debug_sections

        debug = debug_sections(types, _unit(kernel, layout, symbols), slide=writer.slide, modules=modules)
        writer.debug, complete = debug.contents, complete and not debug.remarks
        remarks += debug.remarks
    return ElfFile(writer.chunks(), tuple(remarks), complete)


def _unit(kernel: Kernel, layout: Layout, symbols: ElfSymbols) -> Unit:
    """Return the kernel's functions."""
    from kallsift.output.dwarf.debug_sections import Unit
    from kallsift.output.dwarf.functions import CodeSymbols

    names = kernel.symbols.names()
    chosen = np.flatnonzero(symbols.info & 0xF == FUNCTION)
    code = CodeSymbols(
        names=[names[row] for row in symbols.rows[chosen].tolist()],
        addresses=symbols.values[chosen],
        sizes=symbols.sizes[chosen],
        is_global=symbols.info[chosen] >> 4 != LOCAL,
    )
    return Unit("vmlinux", layout.start, layout.end, code)
