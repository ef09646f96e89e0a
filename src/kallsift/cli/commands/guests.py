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
    "kallsift guests memory.lime -v": "what of each VMCS agrees with the host's kernel, too",
}

COLUMNS = ("vmcs", "revision", "ept_pointer", "cr3", "lstar", "idt_base", "rip")


@click.command(cls=HelpedCommand, examples=EXAMPLES)
@source_options
def guests(request: Request) -> int:
    """Find virtual machines that run by Intel VT-x, by the VMCS pages in memory.

    Prints a line for each virtual processor, with tabs between the columns; unknown values are "-". The position of the
    fields in a VMCS is not published. So it is learnt from values that must agree with the host's kernel and with each
    other.

    The exit code is 1 if no virtual machine was found.
    """
    with recovered(request) as (_, kernels):
        found = [each for kernel in kernels for each in virtual_processors(kernel)]
        if not found:
            complain(
                f"{request.source}: holds no VMCS that agrees with the kernel; no guests run there, or not by VT-x"
            )
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
