"""What a module from outside the kernel's tree can look names up with: which of the kernel's functions it exports."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kallsift.addresses import VirtualAddress
from kallsift.kallsyms.table import SymbolTable
from kallsift.kernel.model import Kernel
from kallsift.kernel.pointers import AFTER, BEFORE, Words, pointers_between
from kallsift.kernel.strings import places_of
from kallsift.memory.model import Segment

WAYS = {
    "kallsyms_lookup_name": "the address of any name",
    "kallsyms_on_each_symbol": "calls a function for each name and address",
    "register_kprobe": "a kprobe on a function tells the function's address, kallsyms_lookup_name's too",
    "sprint_symbol": "the name of an address, so a name is found by trying addresses",
    "__symbol_get": "the address of a name that is exported",
}
"""Functions that answer a module's question for a name, and what each gives it."""

EXPORT = "__ksymtab_"
"""How the name of an export's entry begins, where data are listed (include/linux/export.h)."""

CHUNK = 1 << 20
"""Fields worked on at once; bounds the temporary arrays."""

MAX_PLACES = 64
"""Places of a name, and words that point at it, that are followed at most."""


@dataclass(frozen=True)
class Way:
    """One function that could answer.

    Attributes:
        name: the function's.
        purpose: what it gives a module.
        address: where it is; None where the kernel does not have it.
        exported: whether modules can use it; None where nothing tells.
    """

    name: str
    purpose: str
    address: VirtualAddress | None
    exported: bool | None

    def __str__(self) -> str:
        """One line, for whoever wants to write such a module."""
        if self.address is None:
            return f"{self.name} is not in this kernel"
        state = {True: "exported", False: "not exported", None: "not known to be exported"}[self.exported]
        return f"{self.name} at {self.address:#x} is {state}: {self.purpose}"


def ways(symbols: SymbolTable, kernel: Kernel | None = None) -> tuple[Way, ...]:
    """`WAYS`, and which of them the kernel exports.

    Where the table lists no entries of exports, its image shows them: a pointer or a distance to the function, and one
    to its name behind it.

    Args:
        symbols: the built-in ones.
        kernel: what they belong to; None where there is nothing but the table.
    """
    listed = bool(len(symbols.beginning(EXPORT.encode())))
    found = []
    for name, purpose in WAYS.items():
        index = symbols.find(name)
        exported: bool | None = None
        if index is None:
            found.append(Way(name, purpose, None, False))
            continue
        address = symbols.symbol(index).address
        if listed:
            exported = symbols.find(EXPORT + name) is not None
        elif kernel is not None:
            exported = _in_image(kernel, name, address)
        found.append(Way(name, purpose, address, exported))
    return tuple(found)


def _in_image(kernel: Kernel, name: str, address: int) -> bool:
    """Whether the image has an entry with this address and this name."""
    words = Words(kernel.symbols.word_size, kernel.byte_order)
    window = kernel.memory.around(kernel.tables[0].physical, BEFORE, AFTER)
    # linkers let a name be the end of a longer one, so nothing needs to stand before it
    for place in places_of(window, name.encode("latin-1") + b"\0", MAX_PLACES):
        text = place + kernel.distance & words.mask
        pointers = pointers_between(window, words, text, text).places[:MAX_PLACES]
        before, held = kernel.memory.words(pointers - np.uint64(words.size), words.dtype)
        if (held & (before == np.uint64(address))).any():
            return True
        if _by_distance(window, kernel, text, address):
            return True
    return False


def _by_distance(window: Segment, kernel: Kernel, text: int, address: int) -> bool:
    """Whether two neighbouring fields of 32 bits are the distances from themselves to a function and to its name."""
    mask = (1 << 32) - 1
    skipped = -window.start % 4
    fields = window.data[skipped : skipped + (len(window.data) - skipped) // 4 * 4].view(f"{kernel.byte_order}u4")
    first = window.start + skipped + kernel.distance
    for begin in range(0, len(fields), CHUNK):
        part = fields[begin : begin + CHUNK + 1].astype(np.uint32)
        own = np.arange(len(part), dtype=np.uint32) * np.uint32(4) + np.uint32(first + 4 * begin & mask)
        targets = part + own
        if ((targets[:-1] == np.uint32(address & mask)) & (targets[1:] == np.uint32(text & mask))).any():
            return True
    return False
