"""Annotation: text of a kernel's log with what each address belongs to behind it, and all else as it was.

Addresses are written as kernels and people do: ``0x`` and digits, or bare digits of a word's size, in any brackets.
An annotation is ``<symbol+0xoffset/0xsize [module]>``; where the kernel itself said the same already, there is none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from kallsift.analysis.symbol_lookup import Answer, Resolver
from kallsift.kallsyms.symbol_table import Symbol
from kallsift.output.text.log_lines import LogReader

SYMBOL = rb"(?<![\w.$@])(?P<name>[A-Za-z_.$][\w.$@]*)\+0x(?P<offset>[0-9a-f]+)/0x(?P<size>[0-9a-f]+)"
MODULE = rb"(?: \[(?P<module>\w+)(?: [0-9a-f]{16,64})?\])?"
"""What ``sprint_symbol`` writes; since 5.14 a module's build ID can stand behind its name."""

BRACKETS = (b"[<", b">]"), (b"[", b"]")
"""What can stand around the return addresses of stack traces; annotations stand behind it."""

ADDRESS = rb"(?<![\w+/])(?:0[xX][0-9a-fA-F]{1,16}|(?<![.-])[0-9a-fA-F]{%d}(?!-))(?!\w|\.\w)"
"""Offsets and sizes, dates, UUIDs and hash sums are none."""

BETWEEN = re.compile(rb"[)\]>]*:? ?(?:\? )?[(<]?")
"""What can stand between an address and what the kernel says of it."""

PRINTED = re.compile(SYMBOL + MODULE)

MAX_NAMED = 16
"""Symbols of one name that are told apart at most."""


@dataclass
class Annotator:
    """Annotates the lines of a log in their order.

    Attributes:
        resolver: what addresses belong to.
        distance: what is added to the log's addresses before they are looked up: not 0 for another boot's, whose
            modules lay anywhere, so that they are not looked up.
        addresses: whether ``symbol+0xoffset/0xsize`` is annotated with its address in the kernel at hand.
        traces: whether stack traces name what a return address's call belongs to, as most architectures do.
    """

    resolver: Resolver
    distance: int = 0
    addresses: bool = False
    traces: bool = True
    _log: LogReader = field(default_factory=LogReader, init=False)

    def __post_init__(self) -> None:
        digits = 2 * self.resolver.symbols.word_size
        pattern = b"(?P<address>" + ADDRESS % digits + b")"
        self._tokens = re.compile(pattern + b"|" + SYMBOL + MODULE if self.addresses else pattern)

    def line(self, line: bytes) -> bytes:
        """One line, with its end, annotated."""
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
        """What to say of an address; None if nothing is known, or the kernel said so itself."""
        own = self.resolver.at(address + self.distance)
        # some kernels name return addresses by what begins there, so that either is right
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
        # BPF's programs are printed without an owner
        groups = (g for g in self.resolver.dynamic.groups if g.owner == module or (not module and g.owner == "bpf"))
        return tuple(symbol for group in groups for symbol in group.symbols.all(name))


def _closed(line: bytes, token: re.Match[bytes]) -> tuple[int, bool]:
    """Where a token ends, with the brackets around it, and whether these are ``[<`` and ``>]``."""
    for opening, closing in BRACKETS:
        if line.startswith(closing, token.end()) and line.endswith(opening, 0, token.start()):
            return token.end() + len(closing), opening == BRACKETS[0][0]
    return token.end(), False


def _is_said(answer: Answer, line: bytes, start: int) -> bool:
    """Whether the words from ``start`` on say the same as an answer."""
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
