"""Define ``kallsift diff``: the differences between two sources' symbols."""

from __future__ import annotations

import sys
from dataclasses import replace

import click

from kallsift.analysis.comparison import compare
from kallsift.cli.exit_codes import ExitCode, verdict
from kallsift.cli.messages import note
from kallsift.cli.options.source import Request, complete_file, source_options
from kallsift.cli.rich_help import HelpedCommand
from kallsift.cli.symbol_sources import listings
from kallsift.memory.memory import Hints, printable
from kallsift.output.text.comparison import comparison_json, comparison_lines, comparison_summary

EXAMPLES = {
    "kallsift diff memory.lime kallsyms": "a dump and a saved /proc/kallsyms",
    "kallsift diff memory.lime /boot/vmlinuz": "whether the running kernel is that image",
    "kallsift diff --core System.map vmlinux": "two lists of symbols",
}


@click.command(cls=HelpedCommand, examples=EXAMPLES)
@source_options
@click.argument("other", shell_complete=complete_file)
@click.option("--core", is_flag=True, help="Compare the built-in symbols alone, without those of modules and BPF.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def diff(request: Request, other: str, core: bool, as_json: bool) -> int:
    """Compare the symbols of two sources.

    Sources are dumps, images, saved /proc/kallsyms, System.map, ELF files with a symbol table. A KASLR slide between
    them is not a difference. Prints a line for each difference: "- address type name" if only SOURCE has it, "+ ..." if
    only OTHER has it, "~ address address type name" if its address differs, "! address type type name" if its type
    differs. Modules are compared if both sources list some. A symbol is not a difference if a damaged table may have
    lost its name or address. The options of every SOURCE apply to SOURCE; --pause and --verbose apply to OTHER too.

    The exit code is 0 if they agree, 4 if they differ, 3 if they agree but one is not proven or has lost symbols.
    """
    if request.every:
        raise click.UsageError("This command compares two kernels: give --kernel N instead of --all.")
    first = replace(request, label=f"{printable(request.source)}: ")
    second = replace(request, source=other, number=None, base=None, hints=Hints(), label=f"{printable(other)}: ")
    with listings(first, core=core, elf=True) as (before,), listings(second, core=core, elf=True) as (after,):
        comparison = compare(before.listing, after.listing)
        if as_json:
            sys.stdout.write(comparison_json(comparison, (printable(request.source), printable(other))))
        else:
            word_size = max(before.listing.symbols.word_size, after.listing.symbols.word_size)
            sys.stdout.writelines(f"{line}\n" for line in comparison_lines(comparison, word_size))
        note(f"{request.source} and {other} {comparison_summary(comparison)}")
        if not comparison.agree:
            return ExitCode.DIFFERENT
        kernels = [one.kernel for one in (before, after) if one.kernel is not None]
        return verdict(kernels, whole=before.whole and after.whole and not comparison.unknown)
