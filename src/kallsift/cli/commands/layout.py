"""Define ``kallsift layout``: the kernel's virtual memory map."""

from __future__ import annotations

import sys

import click
import numpy as np

from kallsift.analysis.address_space.layout import Layout
from kallsift.analysis.address_space.layout import layout as layout_of
from kallsift.analysis.dynamic.dynamic_symbols import dynamic_symbols
from kallsift.analysis.symbol_lookup import Resolver
from kallsift.cli.exit_codes import verdict
from kallsift.cli.messages import complain, warn
from kallsift.cli.options.address import Address
from kallsift.cli.options.source import Request, recovered, source_options
from kallsift.cli.rich_help import HelpedCommand
from kallsift.kernel.access.virtual_memory import virtual_memory
from kallsift.kernel.kernel import Kernel
from kallsift.output.text.layout import UNKNOWN, layout_document, layout_lines, page_table_lines

EXAMPLES = {
    "kallsift layout memory.lime": "the regions of the kernel's address space and of its image",
    "kallsift layout memory.lime 0xffff888003a01000": "the region, physical address and symbol of an address",
    "kallsift layout memory.lime --page-table | grep ' r-x- '": "all memory that the kernel may execute but not write",
}


@click.command(cls=HelpedCommand, examples=EXAMPLES)
@source_options
@click.option(
    "--page-table", is_flag=True, help="Print the mappings of the kernel's own page table, with their permissions."
)
@click.option("--json", "as_json", is_flag=True, help="Print the regions as one JSON document.")
@click.argument("addresses", nargs=-1, type=Address(), metavar="[ADDRESS...]")
def layout(request: Request, addresses: tuple[int, ...], page_table: bool, as_json: bool) -> int:
    """Show the regions of the kernel's address space, or those of addresses.

    Prints a line for each region, with its first and last address, its size, the physical address of its beginning if
    it is physically contiguous, whether the page table proves it, its name, and the source of its bounds. Regions that
    are part of another are indented. A kernel image does not run; only its own sections are shown, as it was linked.

    For each ADDRESS, 0x... or decimal, prints a line with the regions that it lies in, its physical address, and the
    symbol that it belongs to.

    The exit code is 3 if the page table contradicts a region, or an ADDRESS lies in none.
    """
    if sum((page_table, as_json, bool(addresses))) > 1:
        raise click.UsageError("--page-table, --json and ADDRESS exclude each other.")
    with recovered(request) as (memory, kernels):
        whole = True
        documents = []
        for index, kernel in enumerate(kernels):
            found = layout_of(kernel)
            whole &= found.agrees
            if as_json:
                documents.append((kernel, layout_document(found)))
                continue
            if request.every:
                print(f"kernel {index}:")
            if addresses:
                whole &= _answered(kernel, found, addresses)
            elif page_table:
                whole &= _listed(kernel, found)
            else:
                for line in layout_lines(found, kernel.symbols.word_size):
                    print(line)
        if as_json:
            from kallsift.output.symbols.json_writer import document

            sys.stdout.write(document("layout", memory, documents))
        return verdict(kernels, whole=whole)


def _listed(kernel: Kernel, found: Layout) -> bool:
    """Print all that the page table maps, and tell whether that is complete."""
    if found.page_table is None:
        complain("the page table of this kernel is unknown; see 'kallsift info'")
        return False
    for line in page_table_lines(found.page_table.ranges, found, kernel.symbols.word_size):
        print(line)
    if not found.page_table.ranges.whole:
        warn("the page table has more parts than that of any machine, so it was not listed to its end")
    return found.page_table.ranges.whole


def _answered(kernel: Kernel, found: Layout, addresses: tuple[int, ...]) -> bool:
    """Print the regions of addresses, and tell whether each address lies in one."""
    digits = 2 * kernel.symbols.word_size
    resolver = Resolver.of(kernel, dynamic_symbols(kernel))
    memory = None if found.page_table is None else virtual_memory(kernel)
    known = True
    for address in addresses:
        regions = [region.name or UNKNOWN for region in found.at(address)]
        known &= bool(regions)
        parts = [f"{address:0{digits}x}", " > ".join(regions) or "in no region"]
        answer = resolver.at(address)
        symbol = "-" if answer is None else str(answer)
        if memory is not None and address <= memory.words.mask:
            physical, mapped = memory.physical(np.array([address], np.uint64))
            parts.append(f"physical {int(physical[0]):x}" if mapped[0] else "not mapped")
            if mapped[0] and answer is None:
                alias = int(physical[0]) + kernel.distance & memory.words.mask
                same = resolver.at(alias) if _in_image(found, alias) else None
                symbol = f"alias of {alias:0{digits}x} {same}" if same else symbol
        print("\t".join([*parts, symbol]))
    return known


def _in_image(found: Layout, address: int) -> bool:
    return any(region.of_image for region in found.at(address))
