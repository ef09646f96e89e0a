"""Define ``kallsift lookup``: symbols by name or by address."""

from __future__ import annotations

import re

import click
import numpy as np

from kallsift.analysis.lookup_functions import lookup_functions
from kallsift.analysis.symbol_lookup import Resolver
from kallsift.cli.commands.pointer_tables import print_table
from kallsift.cli.exit_codes import ExitCode, verdict
from kallsift.cli.messages import complain, note
from kallsift.cli.options.source import Request, source_options
from kallsift.cli.rich_help import HelpedCommand
from kallsift.cli.symbol_sources import ListedSource, listings
from kallsift.kallsyms.escapes import escaped, letter_text, unescaped
from kallsift.kallsyms.symbol_table import Symbol

EXAMPLES = {
    "kallsift lookup memory.lime init_task": "each address of the name, with its type",
    "kallsift lookup memory.lime 0xffffffff81234567 schedule": "the symbol at an address, then the address of a name",
    "kallsift lookup memory.lime xfs:xfs_iread_extents": "a symbol of a module",
    "kallsift lookup memory.lime --resolver schedule": "the one address that kallsyms_lookup_name would return",
    "kallsift lookup memory.lime --table sys_call_table": "where the pointers of a table lead, with hooks marked",
}

_ADDRESS = re.compile(r"0[xX][0-9a-fA-F]{1,16}|[0-9a-fA-F]{16}|[0-9a-fA-F]{8}")


@click.command(cls=HelpedCommand, examples=EXAMPLES)
@source_options
@click.option("--core", is_flag=True, help="Search the built-in symbols alone, without those of modules and BPF.")
@click.option(
    "--resolver",
    is_flag=True,
    help="Print only the address that kallsyms_lookup_name returns, and whether modules could call that.",
)
@click.option(
    "--table", metavar="NAME", help="Print where the pointers of a table lead: sys_call_table, idt_table or any symbol."
)
@click.argument("queries", nargs=-1, metavar="NAME-or-ADDRESS...")
def lookup(request: Request, queries: tuple[str, ...], core: bool, resolver: bool, table: str | None) -> int:
    """Find symbols by name or by address, as the kernel does.

    Searches the kernel's own symbols first, then those of its modules.

    A name, or module:name, gives a line "address type name" for each symbol of that name, with its [module]. An
    address, 0x... or 16 (8) bare hexadecimal digits, gives "address symbol+0xoffset/0xsize [module]", as the kernel
    prints it; an address without a symbol gives no line. SOURCE may also be a saved /proc/kallsyms.

    With --table, prints a line "number address target symbol" for each entry. Entries marked with "!" are not the
    kernel's own: they point outside of its text, or not to the beginning of a function.

    The exit code is 0 if everything was found in a proven kernel, 1 if nothing was found, 3 if only a part was found,
    an entry is marked, or the kernel is not proven or has lost symbols.
    """
    if (table is None) == (not queries):
        raise click.UsageError("Give NAME-or-ADDRESS, or --table NAME.")
    if table is not None:
        return print_table(request, table)
    with listings(request, core=core) as found_kernels:
        found: set[str] = set()
        damaged = False
        for index, one in enumerate(found_kernels):
            if request.every:
                print(f"kernel {index}:")
            if resolver:
                _say_lookup_functions(one)
            kernels_own = one.resolver
            damaged |= _unknown(one) > 0
            for query in queries:
                lines = answers(kernels_own, query, first=resolver)
                print(*lines, sep="\n", end="\n" if lines else "")
                if lines:
                    found.add(query)
                else:
                    complain(_not_found(one, query, f" in kernel {index}" if request.every else ""))
        if not found and not damaged:
            return ExitCode.NOTHING
        if len(found) < len(set(queries)):
            return ExitCode.PARTIAL
        kernels = [one.kernel for one in found_kernels if one.kernel is not None]
        return verdict(kernels, whole=all(one.whole for one in found_kernels))


def _unknown(one: ListedSource) -> int:
    """Return the number of symbols that have lost their name or address."""
    return int(np.count_nonzero(~one.listing.symbols.whole))


def _not_found(one: ListedSource, query: str, where: str) -> str:
    """Return the message that a query has no answer; ``where`` follows the query in it."""
    what = f"{'at' if _ADDRESS.fullmatch(query) else 'called'} {query}"
    if unknown := _unknown(one):
        lost = f"{unknown:,} of {len(one.listing.symbols):,} symbols lost their name or address"
        return f"no known symbol is {what}{where}: {lost}"
    return f"there is no symbol {what}{where}"


def answers(resolver: Resolver, query: str, *, first: bool = False) -> list[str]:
    """Return the lines that answer a query, safe to print.

    They are empty if no symbol has that name or that address. A name that looks like an address, such as ``deadbeef``,
    counts as a name if a table has it.

    Args:
        resolver: the kernel's resolver.
        query: a name, ``module:name``, or an address; a name may be escaped, as all commands print it.
        first: give only the symbol that ``kallsyms_lookup_name`` takes, instead of all of that name.
    """
    digits = 2 * resolver.symbols.word_size
    name = unescaped(query.encode("latin-1", "backslashreplace")).decode("latin-1")
    if first:
        taken = resolver.resolve(name)
        named = [] if taken is None else [taken]
    else:
        named = _named(resolver, name)
    if named or not _ADDRESS.fullmatch(query):
        return [
            f"{symbol.address:0{digits}x} {letter_text(symbol.type)} {escaped(symbol.name)}"
            + (f"\t[{escaped(owner)}]" if owner else "")
            for symbol, owner in named
        ]
    address = int(query, 16)
    answer = resolver.at(address)
    return [] if answer is None else [f"{address:0{digits}x} {answer}"]


def _named(resolver: Resolver, query: str) -> list[tuple[Symbol, str]]:
    """Return all symbols of a name with their owners, in the kernel's search order."""
    owner, colon, name = query.partition(":")
    named = [(symbol, "") for symbol in resolver.named(query)]
    for group in resolver.dynamic.groups:
        if not colon or group.owner == owner:
            named += [(symbol, group.owner) for symbol in group.symbols.all(name if colon else query)]
    return named


def _say_lookup_functions(one: ListedSource) -> None:
    """Print on standard error with which functions modules could look up names."""
    for function in lookup_functions(one.listing.symbols, one.kernel):
        note(str(function))
