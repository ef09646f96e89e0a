"""Define ``kallsift info``: the recovered kernels, their places and the evidence."""

from __future__ import annotations

import sys

import click

from kallsift.cli.exit_codes import verdict
from kallsift.cli.options.source import Request, recovered, source_options
from kallsift.cli.rich_help import HelpedCommand

EXAMPLES = {
    "kallsift info memory.lime": "the running kernel, its tables and the evidence",
    "kallsift info memory.lime --all": "also stale copies and other kernels in the dump",
    "kallsift info DDRCS0.BIN@0x80000000,DDRCS1.BIN@0x100000000": "files without a header, at their addresses",
    "kallsift info memory.lime --json | jq .kernels[0].kaslr_slide": "for use in scripts",
}

PIPE_WIDTH = 120
"""Lowest number of columns if the output is no terminal.

A terminal has a width of its own.
"""


@click.command(cls=HelpedCommand, examples=EXAMPLES)
@source_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def info(request: Request, as_json: bool) -> int:
    """Show what was recovered, where, and the evidence for it.

    SOURCE is a memory dump, recognised by its content, or several files with addresses: FILE@ADDRESS,FILE@ADDRESS.
    """
    with recovered(request) as (memory, kernels):
        if as_json:
            from kallsift.output.symbols.json_writer import document

            sys.stdout.write(document("info", memory, [(kernel, {}) for kernel in kernels]))
        else:
            from rich.console import Console

            from kallsift.output.text.info import info_panel

            console = Console(highlight=False, emoji=False, markup=False)
            if not console.is_terminal:
                console.width = max(console.width, PIPE_WIDTH)
            console.print(info_panel(memory, kernels, request.number or 0))
        return verdict(kernels)
