"""Annotation: text of a kernel's log with what each address belongs to behind it, and all else as it was.

Addresses are written as kernels and people do: ``0x`` and digits, or bare digits of a word's size, in any brackets.
An annotation is ``<symbol+0xoffset/0xsize [module]>``; where the kernel itself said the same already, there is none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from kallsift.kallsyms.table import Symbol
from kallsift.questions.resolver import Answer, Resolver

SYMBOL = rb"(?<![\w.$@])(?P<name>[A-Za-z_.$][\w.$@]*)\+0x(?P<offset>[0-9a-f]+)/0x(?P<size>[0-9a-f]+)"
MODULE = rb"(?: \[(?P<module>\w+)(?: [0-9a-f]{16,64})?\])?"
"""What ``sprint_symbol`` writes; since 5.14 a module's build ID can stand behind its name."""

FRAME = b"[<", b">]"
"""What stands around the return addresses of stack traces."""

ADDRESS = rb"(?<![\w+/])(?:0[xX][0-9a-fA-F]{1,16}|(?<![.-])[0-9a-fA-F]{%d}(?!-))(?!\w|\.\w)"
"""Offsets and sizes, dates, UUIDs and hash sums are none."""

SAID = re.compile(rb"\)?:? ?(?:\? )?[(<]?")
"""What can stand between an address and what the kernel says of it."""

TRACE_BEGINS = re.compile(rb"(?i)\bcall trace:|\bbacktrace:")
TRACE_ENDS = re.compile(rb"---\[ end|\bCode: |Modules linked in|\b[ER]?IP: |\bpc : |</TASK>")
"""Between the two stand return addresses."""

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
    _in_trace: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        digits = 2 * self.resolver.symbols.word_size
        pattern = b"(?P<address>" + ADDRESS % digits + b")"
        self._tokens = re.compile(pattern + b"|" + SYMBOL + MODULE if self.addresses else pattern)

    def line(self, line: bytes) -> bytes:
        """One line, with its end, annotated."""
        if TRACE_BEGINS.search(line):
            self._in_trace = True
        elif TRACE_ENDS.search(line):
            self._in_trace = False
        pieces: list[bytes] = []
        done = 0
        for token in self._tokens.finditer(line):
            end = token.end()
            if framed := line.startswith(FRAME[1], end) and line.endswith(FRAME[0], 0, token.start()):
                end += len(FRAME[1])
            if token["address"]:
                # alone in its line, it is one of a list
                traced = self._in_trace and (framed or line.strip() == token["address"])
                said = self._address(int(token["address"], 16), line, end, traced)
            else:
                said = self._symbol(token, line)
            if said:
                pieces += (line[done:end], b" <" + said.encode("ascii", "backslashreplace") + b">")
                done = end
        return b"".join((*pieces, line[done:])) if pieces else line

    def _address(self, address: int, line: bytes, end: int, traced: bool) -> str | None:
        answer = self._at(address + self.distance, traced and self.traces)
        if answer is None:
            return None
        text = str(answer)
        behind = found.end() if (found := SAID.match(line, end)) else end
        return None if line.startswith(text.encode("ascii", "backslashreplace"), behind) else text

    def _at(self, address: int, traced: bool) -> Answer | None:
        answer = self.resolver.at(address)
        if traced and (answer is None or not answer.location.offset):
            answer = self.resolver.backtrace(address) or answer
        return answer

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
