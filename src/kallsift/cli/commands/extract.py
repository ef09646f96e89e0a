"""Define ``kallsift extract``: bytes of memory at a physical or virtual address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from kallsift.cli.exit_codes import ExitCode, verdict
from kallsift.cli.messages import warn
from kallsift.cli.options.address import Address
from kallsift.cli.options.output_path import output_option
from kallsift.cli.options.source import Request, chosen, opened, recovered, source_options
from kallsift.cli.output_file import PRIVATE, OutputFile, output_file
from kallsift.cli.progress_bar import progress_on_terminal
from kallsift.cli.rich_help import HelpedCommand
from kallsift.errors import KallsiftError, RecoveryError, UnmappedError
from kallsift.kernel.access.virtual_memory import VirtualMemory, virtual_memory
from kallsift.kernel.ram.layout_candidates import placed
from kallsift.kernel.recovery.search import Progress
from kallsift.memory.formats import raw
from kallsift.memory.memory import Memory

CHUNK = 1 << 20

EXAMPLES = {
    "kallsift extract memory.elf 0x1000000 4096 -o page": "a page by its physical address",
    "kallsift extract memory.elf --virtual 0xffffffff81000000 0x200 | xxd": "the same through the kernel's page table",
}


@click.command(cls=HelpedCommand, examples=EXAMPLES)
@source_options
@click.argument("start", type=Address(), metavar="START")
@click.argument("size", type=Address(), metavar="SIZE")
@output_option()
@click.option(
    "--virtual",
    is_flag=True,
    help="START is a virtual address, translated by the kernel's page table. For an image, START always is one.",
)
def extract(request: Request, start: int, size: int, output: Path | None, virtual: bool) -> int:
    """Print SIZE bytes of memory from START, unchanged.

    Missing bytes are never made up: if the source lacks one, that is an error. For a raw dump, the physical addresses
    are those that the kernel in the dump gives.
    """
    if request.every:
        raise click.UsageError("This command handles one kernel: give --kernel N instead of --all.")
    destination = output_file(output, permissions=PRIVATE)
    if virtual:
        with recovered(request) as (_, kernels):
            _give(destination, virtual_memory(kernels[0]), start, size)
            return verdict(kernels)
    with opened(request) as memory:
        code = ExitCode.PROVEN
        if memory.container == raw.CONTAINER and memory.image is None:
            try:
                with progress_on_terminal() as progress:
                    memory = placed(memory, chosen(request, memory.with_hints(request.hints), progress)[0])
            except RecoveryError as error:
                warn(f"no kernel gives the addresses of this source ({error}); START is used as an offset in the file")
                code = ExitCode.PARTIAL
        _give(destination, memory, start, size)
        return code


def _give(destination: OutputFile, memory: Memory | VirtualMemory, start: int, size: int) -> None:
    """Write bytes of a memory to a file or to standard output.

    Nothing is written if a byte is missing.
    """
    if start + size > 1 << 64:
        raise KallsiftError(f"{size:#x} bytes from {start:#x} end beyond the address space; give a smaller SIZE")
    if (missing := memory.first_missing(start, size)) is not None:
        raise UnmappedError(missing, start + size - missing)
    if destination.is_stream:
        # read all first, to find pages that cannot be unpacked; a file needs no test, it is whole or absent
        for _ in _chunks(memory, start, size, None):
            pass
    with progress_on_terminal() as progress:
        destination.write(_chunks(memory, start, size, progress))


def _chunks(memory: Memory | VirtualMemory, start: int, size: int, progress: Progress | None) -> Iterator[memoryview]:
    for done in range(0, size, CHUNK):
        yield np.ascontiguousarray(memory.read(start + done, min(CHUNK, size - done))).data
        if progress:
            progress("writing", min(done + CHUNK, size), size)
