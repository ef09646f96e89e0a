"""Find the distance between the addresses of two boots of the same kernel.

A kernel that panics prints its KASLR offset and the address that it counts from (``dump_kernel_offset()`` of each
architecture): ``Kernel Offset: 0x2be00000 from 0xffffffff81000000``. Anybody can write to a log. So that line is
trusted only at the beginning of a kernel's line, and only if the log's other addresses fit it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from kallsift.errors import KallsiftError
from kallsift.kallsyms.symbol_table import SymbolTable

_DAY = rb"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) ?[ \d]\d"
_ISO = rb"\d{4}-\d\d-\d\d[T ][\d:.,]{8,16}(?:Z|[+-]\d\d:?\d\d)?"

PREFIX = (
    rb"[>| \t]{0,8}(?:"  # quotation marks of mails
    rb"<[0-7]>"  # level of the kernel's own lines; other facilities have 8 or more
    rb"|[0-7],\d+,\d+,[^;\n]{1,64};"  # /dev/kmsg (Documentation/ABI/testing/dev-kmsg)
    rb"|kern *:[a-z]+ *: ?"  # dmesg --decode
    rb"|\[ *\+?\d+\.\d+\] ?|\[ *[TC]\d+\] ?"  # CONFIG_PRINTK_TIME, CONFIG_PRINTK_CALLER
    rb"|\[(?:" + _DAY + rb" \d\d:\d\d(?::\d\d \d{4})?|" + _ISO + rb")\] ?"  # dmesg --ctime, --reltime; consoles
    rb"|(?:" + _DAY + rb" \d\d:\d\d:\d\d|" + _ISO + rb") [^ \n]+ kernel: ?"  # syslog, journalctl
    rb"|" + _ISO + rb" "  # dmesg --time-format iso
    rb"){0,6}"
)
"""Text that can stand before a kernel's message in a log line."""

OFFSET = re.compile(
    PREFIX + rb"Kernel Offset: (?:(0x[0-9a-fA-F]{1,16}) from (0x[0-9a-fA-F]{1,16})"
    rb"(?: \(relocation range[^)\n]{0,64}\))?|disabled)\s*"
)
"""The whole line with the KASLR offset.

It has ``disabled`` if the kernel runs at the addresses that it was linked at.
"""

MAX_ADDRESSES = 1 << 16
"""Highest number of addresses of a log that are remembered."""

BASES = ("_text", "_stext")
"""Symbols that people call a kernel's base."""


class UnknownBaseError(KallsiftError):
    """The base of another boot cannot be compared with the kernel at hand."""


def base_in_line(line: bytes, linked: int | None) -> int | None:
    """Return the address of ``_text`` that a log line with a KASLR offset gives.

    None for all other lines.

    Args:
        line: a line of a log.
        linked: the link address of ``_text``; None if unknown.

    Raises:
        UnknownBaseError: if the link address is needed but unknown.
    """
    found = OFFSET.fullmatch(line)
    if found is None:
        return None
    if found[1] is not None:
        return int(found[1], 16) + int(found[2], 16)
    if linked is None:
        raise UnknownBaseError(
            "the log's kernel was not moved by KASLR, but its link address is unknown; give its _text with --from-base"
        )
    return linked


def distance_from(symbols: SymbolTable, given: int, linked: int | None) -> int:
    """Return the distance to add to another boot's addresses; it may be negative.

    The sum is the address in the kernel at hand.

    Args:
        symbols: symbols of the kernel at hand.
        given: the other boot's KASLR offset, or its ``_text`` or ``_stext``: the one of the two for which the distance
            is divisible by the higher power of two.
        linked: the link address of ``_text``; None if unknown.

    Raises:
        UnknownBaseError: if there is no ``_text`` or ``_stext`` to compare with.
    """
    bases = [symbols.symbol(index).address for name in BASES if (index := symbols.find(name)) is not None]
    if not bases:
        raise UnknownBaseError(
            "this kernel has no symbol _text or _stext, so addresses of another boot cannot be converted; "
            "leave out --from-base"
        )
    half = 1 << 8 * symbols.word_size - 1
    if bases[0] >= half > given:
        # not in the kernel's half of the address space, so it is an offset
        if linked is None:
            raise UnknownBaseError(
                f"the link address of this kernel is unknown, so the offset {given:#x} cannot be used; "
                "give the address of _text"
            )
        return bases[0] - linked - given
    return max((base - given for base in bases), key=lambda distance: distance & -distance if distance else half)


@dataclass
class LogAddresses:
    """The addresses in a log, which show whether it fits a boot with a given base.

    Attributes:
        symbols: symbols of the kernel at hand.
    """

    symbols: SymbolTable
    _addresses: list[int] = field(default_factory=list, init=False)
    _named: list[tuple[int, str]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        digits = b"%d" % (2 * self.symbols.word_size)
        self._address = re.compile(rb"(?<![\w.+/-])(?:0[xX])?([0-9a-fA-F]{" + digits + rb"})(?![\w-])")
        self._name = re.compile(
            rb"(?<![\w.+/-])(?:0[xX])?([0-9a-fA-F]{"
            + digits
            + rb"})[\])>]*:? ?(?:\? )?[(<]?([A-Za-z_.$][\w.$@]*)\+0x([0-9a-f]{1,8})/0x[0-9a-f]{1,8}"
        )
        base = next((index for name in BASES if (index := self.symbols.find(name)) is not None), None)
        start = 0 if base is None else self.symbols.symbol(base).address
        end = self.symbols.find("_end")
        above = self.symbols.addresses[self.symbols.addresses >= np.uint64(start)]
        last = int(above.max(initial=start)) if end is None else self.symbols.symbol(end).address
        self._image = range(start, last + 1)

    def add(self, line: bytes) -> None:
        """Remember the addresses of a line, and the names that the kernel gave them."""
        if len(self._addresses) >= MAX_ADDRESSES or OFFSET.fullmatch(line):
            return
        self._addresses += (int(found[1], 16) for found in self._address.finditer(line))
        for found in self._name.finditer(line):
            self._named.append((int(found[1], 16) - int(found[3], 16), found[2].decode("latin-1")))

    def fit(self, distance: int) -> bool:
        """Tell whether the log's addresses fit a boot better than the kernel at hand.

        The addresses of that boot are lower than those of the kernel at hand by ``distance``; 0 always fits.

        If the log names addresses, more than half of the names that the kernel at hand knows must then be at its
        addresses. Otherwise more addresses must lie only in the image of that boot than only in the image at hand,
        unless none lies only in the image at hand.
        """
        if not distance:
            return True
        known = {name: frozenset(symbol.address for symbol in self.symbols.all(name)) for _, name in self._named}
        named = [(address, known[name]) for address, name in self._named if known[name]]
        if named:
            return 2 * sum(address + distance in starts for address, starts in named) > len(named)
        moved = [address + distance in self._image for address in self._addresses]
        own = [address in self._image for address in self._addresses]
        theirs = sum(after and not before for after, before in zip(moved, own, strict=True))
        ours = sum(before and not after for after, before in zip(moved, own, strict=True))
        return theirs > ours or not ours
