"""Tell which words of a kernel's log are addresses, and which of these are return addresses.

What architectures print when something goes wrong (show_regs(), show_stack() and die() of each, up to 7.x):

* Frames of a stack trace stand behind ``Call Trace:`` or ``Backtrace:``: ``[<address>] name``, on PowerPC
  ``[stack] [address] name``, a name alone, or the address alone where the kernel lists no symbols; with ``? `` before
  those that the unwinder doubts. On arm, ``[<entry>] (name) from [<address>]`` has the function's own address first.
* Code stands behind ``Code:``, ``Krnl Code:`` (s390x, over several lines) or ``Instruction dump:`` (PowerPC, in the
  lines below), as words of an instruction's size.
* Registers of state (flags, causes, physical addresses of page tables, entries of these) hold no kernel addresses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PREFIX = re.compile(
    rb"[>|\s]*(?:\d{4}-\d\d-\d\d[T ]\S+\s)?(?:[^\[\]<>]{0,120}?\bkernel(?:\[\d+\])?: )?"
    rb"(?:(?:kern|user) *: *[a-z]+ *: *)?"
    rb"(?:<\d{1,3}>|\[(?!<?[0-9a-fA-F]+>?\])[^\]]*\]|\(\d+\)|c\d{1,2} +\d+ |\s)*"
)
"""What loggers write before the kernel's own text: level, time stamp, caller; quotes of mails."""

TRACE_BEGINS = re.compile(rb"(?i)\bcall (?:back)?trace:|\b(?:back|stack )trace(?: \(crc [0-9a-f]+\))?:")
TRACE_ENDS = re.compile(
    rb"---\[ end|Modules linked in|</TASK>|Last Breaking-Event|Krnl PSW|\bStack ?:|\[ cut here \]|Kernel panic"
)
MAX_IDLE_LINES = 16
"""Lines without a frame that a trace goes on over: registers of an interrupt, messages of other processors."""

FRAME_LINE = re.compile(
    rb"[\s\[\]()<>?=]*(?:</?[A-Z]+>\s*)?[\[<?\s]*(?:[0-9a-fA-F]{8,16}\b|0x[0-9a-fA-F]+|[\w.$]+\+0x)"
)
FRAME_GAP = re.compile(rb"(?:</?[A-Z]+>|[\s\[\]()<>?])*")
"""What may stand before and between the frames of a line."""

OWN_ADDRESS = re.compile(rb"(?i)\b(?:[er]?ip|pc|nip|lr|epc|era|ra|at)\s*:?\s*(?:[0-9a-f]{4}:)?[\[<]*$")
"""What stands before the address of an instruction that ran, or of a function's entry."""
ENTRY = re.compile(rb"(?: \([^()]*\))? from \[")
"""What stands behind a function's entry in the traces of arm."""

CODE_BEGINS = re.compile(rb"\s*(?:(?:Krnl )?Code:|Instruction (?i:dump):)")
CODE_WORD = re.compile(rb"[0-9a-fA-F]{2}|[0-9a-fA-F]{4}|[0-9a-fA-F]{8}|X{8}")
LISTED_CODE = re.compile(rb"[0-9a-fA-F]{8,16}:")
"""How a line of s390x's code begins."""

STATE = re.compile(
    rb"\b(?:[ER]?FLAGS|CPSR|psr|pstate|[Ss]tatus|[Cc]ause|PrId|Control|Table|DAC|CR[034]|DR[67]|MSR|XER|CRMD|PRMD"
    rb"|EUEN|ECFG|ESTAT)\s*:\s*$|\*p\w{2,3} ?= ?$"
)
"""What stands before a word of a processor's state, or an entry of a page table."""

LABEL = 24
"""Bytes before a word that can label it."""


@dataclass(frozen=True)
class LogLine:
    """One line of a log, in its context.

    Attributes:
        text: the line.
        in_trace: whether it can hold frames.
        is_code: whether it dumps code.
        frames_start: where the first frame can begin.
    """

    text: bytes
    in_trace: bool
    is_code: bool
    frames_start: int

    def is_address(self, start: int) -> bool:
        """Whether a hexadecimal number may be an address: none in code without ``0x``, no register of state.

        Args:
            start: where the number begins in the line.
        """
        if self.is_code and self.text[start : start + 2].lower() != b"0x":
            return False
        return STATE.search(self.text, max(0, start - LABEL), start) is None

    def is_return_address(self, start: int, end: int, before: int, *, is_framed: bool) -> bool:
        """Whether an address is where a call returns to.

        Args:
            start: where it begins in the line.
            end: where it ends, with its brackets.
            before: where the frame before it ends, or ``frames_start``.
            is_framed: whether it stands in ``[<`` and ``>]``.
        """
        if not self.in_trace or ENTRY.match(self.text, end):
            return False
        if is_framed:
            return OWN_ADDRESS.search(self.text, max(0, start - LABEL), start) is None
        return before <= start and FRAME_GAP.fullmatch(self.text, before, start) is not None


class LogReader:
    """Follows the traces and the code of a log through its lines, in their order."""

    def __init__(self) -> None:
        self._in_trace = self._in_code = False
        self._idle = 0

    def read(self, text: bytes) -> LogLine:
        """The next line in its context."""
        prefix = PREFIX.match(text)
        start = prefix.end() if prefix else 0
        self._in_code = CODE_BEGINS.match(text, start) is not None or (self._in_code and _is_code(text[start:]))
        if begins := TRACE_BEGINS.search(text):
            self._in_trace, self._idle, start = True, 0, max(start, begins.end())
        elif TRACE_ENDS.search(text):
            self._in_trace = False
        else:
            self._idle = 0 if FRAME_LINE.match(text, start) else self._idle + 1
            self._in_trace = self._in_trace and self._idle <= MAX_IDLE_LINES
        return LogLine(text, self._in_trace, self._in_code, start)


def _is_code(text: bytes) -> bool:
    """Whether a line below code goes on with it."""
    words = text.translate(None, b"<>()#*").split()
    return bool(words) and (LISTED_CODE.match(words[0]) is not None or all(map(CODE_WORD.fullmatch, words)))
