"""Recognise a kernel in bare bytes, to tell whether unpacking led to one.

These tests only decide which bytes are passed on. Other packages prove that something is a symbol table.
"""

from __future__ import annotations

import re

import numpy as np

from kallsift.arrays import Bytes

DIGITS = b"".join(bytes((digit, 0)) for digit in b"0123456789")
"""Tokens of the ten digits, which are in every token table (scripts/kallsyms.c, since 2.6.10)."""

FIRST_DIGIT, TOKENS = ord("0"), 256
TOKEN_BYTES_LIMIT = 1 << 16
"""Size that no token table exceeds, because the entries of its index have 16 bits."""
GAP_LIMIT = 256
"""Highest number of alignment bytes between a token table and its index."""
RUN_LIMIT = 64
"""Highest number of runs of digits that are tested in one image.

Kernels hold about six, in other tables of characters.
"""

_DIGITS = re.compile(re.escape(DIGITS))
_BANNER = re.compile(rb"Linux version [0-9]")
"""Beginning of linux_banner (init/version.c) in every release; before a format's % it is only the text of a program."""


def token_table(view: Bytes) -> int | None:
    """Return the offset of the digits' tokens in a token table; None if there is none.

    A fitting index must stand behind the table. The digits alone also occur in programs' tables of characters, and in
    compressed kernels, because lz4 and others copy data that does not repeat.
    """
    for number, match in enumerate(_DIGITS.finditer(view.data)):
        if number == RUN_LIMIT:
            return None
        if _is_indexed(view[match.start() : match.start() + TOKEN_BYTES_LIMIT].tobytes()):
            return match.start()
    return None


def holds_token_table(view: Bytes) -> bool:
    """Tell whether ``view`` contains a token table."""
    return token_table(view) is not None


def holds_banner(view: Bytes) -> bool:
    """Tell whether ``view`` contains a kernel's banner.

    The banner may also show in a compressed kernel.
    """
    return _BANNER.search(view.data) is not None


def holds_kernel(view: Bytes) -> bool:
    """Tell whether ``view`` contains a token table or at least a banner.

    Kernels without a token table have only the banner.
    """
    return holds_token_table(view) or holds_banner(view)


def _is_indexed(behind: bytes) -> bool:
    """Tell whether the index of a token table follows.

    ``behind`` begins with the token of the first digit.
    """
    ends = np.flatnonzero(np.frombuffer(behind, np.uint8) == 0)[: TOKENS - FIRST_DIGIT]
    if len(ends) < TOKENS - FIRST_DIGIT:
        return False
    table_end = int(ends[-1]) + 1
    for place in range(table_end + 2 * FIRST_DIGIT, table_end + 2 * FIRST_DIGIT + GAP_LIMIT):
        entries = behind[place : place + 2 * len(ends)]
        if len(entries) < 2 * len(ends):
            return False
        for order in ("<u2", ">u2"):
            offsets = np.frombuffer(entries, order).astype(np.int64)
            if (offsets[1:] - offsets[0] == ends[:-1] + 1).all():
                return True
    return False
