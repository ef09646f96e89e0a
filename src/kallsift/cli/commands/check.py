"""Define ``kallsift check``: whether modules would load into the kernel."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from kallsift.cli.exit_codes import ExitCode, verdict
from kallsift.cli.messages import warn
from kallsift.cli.options.source import Request, recovered, source_options
from kallsift.cli.rich_help import HelpedCommand
from kallsift.modules.exports.exports import exports
from kallsift.modules.insmod.check import check_file
from kallsift.modules.insmod.kernel_config import loader
from kallsift.output.text.insmod_check import check_document, symbol_lines, use_lines, verdict_line

EXAMPLES = {
    "kallsift check memory.lime driver.ko": "whether that kernel would load the module, and why not",
    "kallsift check memory.lime --uses driver.ko.xz": "where each symbol that the module needs would come from",
    "kallsift check vmlinuz --symbols driver.ko": "also its own symbols, as readelf -sW lists them",
}


@click.command(cls=HelpedCommand, examples=EXAMPLES)
@source_options
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE.ko...", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--uses", is_flag=True, help="Print each symbol that a module needs: address, name, owner, or the problem."
)
@click.option(
    "--symbols", is_flag=True, help="Print each module's own symbols, as readelf -sW does, with section names."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document with all of this.")
def check(request: Request, files: tuple[Path, ...], uses: bool, symbols: bool, as_json: bool) -> int:
    """Check whether modules would load into the kernel.

    Checks each module on its own, as if that kernel went on running. Prints a line for each: the file, "loads" or
    "refused", the error that insmod would get, and the reason, with tabs between them. The tests are those of the
    kernel's module loader: ELF, licence, vermagic, checksums, namespaces, symbols. They do not predict what the
    module's own code does. FILE may be compressed: .ko.xz, .ko.zst, .ko.gz.

    The exit code is 0 if all would load, 1 if one would be refused, 3 if the kernel is not proven or its exports are
    incomplete.
    """
    with recovered(request) as (memory, kernels):
        refused, whole = False, True
        documents = []
        remarks: dict[str, list[Path]] = {}
        for index, kernel in enumerate(kernels):
            known = loader(kernel, exports(kernel))
            entries: list[dict[str, Any]] = []
            documents.append((kernel, {"missing": list(known.exports.missing), "files": entries}))
            whole = whole and not known.exports.missing
            if request.every and not as_json:
                print(f"kernel {index}:")
            for file in files:
                module, found = check_file(known, file)
                refused = refused or not found.loads
                if as_json:
                    entries.append(check_document(str(file), found, module if symbols else None))
                    continue
                for remark in found.remarks:
                    remarks.setdefault(remark, []).append(file)
                sys.stdout.write(verdict_line(str(file), found))
                if uses:
                    sys.stdout.writelines(use_lines(found.uses, known.bits // 4))
                if symbols and module is not None:
                    sys.stdout.writelines(symbol_lines(module))
        if as_json:
            from kallsift.output.symbols.json_writer import document

            sys.stdout.write(document("check", memory, documents))
        for remark, about in remarks.items():
            warn(f"{about[0]}{f' and {len(about) - 1} more' if len(about) > 1 else ''}: {remark}")
        code = verdict(kernels, whole=whole)
        return ExitCode.NOTHING if refused and code is ExitCode.PROVEN else code
