"""Print tables of pointers, for ``kallsift lookup --table``."""

from __future__ import annotations

from kallsift.analysis.pointer_tables.pointer_tables import pointer_table
from kallsift.cli.exit_codes import verdict
from kallsift.cli.messages import note, warn
from kallsift.cli.options.source import Request, recovered
from kallsift.output.text.pointer_tables import table_lines


def print_table(request: Request, name: str) -> int:
    """Print the table of a name for each kernel, and return the exit code."""
    clean = True
    with recovered(request) as (_, kernels):
        for index, kernel in enumerate(kernels):
            found = pointer_table(kernel, name)
            if request.every:
                print(f"kernel {index}:")
            for line in table_lines(found, kernel.symbols.word_size):
                print(line)
            note(f"kallsift: {found.name}: {found.evidence}")
            if not found.clean:
                marked = sum(bool(entry.fault) for entry in found.entries)
                warn(
                    f"{marked} of {len(found.entries)} entries of {found.name} do not point to functions of the kernel"
                )
            for missing in found.missing:
                warn(f"the symbols are incomplete: {missing}")
            clean &= found.clean
        return verdict(kernels, whole=clean)
