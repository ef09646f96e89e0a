"""Tell which words of a kernel's log are addresses or return addresses.

Architectures print this when an error occurs (show_regs(), show_stack() and die() of each, up to 7.x):

* Frames of a stack trace stand behind ``Call Trace:`` or ``Backtrace:``: ``[<address>] name``, on PowerPC
  ``[stack] [address] name``, a name alone, or the address alone if the kernel lists no symbols; with ``? `` before
  frames that the unwinder does not trust. On arm, ``[<entry>] (name) from [<address>]`` has the function's own address
  first.
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
"""Text that loggers write before the kernel's own text.

It has level, time stamp, caller; quotation marks of mails.
"""

TRACE_BEGINS = re.compile(rb"(?i)\bcall (?:back)?trace:|\b(?:back|stack )trace(?: \(crc [0-9a-f]+\))?:")
TRACE_ENDS = re.compile(
    rb"---\[ end|Modules linked in|</TASK>|Last Breaking-Event|Krnl PSW|\bStack ?:|\[ cut here \]|Kernel panic"
)
MAX_IDLE_LINES = 16
"""Highest number of consecutive lines without a frame inside a trace.

Such lines are registers of an interrupt, or messages of other processors.
"""

FRAME_LINE = re.compile(
    rb"[\s\[\]()<>?=]*(?:</?[A-Z]+>\s*)?[\[<?\s]*(?:[0-9a-fA-F]{8,16}\b|0x[0-9a-fA-F]+|[\w.$]+\+0x)"
)
FRAME_GAP = re.compile(rb"(?:</?[A-Z]+>|[\s\[\]()<>?])*")
"""Text that can stand before and between the frames of a line."""

OWN_ADDRESS = re.compile(rb"(?i)\b(?:[er]?ip|pc|nip|lr|epc|era|ra|at)\s*:?\s*(?:[0-9a-f]{4}:)?[\[<]*$")
"""Text before the address of an instruction that ran, or of a function's entry."""
ENTRY = re.compile(rb"(?: \([^()]*\))? from \[")
"""Text behind a function's entry in the traces of arm."""

CODE_BEGINS = re.compile(rb"\s*(?:(?:Krnl )?Code:|Instruction (?i:dump):)")
CODE_WORD = re.compile(rb"[0-9a-fA-F]{2}|[0-9a-fA-F]{4}|[0-9a-fA-F]{8}|X{8}")
LISTED_CODE = re.compile(rb"[0-9a-fA-F]{8,16}:")
"""Beginning of a line of s390x's code."""

STATE = re.compile(
    rb"\b(?:[ER]?FLAGS|CPSR|psr|pstate|[Ss]tatus|[Cc]ause|PrId|Control|Table|DAC|CR[034]|DR[67]|MSR|XER|CRMD|PRMD"
    rb"|EUEN|ECFG|ESTAT)\s*:\s*$|\*p\w{2,3} ?= ?$"
)
"""Text before a word of a processor's state, or before an entry of a page table."""

LABEL = 24
"""Number of bytes before a word that can label it."""


@dataclass(frozen=True)
class LogLine:
    """One line of a log, in its context.

    Attributes:
        text: the line.
        in_trace: whether it can hold frames.
        is_code: whether it dumps code.
        frames_start: index at which the first frame can begin.
    """

    text: bytes
    in_trace: bool
    is_code: bool
    frames_start: int

    def is_address(self, start: int) -> bool:
        """Tell whether a hexadecimal number can be an address.

        Numbers without ``0x`` in code are not, and registers of state are not.

        Args:
            start: index in the line at which the number begins.
        """
        if self.is_code and self.text[start : start + 2].lower() != b"0x":
            return False
        return STATE.search(self.text, max(0, start - LABEL), start) is None

    def is_return_address(self, start: int, end: int, before: int, *, is_framed: bool) -> bool:
        """Tell whether an address is the return address of a call.

        Args:
            start: index in the line at which it begins.
            end: index behind it and its brackets.
            before: index behind the previous frame, or ``frames_start``.
            is_framed: whether it stands in ``[<`` and ``>]``.
        """
        if not self.in_trace or ENTRY.match(self.text, end):
            return False
        if is_framed:
            return OWN_ADDRESS.search(self.text, max(0, start - LABEL), start) is None
        return before <= start and FRAME_GAP.fullmatch(self.text, before, start) is not None


class LogReader:
    """Reader that follows the traces and the code of a log, line by line in order."""

    def __init__(self) -> None:
        self._in_trace = self._in_code = False
        self._idle = 0

    def read(self, text: bytes) -> LogLine:
        """Return the next line in its context."""
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
    """Tell whether a line below code continues the code."""
    words = text.translate(None, b"<>()#*").split()
    return bool(words) and (LISTED_CODE.match(words[0]) is not None or all(map(CODE_WORD.fullmatch, words)))
