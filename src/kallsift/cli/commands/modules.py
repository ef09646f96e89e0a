"""Define ``kallsift modules``: the loaded modules, including hidden ones."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import click

from kallsift.cli.exit_codes import ExitCode, verdict
from kallsift.cli.messages import complain, warn
from kallsift.cli.options.source import Request, answered, recovered, source_options
from kallsift.cli.rich_help import HelpedCommand
from kallsift.errors import KallsiftError
from kallsift.modules.inventory import Inventory, LoadedModule, inventory
from kallsift.output.text.modules import (
    module_table,
    modules_document,
    parameter_lines,
    proc_modules,
    section_lines,
)

EXAMPLES = {
    "kallsift modules memory.lime": "the loaded modules, and hidden ones",
    "kallsift modules memory.lime --format proc": "the running kernel's /proc/modules",
    "kallsift modules memory.lime --sections kvm": "the sections of a module, for a debugger",
    "kallsift modules memory.lime --json | jq '.kernels[0].modules[] | select(.listed | not)'": "hidden modules",
}

Lines = Callable[[Inventory, Sequence[LoadedModule]], Iterable[str]]

FORMATS: dict[str, Lines] = {"table": module_table, "proc": proc_modules}


@click.command(cls=HelpedCommand, examples=EXAMPLES)
@source_options
@click.option(
    "--format",
    "form",
    type=click.Choice(tuple(FORMATS)),
    default="table",
    help="table: one line for each module, under headings; proc: as /proc/modules prints the listed modules.",
)
@click.option("--sections", is_flag=True, help="Print each section's address: MODULE SECTION ADDRESS.")
@click.option("--parameters", is_flag=True, help="Print each parameter's value: MODULE PARAMETER TYPE VALUE.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document with all of this.")
@click.argument("names", nargs=-1, metavar="[MODULE]...")
def modules(
    request: Request, names: tuple[str, ...], form: str, sections: bool, parameters: bool, as_json: bool
) -> int:
    """Show the loaded modules, or those with the given names.

    The module that was loaded last comes first.

    A module that is in memory but not in the kernel's list (hidden, or just being unloaded) comes after the others.
    The table has "NO" in its column "list", and names what else refers to the module: the tree of modules by address,
    the objects of /sys/module, the list of BUG() tables, the records of module users, the memory near modules.

    A "?" stands for an unknown value, a "-" for a value that does not exist. The exit code is 3 if any value is
    unknown.
    """
    if sections + parameters + as_json > 1:
        raise click.UsageError("--sections, --parameters and --json exclude each other.")
    lines = section_lines if sections else parameter_lines if parameters else FORMATS[form]
    with recovered(request) as (memory, kernels):
        documents, whole, found = [], True, set[str]()
        for index, kernel in enumerate(kernels):
            loaded = answered(request, index, partial(inventory, kernel))
            if isinstance(loaded, KallsiftError):
                documents.append((kernel, {"unknown": [], "missing": [str(loaded)], "modules": []}))
                whole = False
                continue
            chosen = [module for module in loaded.modules if not names or module.name in names]
            found |= {str(module.name) for module in chosen}
            if as_json:
                documents.append((kernel, modules_document(loaded, chosen)))
            else:
                if request.every:
                    print(f"kernel {index}:")
                for line in lines(loaded, chosen):
                    print(line)
            _warn_of(loaded, hides=lines is proc_modules and not as_json)
            whole = whole and not loaded.unknown and not loaded.missing
        if as_json:
            from kallsift.output.symbols.json_writer import document

            sys.stdout.write(document("modules", memory, documents))
        for name in sorted(set(names) - found):
            complain(f"there is no module called {name}; 'kallsift modules SOURCE' lists them")
        if names and not found:
            return ExitCode.NOTHING
        return verdict(kernels, whole) if found >= set(names) else ExitCode.PARTIAL


def _warn_of(loaded: Inventory, hides: bool) -> None:
    """Warn of what the output lacks.

    ``hides`` tells whether it lacks the modules that are not in the kernel's list.
    """
    if loaded.unknown:
        warn(f"the kernel carries no types, so these facts of its modules are unknown: {', '.join(loaded.unknown)}")
    for line in loaded.missing:
        warn(f"the modules are incomplete: {line}")
    if hides and loaded.unlisted:
        names = ", ".join(str(module.name) for module in loaded.unlisted)
        warn(f"left out, because the kernel's list does not have them, though they are in memory: {names}")
