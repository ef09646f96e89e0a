"""Define ``kallsift symbolize``: a filter that adds symbols to addresses in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import click

from kallsift.analysis.boot_offset import LogAddresses, base_in_line, distance_from
from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols
from kallsift.cli.exit_codes import verdict
from kallsift.cli.messages import note
from kallsift.cli.options.address import Address
from kallsift.cli.options.source import Request, source_options
from kallsift.cli.rich_help import HelpedCommand
from kallsift.cli.symbol_sources import ListedSource, listings
from kallsift.errors import KallsiftError
from kallsift.memory.input_files import open_input
from kallsift.output.text.symbolize import Annotator

EXAMPLES = {
    "kallsift symbolize memory.lime oops.txt": "an oops, with the symbol of each address",
    "dmesg --follow | kallsift symbolize /proc/kallsyms": "the same for a log that is still being written",
    "kallsift symbolize vmlinuz console.log --from-base 0xffffffffa0e00000": "the log of another boot of that kernel",
}

MAX_LINE = 1 << 16
"""Greatest length of a line in bytes; longer lines are passed on unchanged."""

PERCENT_S_TRACES = "s390x"
"""Architecture whose stack traces name the symbol of the return address itself.

It prints addresses with %pS; others use %pB, which names the symbol of the call.
"""


@click.command(cls=HelpedCommand, examples=EXAMPLES)
@source_options
@click.argument("log", required=False, default="-", metavar="[FILE]", type=click.Path(path_type=Path))
@click.option("--core", is_flag=True, help="Search the built-in symbols alone, without those of modules and BPF.")
@click.option(
    "--from-base",
    type=Address(),
    metavar="ADDRESS",
    help="For the log of another boot of the same kernel: its _text (or _stext), or its KASLR offset.",
)
@click.option("--addresses", is_flag=True, help="Also print the address of each symbol+0xoffset/0xsize.")
def symbolize(request: Request, log: Path, core: bool, from_base: int | None, addresses: bool) -> int:
    """Annotate kernel addresses in a log with the symbols they belong to.

    Adds <symbol+0xoffset/0xsize [module]> after each address. Reads FILE or standard input (an oops, a stack trace,
    dmesg, a list of addresses) line by line. All other text stays unchanged, byte for byte. SOURCE is the kernel that
    the addresses belong to; it may also be a saved /proc/kallsyms.

    For the log of another boot of the same kernel, give the base of that boot (--from-base). A kernel that panics
    prints it in a line "Kernel Offset: 0x... from 0x...". Modules have other addresses in each boot, so their addresses
    stay as they are.
    """
    if request.every:
        raise click.UsageError("The addresses belong to one kernel: give --kernel N instead of --all.")
    if request.source == str(log) == "-":
        raise click.UsageError("SOURCE and FILE cannot both be standard input; name a file for one of them.")
    with listings(request, core=core) as (found,), _opened(log) as stream:
        linked = _linked(found)
        if from_base is None:
            from_base = _base_told(stream, found, linked)
        annotator = Annotator(
            found.resolver,
            addresses=addresses,
            traces=found.kernel is None or found.kernel.architecture != PERCENT_S_TRACES,
        )
        if from_base is not None:
            _move(annotator, found, from_base, linked)
        passed = LogAddresses(found.listing.symbols) if from_base is None and not stream.seekable() else None
        for line, whole in _lines(stream):
            if passed is not None and whole:
                passed.add(line)
                base = base_in_line(line, linked)
                if base is not None and _fits(passed, found, base, linked):
                    note(
                        f"kallsift: the log says that _text was at {base:#x}; the following lines are "
                        "resolved with that base"
                    )
                    _move(annotator, found, base, linked)
            sys.stdout.buffer.write(annotator.line(line) if whole else line)
            if not stream.seekable():
                sys.stdout.buffer.flush()
        return verdict([found.kernel] if found.kernel else [], whole=found.whole)


def _linked(found: ListedSource) -> int | None:
    """Return the link address of the kernel's ``_text``; None if unknown."""
    kernel = found.kernel
    if kernel is None or kernel.kaslr_slide is None or kernel.virtual_base is None:
        return None
    return kernel.virtual_base - kernel.kaslr_slide


def _move(annotator: Annotator, found: ListedSource, base: int, linked: int | None) -> None:
    """Make the annotator read the log of a boot with another base."""
    annotator.distance = distance_from(found.listing.symbols, base, linked)
    if annotator.distance:
        annotator.resolver = replace(found.resolver, dynamic=DynamicSymbols())


def _fits(addresses: LogAddresses, found: ListedSource, base: int, linked: int | None) -> bool:
    """Tell whether a log's addresses fit the base in it; print a note if they do not."""
    fits = addresses.fit(distance_from(found.listing.symbols, base, linked))
    if not fits:
        note(
            f"kallsift: the log says that _text was at {base:#x}, but its addresses do not fit, so this "
            f"kernel's own base is used; if the log is right, give --from-base {base:#x}"
        )
    return fits


def _base_told(stream: BinaryIO, found: ListedSource, linked: int | None) -> int | None:
    """Return the base that a log gives, at its end.

    None if it gives none that fits, or cannot be read twice.

    Raises:
        KallsiftError: if it is the log of several boots.
    """
    if not stream.seekable():
        return None
    bases: set[int] = set()
    addresses = LogAddresses(found.listing.symbols)
    for line, whole in _lines(stream):
        if whole:
            addresses.add(line)
            bases |= {base for base in (base_in_line(line, linked),) if base is not None}
    stream.seek(0)
    if len(bases) > 1:
        listed = ", ".join(f"{base:#x}" for base in sorted(bases)[:4])
        raise KallsiftError(f"the log has several boots, with _text at {listed}; split it, or give --from-base")
    for base in bases:
        if not _fits(addresses, found, base, linked):
            continue
        note(f"kallsift: the log says that _text was at {base:#x}; it is resolved with that base")
        return base
    return None


def _lines(stream: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """Yield lines with their ends, and whether each is a whole line.

    Lines that are too long come in parts.
    """
    whole = True
    while line := stream.readline(MAX_LINE):
        ended = line.endswith(b"\n")
        yield line, whole and (ended or len(line) < MAX_LINE)
        whole = ended


@contextmanager
def _opened(log: Path) -> Iterator[BinaryIO]:
    """Open the log as bytes."""
    if str(log) == "-":
        yield sys.stdin.buffer
    else:
        with open_input(log) as stream:
            yield stream
