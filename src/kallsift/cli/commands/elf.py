"""Define ``kallsift elf``: the kernel as an ELF file for debuggers.

Disassemblers read it too.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from kallsift.cli.exit_codes import ExitCode, verdict
from kallsift.cli.messages import warn
from kallsift.cli.options.debug_information import DebugRequest, debug_options
from kallsift.cli.options.output_path import output_option
from kallsift.cli.options.source import Request, answered, checked, recovered, source_options
from kallsift.cli.output_file import PRIVATE, output_file
from kallsift.cli.rich_help import HelpedCommand
from kallsift.errors import KallsiftError
from kallsift.output.elf.machines import MACHINES
from kallsift.output.elf.writer import elf_file

EXAMPLES = {
    "kallsift elf memory.lime -o vmlinux.elf": "the kernel as it ran, for gdb, objdump, IDA, Ghidra, perf",
    "kallsift elf memory.lime --types -o vmlinux.elf": "with DWARF, so that gdb knows structures and prototypes",
    "kallsift elf memory.lime --types --modules --unslid -o vmlinux": "for drgn and crash, with the types of modules",
    "kallsift elf memory.lime --types --btf vmlinux.btf -o vmlinux.elf": "the same with the types of a file",
    "kallsift elf memory.lime --unslid -o vmlinux.elf": "the same, at link addresses",
}


@click.command(cls=HelpedCommand, examples=EXAMPLES)
@source_options
@output_option(
    "Write to FILE, with --all to FILE.0, FILE.1, ...; no partial file is left after an error.", required=True
)
@click.option(
    "--unslid",
    is_flag=True,
    help="Use link addresses, without the KASLR slide; pointers in the content are not changed.",
)
@click.option(
    "--machine",
    type=click.Choice(tuple(MACHINES)),
    metavar="NAME",
    help=f"Architecture in the ELF header, instead of the recovered one: {', '.join(MACHINES)}.",
)
@debug_options
def elf(request: Request, output: Path, unslid: bool, machine: str | None, debug: DebugRequest) -> int:
    """Write the kernel as an ELF file for debuggers and disassemblers.

    It has the image, sections, symbols with types and sizes, and the build ID.

    With --types it also has DWARF, which gives gdb, pahole, drgn and crash the structures, and disassemblers the
    prototypes. drgn and crash add the slide themselves, so write the file with --unslid for them.

    From a dump, the image has the contents of memory: patched code, current data, and in the pages of init sections
    whatever was written there later. Pages that the source lacks are left out, never made up.

    The exit code is 3 if any of these pages or any symbol's name is missing, if any page of the source could not be
    read (it is written as zeros), if types of modules could not be written, or if the kernel is not proven.
    """
    destination = output_file(output, permissions=PRIVATE)
    targets = [destination.numbered(0) if request.every else destination]
    with recovered(request) as (_, kernels):
        targets += [destination.numbered(index) for index in range(1, len(kernels))]
        complete = True
        for index, (target, kernel) in enumerate(zip(targets, kernels, strict=True)):
            types = answered(request, index, partial(debug.types_of, kernel), target.name)
            if isinstance(types, KallsiftError):
                types, complete = None, False
            file = elf_file(kernel, unslid=unslid, machine=machine, types=types, modules=debug.modules)
            for remark in file.remarks:
                warn(f"{target.name}: {remark}" if request.every else remark)
            target.write(checked(kernel.memory, file.chunks))
            complete = complete and file.complete and not kernel.memory.has_unreadable
        return verdict(kernels) if complete else ExitCode.PARTIAL
