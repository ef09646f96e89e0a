"""Define ``kallsift isf``: a symbol file for Volatility 3, made from the dump itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from kallsift import __version__
from kallsift.cli.exit_codes import ExitCode, verdict
from kallsift.cli.messages import note, warn
from kallsift.cli.options.output_path import output_option
from kallsift.cli.options.source import Request, answered, checked, recovered, source_options
from kallsift.cli.options.types_file import TypesFile, types_of, types_option
from kallsift.cli.output_file import BY_UMASK, OutputFile, output_file
from kallsift.cli.rich_help import HelpedCommand
from kallsift.errors import KallsiftError
from kallsift.kernel.kernel import Kernel
from kallsift.memory.memory import Memory
from kallsift.output.isf.configuration import volatility_configuration
from kallsift.output.isf.shims import REQUIRED
from kallsift.output.isf.writer import SUFFIXES, Producer, file_name, packed, symbol_file
from kallsift.types.module_types import loaded_types

EXAMPLES = {
    "kallsift isf memory.lime -o symbols": "into a folder, for vol -s symbols -f memory.lime linux.pslist",
    "kallsift isf memory.lime -o kernel.json.xz --config vol.json": "and a configuration: vol -c vol.json linux.pslist",
    "kallsift isf memory.lime -o - | jq .user_types.list_head": "as plain JSON",
    "kallsift isf vmlinuz -o symbols": "from a kernel image, for dumps of machines that run it",
}

DWARF2JSON = Producer("dwarf2json", "0.9.0")
"""The producer that Volatility's plugin hidden_modules demands."""


@click.command(cls=HelpedCommand, examples=EXAMPLES)
@source_options
@output_option(
    "Write to a folder (the file is named after the kernel), to a file .json.xz or .json, or to - as plain JSON.",
    metavar="PATH",
    required=True,
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also write a configuration for vol -c FILE, so that Volatility need not search the dump.",
)
@types_option
@click.option("--core", is_flag=True, help="Leave out the types of loaded modules.")
@click.option(
    "--as-dwarf2json",
    is_flag=True,
    help="Name dwarf2json as the producer: linux.malware.hidden_modules accepts no other.",
)
def isf(request: Request, output: Path, config: Path | None, file: Path | None, core: bool, as_dwarf2json: bool) -> int:
    """Write a symbol file (ISF) for Volatility 3.

    It has the kernel's symbols, and the types that the kernel and its loaded modules carry (BTF), so no debug package
    is needed. Volatility finds the file by the banner in the dump, if it is in one of its folders for symbols.

    The exit code is 1 if the kernel has no types, 3 if those of a module cannot be read, names of types are lost, or
    the table lacks a symbol that Volatility needs.
    """
    if config is not None and (request.every or str(output) == "-"):
        raise click.UsageError("--config needs one symbol file: leave out --all, and give a folder or a file with -o.")
    into_folder = output.is_dir()
    if not into_folder:
        _check_name(output)
    destination = None if into_folder else output_file(output, permissions=BY_UMASK)
    config_file = None if config is None else output_file(config, permissions=BY_UMASK)
    given = TypesFile.read(file)
    producer = DWARF2JSON if as_dwarf2json else Producer("kallsift", __version__)
    whole, written = True, 0
    with recovered(request) as (memory, kernels):
        for index, kernel in enumerate(kernels):
            target = _target(destination, output, kernel, index if request.every else None)
            write = partial(_write, target, memory, kernel, given, producer, core=core)
            found = answered(request, index, write)
            if isinstance(found, KallsiftError):
                whole = False
                continue
            written += 1
            whole = whole and found
            if into_folder:
                note(f"kallsift: wrote {target.name}")
            if config_file is not None and target.path is not None:
                text = volatility_configuration(kernel, Path(request.source), memory.container, target.path)
                config_file.write([text.encode("ascii")])
        if not written:
            return ExitCode.NOTHING
        return verdict(kernels) if whole else ExitCode.PARTIAL


def _write(
    target: OutputFile, memory: Memory, kernel: Kernel, given: TypesFile | None, producer: Producer, *, core: bool
) -> bool:
    """Write the symbol file of a kernel; tell whether all is in it.

    Raises:
        KallsiftError: if the kernel has no types, or its KASLR slide is not known.
    """
    types = types_of(kernel, given)
    loaded, errors = ([], []) if core else loaded_types(types)
    missing = [f"the types of a module were left out: {error}" for error in errors]
    missing += filter(None, dict.fromkeys((types.remark, *(own.remark for _, own in loaded))))
    lacking = [name for name in REQUIRED if name not in kernel.symbols]
    if lacking:
        missing.append(f"the symbol table lacks {', '.join(lacking)}, so Volatility will not recognise the kernel")
    for line in missing:
        warn(line)
    pieces = checked(memory, symbol_file(types, loaded, producer))
    target.write(packed(pieces) if target.name.endswith(".xz") else pieces)
    return not missing


def _check_name(output: Path) -> None:
    """Refuse a name that Volatility would not read.

    Raises:
        click.UsageError: if it is neither a file of symbols nor a stream.
    """
    is_stream = str(output) == "-" or (output.exists() and not output.is_file())
    if not is_stream and not output.name.endswith(SUFFIXES):
        raise click.UsageError(
            f"{output} is not a folder; create it, or name a file that ends in {' or '.join(reversed(SUFFIXES))}."
        )


def _target(destination: OutputFile | None, folder: Path, kernel: Kernel, index: int | None) -> OutputFile:
    """Return the file of a kernel: in a folder, one of its own name."""
    if destination is None:
        return output_file(folder / file_name(kernel), permissions=BY_UMASK)
    return destination if index is None else _numbered(destination, index)


def _numbered(destination: OutputFile, index: int) -> OutputFile:
    """Return the file of one of several kernels: its number stands before the suffix, which must stay the last."""
    suffix = next((end for end in reversed(SUFFIXES) if destination.name.endswith(end)), "")
    if not suffix:
        return destination.numbered(index)
    return output_file(Path(f"{destination.name.removesuffix(suffix)}.{index}{suffix}"), permissions=BY_UMASK)
