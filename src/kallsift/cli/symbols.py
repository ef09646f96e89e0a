"""``kallsift symbols``: the kernel's symbol table, in the format that is asked for."""

from __future__ import annotations

from pathlib import Path

import click

from kallsift.cli.destination import check_target, print_chunks, save_chunks
from kallsift.cli.exit_codes import verdict
from kallsift.cli.rich_help import HelpedCommand
from kallsift.cli.source_options import Request, recovered, source_options
from kallsift.output.formats import FORMATS

EXAMPLES = {
    "kallsift symbols memory.lime > kallsyms": "the table as the running kernel's /proc/kallsyms shows it",
    "kallsift symbols memory.raw --format system.map -o System.map": "the same at the addresses it was linked at",
    "kallsift symbols memory.elf --all -o kallsyms": "every kernel in the dump, into kallsyms.0, kallsyms.1, ...",
}


@click.command(cls=HelpedCommand, examples=EXAMPLES)
@source_options
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write to FILE, whole or not at all."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(tuple(FORMATS)),
    default="kallsyms",
    help="; ".join(f"{name}: {form.summary}" for name, form in FORMATS.items()) + ".",
)
@click.option(
    "--core", is_flag=True, expose_value=False, help="The built-in table alone (the default: all there is yet)."
)
def symbols(request: Request, output: Path | None, form: str) -> int:
    """Print the kernel's symbol table in the kernel's own order, duplicates kept.

    SOURCE is a memory dump: raw, LiME or ELF core, recognised by its content.
    """
    chosen = FORMATS[form]
    if request.every and output is None and chosen.write_all is None:
        raise click.UsageError(
            f"--all with --format {form} needs -o FILE: it writes FILE.0, FILE.1, ... (--format json needs no file)."
        )
    if output is not None:
        check_target(output, request.source)
    with recovered(request) as (_, kernels):
        if not request.every:
            texts = [(output, chosen.write(kernels[0]))]
        elif chosen.write_all is not None:
            texts = [(output, chosen.write_all(kernels))]
        else:
            assert output is not None
            targets = [output.with_name(f"{output.name}.{index}") for index in range(len(kernels))]
            for target in targets:
                check_target(target, request.source)
            texts = [(target, chosen.write(kernel)) for target, kernel in zip(targets, kernels, strict=True)]
        for place, chunks in texts:
            if place is None:
                print_chunks(chunks)
            else:
                save_chunks(place, chunks)
        return verdict(kernels)
