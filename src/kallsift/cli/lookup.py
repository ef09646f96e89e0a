"""``kallsift lookup``: from a name to its addresses, from an address to the symbol that holds it."""

from __future__ import annotations

import re

import click

from kallsift.cli.exit_codes import ExitCode, verdict
from kallsift.cli.messages import complain
from kallsift.cli.rich_help import HelpedCommand
from kallsift.cli.source_options import Request, recovered, source_options
from kallsift.kallsyms.table import Location, SymbolTable
from kallsift.memory.model import printable

EXAMPLES = {
    "kallsift lookup memory.lime init_task": "each address that the name has, with its type",
    "kallsift lookup memory.lime 0xffffffff81234567 schedule": "the symbol that holds an address, then a name",
}

_ADDRESS = re.compile(r"0[xX][0-9a-fA-F]{1,16}|[0-9a-fA-F]{16}|[0-9a-fA-F]{8}")


@click.command(cls=HelpedCommand, examples=EXAMPLES)
@source_options
@click.argument("queries", nargs=-1, required=True, metavar="NAME-or-ADDRESS...")
def lookup(request: Request, queries: tuple[str, ...]) -> int:
    """Find symbols by name or by address.

    A name gives a line "address type name" for each symbol of that name. An address, 0x... or 16 (8) bare hexadecimal
    digits, gives "address symbol+0xoffset/0xsize"; a size that nothing bounds is left out.

    The exit code is 0 if everything was found in a proven kernel, 3 if only some was found or the kernel is not
    proven, 1 if nothing was found.
    """
    with recovered(request) as (_, kernels):
        found: set[str] = set()
        for index, kernel in enumerate(kernels):
            if request.every:
                print(f"kernel {index}:")
            for query in queries:
                lines = answers(kernel.symbols, query)
                print(*map(printable, lines), sep="\n", end="\n" if lines else "")
                if lines:
                    found.add(query)
                else:
                    where = f" in kernel {index}" if request.every else ""
                    complain(f"there is no symbol {'at' if _ADDRESS.fullmatch(query) else 'called'} {query}{where}")
        if not found:
            return ExitCode.NOTHING
        return verdict(kernels) if len(found) == len(set(queries)) else ExitCode.PARTIAL


def answers(table: SymbolTable, query: str) -> list[str]:
    """The lines that answer a query, empty if there is nothing of that name or at that address.

    A name that looks like an address, such as ``deadbeef``, counts as a name where the table has it.
    """
    digits = 2 * table.word_size
    named = [f"{symbol.address:0{digits}x} {symbol.type} {symbol.name}" for symbol in table.all(query)]
    if named or not _ADDRESS.fullmatch(query):
        return named
    address = int(query, 16)
    location = table.at(address)
    if location is None or not _bounded(location, 8 * table.word_size):
        return []
    size = "" if location.size is None else f"/{location.size:#x}"
    return [f"{address:0{digits}x} {location.symbol.name}+{location.offset:#x}{size}"]


def _bounded(location: Location, bits: int) -> bool:
    """Whether the symbol may be said to hold the address.

    The last symbol holds its own address only. So does one below the kernel's half of the address space (the last
    per-CPU offset) whose next symbol is in it: what lies between the two is no part of either.
    """
    start, half = location.symbol.address, 1 << (bits - 1)
    open_ended = location.size is None or start < half <= start + location.size
    return location.offset == 0 or not open_ended
