"""Read symbols from a source, for commands that need nothing else.

The source has a kernel, or is a file that lists symbols.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import click

from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols, dynamic_symbols
from kallsift.analysis.listings.listing import Listing
from kallsift.analysis.listings.open import listed
from kallsift.analysis.symbol_lookup import Resolver
from kallsift.cli.messages import warn
from kallsift.cli.options.source import Request, recovered
from kallsift.kernel.kernel import Kernel


@dataclass(frozen=True, eq=False)
class ListedSource:
    """One kernel's symbols.

    Attributes:
        listing: the symbols.
        kernel: the kernel that they were recovered from; None if a file lists them.
    """

    listing: Listing
    kernel: Kernel | None = None

    @property
    def whole(self) -> bool:
        """True if all symbols of the kernel could be read."""
        return not (self.listing.dynamic.missing or self.listing.missing)

    @property
    def resolver(self) -> Resolver:
        """The resolver that answers as this kernel does."""
        if self.kernel is None:
            return Resolver(self.listing.symbols, self.listing.dynamic)
        return Resolver.of(self.kernel, self.listing.dynamic)


@contextmanager
def listings(request: Request, *, core: bool = False, elf: bool = False) -> Iterator[tuple[ListedSource, ...]]:
    """Provide the symbols of each requested kernel, or those that a file lists.

    Missing symbols and kernels that are not proven are named on standard error.

    Args:
        request: the source.
        core: whether to leave out all but the built-in symbols.
        elf: whether to take the symbol table of an ELF file rather than the kernel in it.

    Raises:
        KallsiftError: if the source cannot be read or holds no such kernel.
    """
    found = listed(request.source, elf=elf)
    if found is not None:
        if request.number is not None or request.base is not None:
            raise click.UsageError(f"{request.source} is a list of symbols; leave out --kernel and --base.")
        for line in (*found.notes, *found.missing):
            warn(line)
        yield (ListedSource(replace(found, dynamic=DynamicSymbols()) if core else found),)
        return
    with recovered(request) as (_, kernels):
        dynamics = [DynamicSymbols() if core else dynamic_symbols(kernel) for kernel in kernels]
        for line in (line for dynamic in dynamics for line in dynamic.missing):
            warn(f"{request.label}the symbols are incomplete: {line}")
        yield tuple(
            ListedSource(Listing(kernel.symbols, dynamic), kernel)
            for kernel, dynamic in zip(kernels, dynamics, strict=True)
        )
