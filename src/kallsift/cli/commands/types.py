"""Define ``kallsift types``: the kernel's own types as C, with offsets and sizes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from kallsift.cli.exit_codes import ExitCode, verdict
from kallsift.cli.messages import complain, note, warn
from kallsift.cli.options.source import Request, answered, recovered, source_options
from kallsift.cli.options.types_file import TypesFile, types_of, types_option
from kallsift.cli.output_file import BY_UMASK, output_file
from kallsift.cli.rich_help import HelpedCommand
from kallsift.errors import KallsiftError
from kallsift.kallsyms.escapes import escaped
from kallsift.kernel.kernel import Kernel
from kallsift.output.text.types import count_lines, definition_text, find_all, types_document
from kallsift.types.types import KEYWORDS, Types

EXAMPLES = {
    "kallsift types memory.lime task_struct": "a structure with the offset and size of each member",
    "kallsift types memory.lime vfs_read pid_type init_task": "a function's prototype, an enumeration, a variable",
    "kallsift types memory.lime --module xfs xfs_inode": "a structure of a loaded module",
    "kallsift types memory.lime --btf-out vmlinux.btf": "all types, for bpftool and pahole",
    "kallsift types memory.lime --types vmlinux.btf module": "for a kernel without types: the types of a file",
}


@click.command(cls=HelpedCommand, examples=EXAMPLES)
@source_options
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--module", metavar="MODULE", help="Also search the types of a loaded module.")
@types_option
@click.option(
    "--btf-out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the kernel's BTF; with --module that of the module, whose base is the kernel's.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the types as one JSON document.")
def types(
    request: Request, names: tuple[str, ...], module: str | None, file: Path | None, btf_out: Path | None, as_json: bool
) -> int:
    """Print the kernel's own types (BTF) as C.

    NAME is a structure, union, enumeration, typedef or function, with or without "struct" and the like, an enumerator,
    or a symbol whose type is known. After each member come its offset and size in bytes; for a bit field, the offset
    of its unit and the bit in it. If a name has several types, all are printed.

    Without NAME, prints the number of types of each kind.

    The exit code is 1 if the kernel has no types or no NAME was found, 3 if one NAME was not found or names of types
    are lost in the source.
    """
    if btf_out is not None and (as_json or request.every):
        raise click.UsageError("--btf-out writes the types of one kernel to a file; leave out --json and --all.")
    names = _with_keywords(names)
    destination = None if btf_out is None else output_file(btf_out, permissions=BY_UMASK)
    given = TypesFile.read(file)
    with recovered(request) as (memory, kernels):
        documents, met, whole, asked = list[tuple[Kernel, Mapping[str, Any]]](), set[str](), True, list[Types]()
        for index, kernel in enumerate(kernels):
            found = answered(request, index, partial(_answer, kernel, names, module, given, as_json=as_json))
            if isinstance(found, KallsiftError):
                documents.append((kernel, {"types_from": None, "type_counts": [], "types": []}))
                whole = False
                continue
            if found.types.remark:
                warn(found.types.remark)
                whole = False
            if destination is not None:
                destination.write([found.types.btf.blob.data.data])
            asked.append(found.types)
            met |= found.met
            if as_json:
                documents.append((kernel, found.document))
                continue
            if request.every:
                print(f"kernel {index}:")
            print(found.text, end="")
            if not names and destination is None:
                _count(found.types)
        if as_json:
            from kallsift.output.symbols.json_writer import document

            sys.stdout.write(document("types", memory, documents))
        for name in sorted(set(names) - met):
            near = next(filter(None, (types.similar(name) for types in asked)), None)
            advice = "" if near is None else f"; did you mean {escaped(near)}?"
            complain(f"there is no type, enumerator or typed symbol called {name}{advice}")
        if names and not met:
            return ExitCode.NOTHING
        return verdict(kernels, whole) if met >= set(names) else ExitCode.PARTIAL


@dataclass(frozen=True)
class _Answer:
    """What is printed of one kernel.

    Attributes:
        types: its types.
        met: the names that mean something.
        text: what they mean, as C; empty if values are wanted.
        document: the same as values; empty if text is wanted.
    """

    types: Types
    met: frozenset[str]
    text: str
    document: Mapping[str, Any]


def _with_keywords(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names in some words: ``struct`` and the like belong to the word behind them."""
    names: list[str] = []
    for word in words:
        if names and names[-1] in KEYWORDS:
            names[-1] += f" {word}"
        else:
            names.append(word)
    return tuple(names)


def _answer(
    kernel: Kernel, names: tuple[str, ...], module: str | None, given: TypesFile | None, *, as_json: bool
) -> _Answer:
    """Return what names mean by the types of a kernel or a file, and of a module if one is named.

    Raises:
        KallsiftError: if there are no such types, or any that is asked for makes no sense.
    """
    types = types_of(kernel, given)
    types = types if module is None else types.module(module)
    chosen = [each for name in dict.fromkeys(names) for each in find_all(types, name)]
    texts = [] if as_json else [definition_text(each, kernel.symbols.word_size) for each in chosen]
    document = types_document(types, chosen) if as_json else {}
    return _Answer(types, frozenset(each.asked for each in chosen), "\n".join(texts), document)


def _count(found: Types) -> None:
    for line in count_lines(found):
        print(line)
    note("kallsift: to print a type, give its name: kallsift types SOURCE task_struct")
