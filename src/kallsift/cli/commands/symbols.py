"""Define ``kallsift symbols``: the kernel's symbol table in the chosen format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kallsift.cli.exit_codes import verdict
from kallsift.cli.messages import warn
from kallsift.cli.options.output_path import output_option
from kallsift.cli.options.source import Request, checked, recovered, source_options
from kallsift.cli.output_file import BY_UMASK, output_file
from kallsift.cli.rich_help import HelpedCommand
from kallsift.output.symbols.formats import FORMATS

if TYPE_CHECKING:
    from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols
    from kallsift.kernel.kernel import Kernel

EXAMPLES = {
    "kallsift symbols memory.lime > kallsyms": "the table as the running kernel's /proc/kallsyms shows it",
    "kallsift symbols memory.raw --format system.map -o System.map": "the same, at link addresses",
    "kallsift symbols memory.raw --format gdb -o kernel.py": "for gdb -x kernel.py; others for Ghidra, IDA, radare2",
    "ssh host cat dump.gz | kallsift symbols -": "from a pipe; SOURCE can be - in every command",
    "kallsift symbols tables.bin --word-size 32": "a file with nothing but the tables, whose word size is unknown",
    "kallsift symbols memory.elf --all -o kallsyms": "every kernel in the dump, into kallsyms.0, kallsyms.1, ...",
}


@click.command(cls=HelpedCommand, examples=EXAMPLES)
@source_options
@output_option()
@click.option(
    "--format",
    "form",
    type=click.Choice(tuple(FORMATS)),
    default="kallsyms",
    help="; ".join(f"{name}: {form.summary}" for name, form in FORMATS.items()) + ".",
)
@click.option(
    "--core", is_flag=True, help="Print the built-in symbols alone, without those of modules, BPF, ftrace and kprobes."
)
def symbols(request: Request, output: Path | None, form: str, core: bool) -> int:
    """Print the kernel's symbols: all of /proc/kallsyms.

    They come in the kernel's own order; duplicates are kept.

    SOURCE is a memory dump or a kernel image, recognised by its content; - stands for standard input.
    """
    chosen = FORMATS[form]
    destination = output_file(output, permissions=BY_UMASK)
    if request.every and destination.is_stream and not chosen.several:
        raise click.UsageError(
            f"--all with --format {form} needs -o FILE: it writes FILE.0, FILE.1, ... (--format json needs no file)."
        )
    with recovered(request) as (memory, kernels):
        loaded = [None if core or not chosen.modules else _dynamic(kernel) for kernel in kernels]
        listings = list(zip(kernels, loaded, strict=True))
        if chosen.several or not request.every:
            destination.write(checked(memory, chosen.write(memory, listings)))
        else:
            targets = [destination.numbered(index) for index in range(len(kernels))]
            for target, listing in zip(targets, listings, strict=True):
                target.write(checked(memory, chosen.write(memory, [listing])))
        for missing in (line for dynamic in loaded if dynamic for line in dynamic.missing):
            warn(f"the symbols are incomplete: {missing}")
        return verdict(kernels, whole=not any(dynamic.missing for dynamic in loaded if dynamic))


def _dynamic(kernel: Kernel) -> DynamicSymbols:
    """Return the symbols that a kernel has beside its built-in ones.

    The module is imported here, because the built-in symbols do not need it.
    """
    from kallsift.analysis.dynamic.dynamic_symbols import dynamic_symbols

    return dynamic_symbols(kernel, with_regions=False)
