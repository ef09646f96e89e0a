"""Another boot of the same kernel: by how much its addresses differ from those of the kernel at hand.

A kernel that panics prints its KASLR offset, and what that is counted from (``dump_kernel_offset()`` of each
architecture): ``Kernel Offset: 0x2be00000 from 0xffffffff81000000``. A log holds what anybody wrote into it, so that
line is believed only where a kernel's line begins, and where the log's other addresses fit it.
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
    rb"[>| \t]{0,8}(?:"  # of mails that quote it
    rb"<[0-7]>"  # the level, of the kernel's own lines alone: with a facility, it is 8 and more
    rb"|[0-7],\d+,\d+,[^;\n]{1,64};"  # /dev/kmsg (Documentation/ABI/testing/dev-kmsg)
    rb"|kern *:[a-z]+ *: ?"  # dmesg --decode
    rb"|\[ *\+?\d+\.\d+\] ?|\[ *[TC]\d+\] ?"  # CONFIG_PRINTK_TIME, CONFIG_PRINTK_CALLER
    rb"|\[(?:" + _DAY + rb" \d\d:\d\d(?::\d\d \d{4})?|" + _ISO + rb")\] ?"  # dmesg --ctime, --reltime; consoles
    rb"|(?:" + _DAY + rb" \d\d:\d\d:\d\d|" + _ISO + rb") [^ \n]+ kernel: ?"  # syslog, journalctl
    rb"|" + _ISO + rb" "  # dmesg --time-format iso
    rb"){0,6}"
)
"""What can stand before a line of the kernel's."""

OFFSET = re.compile(
    PREFIX + rb"Kernel Offset: (?:(0x[0-9a-fA-F]{1,16}) from (0x[0-9a-fA-F]{1,16})"
    rb"(?: \(relocation range[^)\n]{0,64}\))?|disabled)\s*"
)
"""The whole line; ``disabled`` where the kernel runs as it was linked."""

MAX_ADDRESSES = 1 << 16
"""Addresses of a log that are remembered at most."""

BASES = ("_text", "_stext")
"""Symbols that people name as a kernel's base."""


class UnknownBaseError(KallsiftError):
    """What somebody knows of another boot cannot be compared with the kernel at hand."""


def base_in_line(line: bytes, linked: int | None) -> int | None:
    """Where ``_text`` was in the boot that a line of its log tells the offset of; None for all other lines.

    Args:
        line: of a log.
        linked: where ``_text`` was linked; None where nothing tells.

    Raises:
        UnknownBaseError: if that is needed, but not known.
    """
    found = OFFSET.fullmatch(line)
    if found is None:
        return None
    if found[1] is not None:
        return int(found[1], 16) + int(found[2], 16)
    if linked is None:
        raise UnknownBaseError(
            "the log's kernel was not moved, and nothing tells where it was linked; give --from-base"
        )
    return linked


def distance_from(symbols: SymbolTable, given: int, linked: int | None) -> int:
    """What has to be added to another boot's addresses to get those of the kernel at hand; may be negative.

    Args:
        symbols: of the kernel at hand.
        given: the other boot's ``_text`` or ``_stext``, whichever moves the kernel by the rounder number, or its
            KASLR offset.
        linked: where ``_text`` was linked; None where nothing tells.

    Raises:
        UnknownBaseError: if there is no ``_text`` or ``_stext`` to compare it with.
    """
    bases = [symbols.symbol(index).address for name in BASES if (index := symbols.find(name)) is not None]
    if not bases:
        raise UnknownBaseError("this kernel's table lists neither _text nor _stext, so no other boot compares with it")
    half = 1 << 8 * symbols.word_size - 1
    if bases[0] >= half > given:
        # no address of a kernel's, so an offset
        if linked is None:
            raise UnknownBaseError(
                f"nothing tells where this kernel was linked, so the offset {given:#x} says nothing; give its _text"
            )
        return bases[0] - linked - given
    return max((base - given for base in bases), key=lambda distance: distance & -distance if distance else half)


@dataclass
class LogAddresses:
    """The addresses in a log, which tell whether it can be of a boot that had a certain base.

    Attributes:
        symbols: of the kernel at hand.
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
        """Remember the addresses of a line, and what the kernel itself called them."""
        if len(self._addresses) >= MAX_ADDRESSES or OFFSET.fullmatch(line):
            return
        self._addresses += (int(found[1], 16) for found in self._address.finditer(line))
        for found in self._name.finditer(line):
            self._named.append((int(found[1], 16) - int(found[3], 16), found[2].decode("latin-1")))

    def fit(self, distance: int) -> bool:
        """Whether they fit a boot better whose addresses are so much lower than those of the kernel at hand.

        Where the log names addresses, most of the names that the kernel at hand has must be at theirs then. Else more
        of the addresses must be of that boot's image alone than of the image at hand alone, unless none is of either.
        """
        if not distance:
            return True
        known = {name: frozenset(symbol.address for symbol in self.symbols.all(name)) for _, name in self._named}
        named = [(address, known[name]) for address, name in self._named if known[name]]
        if named:
            return 2 * sum(address + distance in starts for address, starts in named) > len(named)
        moved = [address + distance in self._image for address in self._addresses]
        own = [address in self._image for address in self._addresses]
        theirs = sum(told and not held for told, held in zip(moved, own, strict=True))
        ours = sum(held and not told for told, held in zip(moved, own, strict=True))
        return theirs > ours or not ours
