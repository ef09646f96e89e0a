"""Define ``kallsift types``: the kernel's own types as C, with offsets and sizes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from kallsift.cli.exit_codes import ExitCode, verdict
from kallsift.cli.messages import complain, note, warn
from kallsift.cli.options.source import Request, recovered, source_options
from kallsift.cli.output_file import BY_UMASK, output_file
from kallsift.cli.rich_help import HelpedCommand
from kallsift.errors import KallsiftError
from kallsift.kernel.access.btf_blob import MAX_SIZE
from kallsift.kernel.access.virtual_memory import readable_memory
from kallsift.kernel.kernel import Kernel
from kallsift.memory.input_files import open_input
from kallsift.memory.memory import printable
from kallsift.output.text.types import count_lines, definition_text, find_all, types_document
from kallsift.types.find import given_types, kernel_types
from kallsift.types.types import Types

EXAMPLES = {
    "kallsift types memory.lime task_struct": "a structure with the offset and size of each member",
    "kallsift types memory.lime vfs_read pid_type init_task": "a function's prototype, an enumeration, a variable",
    "kallsift types memory.lime --module xfs xfs_inode": "a structure of a loaded module",
    "kallsift types memory.lime --btf-out vmlinux.btf": "all types, for bpftool and pahole",
    "kallsift types memory.lime --types vmlinux.btf module": "of a kernel without types of its own, by a file's",
}


@click.command(cls=HelpedCommand, examples=EXAMPLES)
@source_options
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--module", metavar="MODULE", help="Also the types of a loaded module.")
@click.option(
    "--types",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The types in a BTF file of the same build, for kernels without types; its functions must be the kernel's.",
)
@click.option(
    "--btf-out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the types as the kernel has them (of a module: with --module; its base is the kernel's).",
)
@click.option("--json", "as_json", is_flag=True, help="Print the types as one JSON document.")
def types(
    request: Request, names: tuple[str, ...], module: str | None, file: Path | None, btf_out: Path | None, as_json: bool
) -> int:
    """Print types that the kernel carries of itself (BTF), as C.

    NAME is a structure, union, enumeration, typedef or function, with or without "struct" and the like, an enumerator,
    or a symbol whose type is known. Behind each member stand its offset and size in bytes; of a bit field, its unit's
    offset and the bit in it. If a name has several types, all are printed.

    Without NAME, the types of each kind are counted.

    The exit code is 1 if the kernel has no types, or none of any NAME; it is 3 if one NAME is missing.
    """
    if btf_out is not None and (as_json or request.every):
        raise click.UsageError("--btf-out writes the types of one kernel to a file; leave out --json and --all.")
    destination = None if btf_out is None else output_file(btf_out, permissions=BY_UMASK)
    data = None if file is None else _content(file)
    with recovered(request) as (memory, kernels):
        documents, met, whole = list[tuple[Kernel, Mapping[str, Any]]](), set[str](), True
        for index, kernel in enumerate(kernels):
            try:
                found = _types(kernel, module, data, file)
            except KallsiftError as error:
                if not request.every:
                    raise
                warn(f"kernel {index}: {error}")
                documents.append((kernel, {"types_from": None, "type_counts": [], "types": []}))
                whole = False
                continue
            if destination is not None:
                destination.write([found.btf.blob.data.data])
            if request.every and not as_json:
                print(f"kernel {index}:")
            chosen = [each for name in dict.fromkeys(names) for each in find_all(found, name)]
            met |= {each.asked for each in chosen}
            if as_json:
                documents.append((kernel, types_document(found, chosen)))
            elif names:
                print("\n".join(definition_text(each, kernel.symbols.word_size) for each in chosen), end="")
            elif destination is None:
                _count(found)
        if as_json:
            from kallsift.output.symbols.json_writer import document

            sys.stdout.write(document("types", memory, documents))
        for name in sorted(set(names) - met):
            complain(f"there is no type, enumerator or symbol of known type called {name}")
        if names and not met:
            return ExitCode.NOTHING
        return verdict(kernels, whole) if met >= set(names) else ExitCode.PARTIAL


def _types(kernel: Kernel, module: str | None, data: NDArray[np.uint8] | None, file: Path | None) -> Types:
    """Return the types that are asked for: of the kernel or a file, and of a module."""
    memory = readable_memory(kernel)
    found = kernel_types(kernel, memory) if data is None else given_types(kernel, memory, data, printable(str(file)))
    return found if module is None else found.module(module)


def _content(file: Path) -> NDArray[np.uint8]:
    """Return the bytes of a file of types; of one that is too large, more than any types have."""
    with open_input(file) as stream:
        return np.frombuffer(stream.read(MAX_SIZE + 1), np.uint8)


def _count(found: Types) -> None:
    for line in count_lines(found):
        print(line)
    note("kallsift: print types by their names: kallsift types SOURCE task_struct")
