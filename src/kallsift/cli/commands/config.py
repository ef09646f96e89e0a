"""Define ``kallsift config``: the configuration that the kernel was built with."""

from __future__ import annotations

from pathlib import Path

import click

from kallsift.cli.exit_codes import verdict
from kallsift.cli.options.source import Request, checked, recovered, source_options
from kallsift.cli.output_file import BY_UMASK, output_file
from kallsift.cli.rich_help import HelpedCommand
from kallsift.modules.ikconfig import kernel_config

EXAMPLES = {
    "kallsift config vmlinuz -o .config": "what make olddefconfig of the kernel's source takes",
    "kallsift config memory.lime | grep RANDSTRUCT": "a single setting of the kernel in a dump",
}


@click.command(cls=HelpedCommand, examples=EXAMPLES)
@source_options
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write to FILE, whole or not at all."
)
def config(request: Request, output: Path | None) -> int:
    """Print the configuration that the kernel was built with (.config).

    Kernels have it in their image with CONFIG_IKCONFIG=y, as those of Android, or in the module configs with
    CONFIG_IKCONFIG=m, if that is loaded. Debian's have none: their packages have it as a file in /boot. The exit code
    is 1 if there is none.
    """
    if request.every:
        raise click.UsageError("--all makes no sense here; choose one kernel with --kernel.")
    destination = output_file(output, permissions=BY_UMASK)
    with recovered(request) as (memory, kernels):
        destination.write(checked(memory, [kernel_config(kernels[0])]))
        return verdict(kernels)
