"""``kallsift lookup``: from a name to its addresses, from an address to the symbol that holds it."""

from __future__ import annotations

import re

import click

from kallsift.cli.exit_codes import ExitCode, verdict
from kallsift.cli.messages import complain, warn
from kallsift.cli.pointer_tables import print_table
from kallsift.cli.rich_help import HelpedCommand
from kallsift.cli.source_options import Request, recovered, source_options
from kallsift.kallsyms.table import Location, SymbolTable
from kallsift.kernel.dynamic import Dynamic, dynamic_symbols
from kallsift.memory.model import printable

EXAMPLES = {
    "kallsift lookup memory.lime init_task": "each address that the name has, with its type",
    "kallsift lookup memory.lime 0xffffffff81234567 schedule": "the symbol that holds an address, then a name",
    "kallsift lookup memory.lime xfs:xfs_iread_extents": "a module's own",
    "kallsift lookup memory.lime --table sys_call_table": "where a table leads, with hooks marked",
}

_ADDRESS = re.compile(r"0[xX][0-9a-fA-F]{1,16}|[0-9a-fA-F]{16}|[0-9a-fA-F]{8}")


@click.command(cls=HelpedCommand, examples=EXAMPLES)
@source_options
@click.option("--core", is_flag=True, help="Ask the built-in table alone, without modules and BPF.")
@click.option(
    "--table", metavar="NAME", help="Show where a table's pointers lead: sys_call_table, idt_table, any symbol's."
)
@click.argument("queries", nargs=-1, metavar="NAME-or-ADDRESS...")
def lookup(request: Request, queries: tuple[str, ...], core: bool, table: str | None) -> int:
    """Find symbols by name or by address, in the kernel and then in its modules.

    A name, or module:name, gives a line "address type name" for each symbol of that name, with its [module]. An
    address, 0x... or 16 (8) bare hexadecimal digits, gives "address symbol+0xoffset/0xsize [module]"; a size that
    nothing bounds is left out.

    With --table, a line "number address target symbol" for each entry; those marked with "!" cannot be the kernel's
    own: they lead out of its text, or not to the beginning of a function.

    The exit code is 0 if everything was found in a proven kernel, 3 if only some was found, an entry is marked or the
    kernel is not proven, 1 if nothing was found.
    """
    if (table is None) == (not queries):
        raise click.UsageError("Give NAME-or-ADDRESS, or --table NAME.")
    if table is not None:
        return print_table(request, table)
    with recovered(request) as (_, kernels):
        found: set[str] = set()
        missing: list[str] = []
        for index, kernel in enumerate(kernels):
            dynamic = None if core else dynamic_symbols(kernel)
            missing += dynamic.missing if dynamic else ()
            if request.every:
                print(f"kernel {index}:")
            for query in queries:
                lines = answers(kernel.symbols, query, dynamic)
                print(*lines, sep="\n", end="\n" if lines else "")
                if lines:
                    found.add(query)
                else:
                    where = f" in kernel {index}" if request.every else ""
                    complain(f"there is no symbol {'at' if _ADDRESS.fullmatch(query) else 'called'} {query}{where}")
        for line in missing:
            warn(f"not all of the kernel's symbols: {line}")
        if not found:
            return ExitCode.NOTHING
        return verdict(kernels, whole=not missing) if len(found) == len(set(queries)) else ExitCode.PARTIAL


def answers(table: SymbolTable, query: str, dynamic: Dynamic | None = None) -> list[str]:
    """The lines that answer a query, safe to print; empty if there is nothing of that name or at that address.

    A name that looks like an address, such as ``deadbeef``, counts as a name where a table has it.
    """
    digits = 2 * table.word_size
    owner, _, name = query.rpartition(":")
    groups = [group for group in (dynamic.groups if dynamic else ()) if owner in ("", group.owner)]
    named = [("", symbol) for symbol in (table.all(query) if not owner else ())]
    named += [(f"\t[{printable(group.owner)}]", symbol) for group in groups for symbol in group.symbols.all(name)]
    if named or not _ADDRESS.fullmatch(query):
        return [
            f"{symbol.address:0{digits}x} {printable(symbol.type)} {printable(symbol.name)}{where}"
            for where, symbol in named
        ]
    address, where = int(query, 16), ""
    location = table.at(address)
    if location is None or not _bounded(location, 8 * table.word_size):
        holder = dynamic.at(address) if dynamic else None
        if holder is None:
            return []
        location, where = holder[1], f" [{printable(holder[0])}]"
    size = "" if location.size is None else f"/{location.size:#x}"
    return [f"{address:0{digits}x} {printable(location.symbol.name)}+{location.offset:#x}{size}{where}"]


def _bounded(location: Location, bits: int) -> bool:
    """Whether the symbol may be said to hold the address.

    The last symbol holds its own address only. So does one below the kernel's half of the address space (the last
    per-CPU offset) whose next symbol is in it: what lies between the two is no part of either.
    """
    start, half = location.symbol.address, 1 << (bits - 1)
    open_ended = location.size is None or start < half <= start + location.size
    return location.offset == 0 or not open_ended
