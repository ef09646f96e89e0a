"""Define ``kallsift exports``: the exports of the kernel and its modules."""

from __future__ import annotations

import sys
from difflib import get_close_matches

import click

from kallsift.cli.exit_codes import verdict
from kallsift.cli.messages import note, warn
from kallsift.cli.options.source import Request, recovered, source_options
from kallsift.cli.rich_help import HelpedCommand
from kallsift.errors import KallsiftError
from kallsift.modules.exports.exports import exports as exports_of
from kallsift.output.text.exports import exports_document, symvers_lines

EXAMPLES = {
    "kallsift exports memory.lime > Module.symvers": "to build modules for that kernel, and to check them",
    "kallsift exports memory.lime --owner vmlinux | sort -k2 | diff - wanted": "the kernel's own, compared with a list",
    "kallsift exports vmlinuz --json | jq -r '.kernels[0].exports[] | select(.gpl_only) | .name'": "all GPL-only names",
}


@click.command(cls=HelpedCommand, examples=EXAMPLES)
@source_options
@click.option("--owner", metavar="NAME", help="Print only the exports of NAME: vmlinux or a module.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, with addresses.")
def exports(request: Request, owner: str | None, as_json: bool) -> int:
    """Print the exports of the kernel and its modules, as Module.symvers.

    A line has checksum, name, owner (vmlinux or a module), EXPORT_SYMBOL or EXPORT_SYMBOL_GPL, and namespace, with tabs
    between them. If the kernel keeps no checksums, they are 0x00000000. For a kernel image, the kernel's own exports
    are printed.

    The exit code is 1 if there is no module called NAME, 3 if the kernel is not proven or its exports
    are incomplete.
    """
    with recovered(request) as (memory, kernels):
        listings = [(kernel, exports_of(kernel)) for kernel in kernels]
        if owner is not None:
            known = {name for _, found in listings for name in found.owners}
            if owner not in known:
                near = get_close_matches(owner, known, 1)
                advice = f"; did you mean {near[0]}?" if near else "; 'kallsift modules' lists them"
                raise KallsiftError(f"--owner: there is no module called {owner}{advice}")
            listings = [(kernel, found.of(owner)) for kernel, found in listings]
            if not any(map(len, (found for _, found in listings))):
                note(f"kallsift: {owner} exports nothing")
        if as_json:
            from kallsift.output.symbols.json_writer import document

            sys.stdout.write(
                document("exports", memory, [(kernel, exports_document(found)) for kernel, found in listings])
            )
        else:
            for index, (_, found) in enumerate(listings):
                if request.every:
                    print(f"kernel {index}:")
                sys.stdout.writelines(symvers_lines(found))
        missing = [line for _, found in listings for line in found.missing]
        for line in missing:
            warn(f"the exports are incomplete: {line}")
        return verdict(kernels, whole=not missing)
