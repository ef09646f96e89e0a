"""Annotate the addresses in a kernel's log with their symbols.

All other text stays as it is. Addresses are written as kernels and people write them: ``0x`` and digits, or bare digits
of a word's size, in any brackets. An annotation is ``<symbol+0xoffset/0xsize [module]>``; it is left out if the kernel
itself printed the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from kallsift.analysis.symbol_lookup import Answer, Resolver
from kallsift.kallsyms.symbol_table import Symbol
from kallsift.output.text.log_lines import LogReader

SYMBOL = rb"(?<![\w.$@])(?P<name>[A-Za-z_.$][\w.$@]*)\+0x(?P<offset>[0-9a-f]+)/0x(?P<size>[0-9a-f]+)"
MODULE = rb"(?: \[(?P<module>\w+)(?: [0-9a-f]{16,64})?\])?"
"""The owner in the text of ``sprint_symbol``.

Since 5.14 a module's build ID can stand behind its name.
"""

BRACKETS = (b"[<", b">]"), (b"[", b"]")
"""Brackets that can stand around return addresses of stack traces.

Annotations stand behind them.
"""

ADDRESS = rb"(?<![\w+/])(?:0[xX][0-9a-fA-F]{1,16}|(?<![.-])[0-9a-fA-F]{%d}(?!-))(?!\w|\.\w)"
"""An address in a log.

Offsets and sizes, dates, UUIDs and hash sums do not match.
"""

BETWEEN = re.compile(rb"[)\]>]*:? ?(?:\? )?[(<]?")
"""Text that can stand between an address and the kernel's text about it."""

PRINTED = re.compile(SYMBOL + MODULE)

MAX_NAMED = 16
"""Highest number of symbols of one name that are compared."""


@dataclass(repr=False)
class Annotator:
    """Annotates the lines of a log in their order.

    Attributes:
        resolver: finds the symbols of addresses.
        distance: number added to the log's addresses before the look-up; not 0 for logs of another boot, whose modules
            had other addresses and are not looked up.
        addresses: whether ``symbol+0xoffset/0xsize`` is annotated with its address in the kernel at hand.
        traces: whether stack traces name the symbol of a return address's call, as most architectures do.
    """

    resolver: Resolver
    distance: int = 0
    addresses: bool = False
    traces: bool = True
    _log: LogReader = field(default_factory=LogReader, init=False)

    def __repr__(self) -> str:
        moved = f", of a log that lies {-self.distance:#x} from it" if self.distance else ""
        return f"<Annotator by {self.resolver!r}{moved}>"

    def __post_init__(self) -> None:
        digits = 2 * self.resolver.symbols.word_size
        pattern = b"(?P<address>" + ADDRESS % digits + b")"
        self._tokens = re.compile(pattern + b"|" + SYMBOL + MODULE if self.addresses else pattern)

    def line(self, line: bytes) -> bytes:
        """Return one line with its annotations and its line break."""
        context = self._log.read(line)
        pieces: list[bytes] = []
        done, frame_end = 0, context.frames_start
        for token in self._tokens.finditer(line):
            end, is_framed = _closed(line, token)
            if not token["address"]:
                said = self._symbol(token, line)
            elif context.is_address(token.start()):
                is_return = context.is_return_address(token.start(), end, frame_end, is_framed=is_framed)
                frame_end = end
                said = self._address(int(token["address"], 16), line, end, is_return)
            else:
                said = None
            if said:
                pieces += (line[done:end], b" <" + said.encode("ascii", "backslashreplace") + b">")
                done = end
        return b"".join((*pieces, line[done:])) if pieces else line

    def _address(self, address: int, line: bytes, end: int, is_return: bool) -> str | None:
        """Return the annotation of an address; None if unknown, or the kernel printed it."""
        own = self.resolver.at(address + self.distance)
        # some kernels print the symbol that begins at a return address, so both are right
        call = None if own and own.location.offset else self.resolver.backtrace(address + self.distance)
        answer = (call or own) if is_return and self.traces else own
        between = BETWEEN.match(line, end)
        said = between.end() if between else end
        if answer is None or any(known and _is_said(known, line, said) for known in (own, call)):
            return None
        return str(answer)

    def _symbol(self, token: re.Match[bytes], line: bytes) -> str | None:
        offset, size = int(token["offset"], 16), int(token["size"], 16)
        name, module = token["name"].decode(), (token["module"] or b"").decode()
        found = []
        for symbol in self._named(name, module)[:MAX_NAMED]:
            answer = self.resolver.at(symbol.address)
            if answer is not None and answer.location.size == size:
                found.append(f"{symbol.address + offset:0{2 * self.resolver.symbols.word_size}x}")
        text = "|".join(dict.fromkeys(found))
        return None if line.startswith(f" <{text}>".encode(), token.end()) else text

    def _named(self, name: str, module: str) -> tuple[Symbol, ...]:
        if not module and (found := self.resolver.named(name)):
            return found
        # the kernel prints BPF programs without an owner
        groups = (g for g in self.resolver.dynamic.groups if g.owner == module or (not module and g.owner == "bpf"))
        return tuple(symbol for group in groups for symbol in group.symbols.all(name))


def _closed(line: bytes, token: re.Match[bytes]) -> tuple[int, bool]:
    """Return the end of a token with its brackets.

    The second value tells whether these are ``[<`` and ``>]``.
    """
    for opening, closing in BRACKETS:
        if line.startswith(closing, token.end()) and line.endswith(opening, 0, token.start()):
            return token.end() + len(closing), opening == BRACKETS[0][0]
    return token.end(), False


def _is_said(answer: Answer, line: bytes, start: int) -> bool:
    """Tell whether the text from ``start`` on says the same as an answer."""
    if line.startswith(str(answer).encode("ascii", "backslashreplace"), start):
        return True
    said, location = PRINTED.match(line, start), answer.location
    return (
        said is not None
        and said["name"].decode("ascii") == location.symbol.name
        and int(said["offset"], 16) == location.offset
        and int(said["size"], 16) == location.size
        and (said["module"] or b"").decode("ascii") == answer.owner
    )
