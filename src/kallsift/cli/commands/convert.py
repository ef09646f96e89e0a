"""Define ``kallsift convert``: the same memory in another dump format."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from kallsift.cli.exit_codes import ExitCode
from kallsift.cli.messages import note, warn
from kallsift.cli.options.source import Request, checked, chosen, opened, source_options
from kallsift.cli.output_file import PRIVATE, output_file
from kallsift.cli.progress_bar import progress_on_terminal
from kallsift.cli.rich_help import HelpedCommand
from kallsift.errors import KallsiftError, RecoveryError
from kallsift.kernel.ram.layout_candidates import placed
from kallsift.memory.memory import AddressSpace
from kallsift.output.dumps.formats import DUMPS, format_of
from kallsift.output.dumps.kdump import PACKINGS, kdump_dump
from kallsift.output.dumps.machine_facts import memory_facts
from kallsift.output.dumps.notes import left_out, registers_of

EXAMPLES = {
    "kallsift convert memory.lime memory.elf": "an ELF core with VMCOREINFO, for crash, drgn and makedumpfile",
    "kallsift convert memory.vmem memory.kdump --packing zstd": "the same, with each page compressed",
    "kallsift convert memory.kdump memory.lime": "what Volatility opens",
}


@click.command(cls=HelpedCommand, examples=EXAMPLES)
@source_options
@click.argument("output", type=click.Path(path_type=Path), metavar="OUT")
@click.option(
    "--format",
    "form",
    type=click.Choice(tuple(DUMPS)),
    help="; ".join(f"{name}: {each.summary}" for name, each in DUMPS.items()) + ". Default: by the suffix of OUT.",
)
@click.option(
    "--packing", type=click.Choice(tuple(PACKINGS)), default="zlib", help="Compression of the pages of a kdump."
)
@click.option("--as-is", is_flag=True, help="Do not look for a kernel: keep the addresses and notes of the source.")
def convert(request: Request, output: Path, form: str | None, packing: str, as_is: bool) -> int:
    """Write the memory of a source as raw, LiME, ELF core or kdump.

    ELF cores and kdumps get the registers that the source records, and VMCOREINFO: the source's own, else the text that
    the kernel keeps in memory, else one rebuilt from the recovered kernel. Registers that do not fit into the format
    are named on standard error. Memory that is missing in the source is missing in the file too.

    The exit code is 3 if no kernel was recovered (also for raw and LiME; with --as-is no kernel is looked for), or if
    pages of the source could not be read: they are written as zeros.
    """
    form = form or format_of(output.name)
    if form is None:
        raise click.UsageError(f"No format belongs to the suffix of {output.name}; give --format.")
    if request.every:
        raise click.UsageError("The result is one dump, whatever kernels it holds; leave out --all.")
    destination = output_file(output, permissions=PRIVATE)
    destination.check_order(is_ordered=DUMPS[form].ordered)
    with opened(request) as memory, progress_on_terminal() as progress:
        if memory.image is not None or memory.space is not AddressSpace.PHYSICAL or not memory.segments:
            raise KallsiftError(
                f"{request.source}: holds no physical memory, so it cannot be converted; name a memory dump"
            )
        memory = memory.with_hints(request.hints)
        kernel = None
        if not as_is:
            try:
                kernel = chosen(request, memory, progress)[0]
            except RecoveryError as error:
                warn(f"no kernel was recovered ({error})")
        memory = placed(memory, kernel)
        facts = memory_facts(memory, kernel if DUMPS[form].described else None)
        if DUMPS[form].described and facts.origin in (None, "rebuilt"):
            found = (
                "no VMCOREINFO was found"
                if facts.origin is None
                else "VMCOREINFO was rebuilt from the recovered kernel"
            )
            warn(f"{found}; give tools that need the sizes of structures a vmlinux with debug information")
        lacking = left_out(facts) if DUMPS[form].described else registers_of(facts)
        if lacking is not None:
            note(f"kallsift: {destination.name} leaves out {lacking}")
        write = partial(kdump_dump, packing=packing) if form == "kdump" else DUMPS[form].write
        destination.write_pieces(checked(memory, write(memory, facts, progress)))
    return ExitCode.PROVEN if (as_is or kernel) and not memory.has_unreadable else ExitCode.PARTIAL
