"""Define ``kallsift guests``: virtual processors in a host's memory."""

from __future__ import annotations

import click

from kallsift.analysis.hypervisor.vcpus import VirtualProcessor, virtual_processors
from kallsift.cli.exit_codes import ExitCode, verdict
from kallsift.cli.messages import complain, note
from kallsift.cli.options.source import Request, recovered, source_options
from kallsift.cli.rich_help import HelpedCommand

EXAMPLES = {
    "kallsift guests memory.lime": "one line for each virtual processor: its VMCS, EPT pointer, CR3, LSTAR, IDT",
    "kallsift guests memory.lime -v": "also the evidence: what in each VMCS agrees with the host's kernel",
}

COLUMNS = ("vmcs", "revision", "ept_pointer", "cr3", "lstar", "idt_base", "rip")


@click.command(cls=HelpedCommand, examples=EXAMPLES)
@source_options
def guests(request: Request) -> int:
    """Find Intel VT-x virtual machines by the VMCS pages in memory.

    Prints a line for each virtual processor, with tabs between the columns; unknown values are "-". Intel does not
    publish the position of the fields in a VMCS. It is inferred from values that must agree with the host's kernel and
    with each other.

    The exit code is 1 if no virtual machine was found.
    """
    with recovered(request) as (_, kernels):
        found = [each for kernel in kernels for each in virtual_processors(kernel)]
        if not found:
            complain(f"{request.source}: no VMCS agrees with the kernel: no guests run there, or they do not use VT-x")
            return ExitCode.NOTHING
        print(*COLUMNS, sep="\t")
        for processor in found:
            print(*(_shown(processor, column) for column in COLUMNS), sep="\t")
            if request.verbose:
                for line in processor.agreeing:
                    note(f"{processor.vmcs:#x}: {line}")
        return verdict(kernels)


def _shown(processor: VirtualProcessor, column: str) -> str:
    value: int | None = getattr(processor, column)
    return "-" if value is None else f"{value:#x}"
