"""Define ``kallsift config``: the configuration that the kernel was built with."""

from __future__ import annotations

from pathlib import Path

import click

from kallsift.cli.exit_codes import verdict
from kallsift.cli.options.output_path import output_option
from kallsift.cli.options.source import Request, checked, recovered, source_options
from kallsift.cli.output_file import BY_UMASK, output_file
from kallsift.cli.rich_help import HelpedCommand
from kallsift.modules.ikconfig import kernel_config

EXAMPLES = {
    "kallsift config vmlinuz -o .config": "as input for make olddefconfig in the kernel's source",
    "kallsift config memory.lime | grep RANDSTRUCT": "a single setting of the kernel in a dump",
}


@click.command(cls=HelpedCommand, examples=EXAMPLES)
@source_options
@output_option()
def config(request: Request, output: Path | None) -> int:
    """Print the configuration that the kernel was built with (.config).

    The image has it if the kernel was built with CONFIG_IKCONFIG=y, as those of Android are. With CONFIG_IKCONFIG=m
    the module configs has it, if it is loaded. Debian's kernels do not carry it; their packages install it in /boot.

    The exit code is 1 if the kernel does not carry it.
    """
    if request.every:
        raise click.UsageError("This command handles one kernel: give --kernel N instead of --all.")
    destination = output_file(output, permissions=BY_UMASK)
    with recovered(request) as (memory, kernels):
        destination.write(checked(memory, [kernel_config(kernels[0])]))
        return verdict(kernels)
