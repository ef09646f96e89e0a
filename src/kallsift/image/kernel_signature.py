"""Marks of a kernel in bare bytes: whether unpacking something led to a kernel.

They only decide what is worth to be handed on; what is a symbol table is for others to prove.
"""

from __future__ import annotations

import re

import numpy as np

from kallsift.arrays import Bytes

DIGITS = b"".join(bytes((digit, 0)) for digit in b"0123456789")
"""Tokens of the ten digits, which stand in every token table (scripts/kallsyms.c, since 2.6.10)."""

FIRST_DIGIT, TOKENS = ord("0"), 256
TOKEN_BYTES_LIMIT = 1 << 16
"""More than a token table can have, since the entries of its index have 16 bits."""
GAP_LIMIT = 256
"""Bytes that alignment may put between a token table and its index."""
RUN_LIMIT = 64
"""Runs of digits that are looked at in one image; kernels hold about six, in other tables of characters."""

_DIGITS = re.compile(re.escape(DIGITS))
_BANNER = re.compile(rb"Linux version [0-9]")
"""linux_banner (init/version.c) begins so in every release; followed by a format's % it is just a program's text."""


def token_table(view: Bytes) -> int | None:
    """Where the digits' tokens of a token table stand in ``view``, with an index that fits behind them; or None.

    The digits alone also stand in compressed kernels, since lz4 and others leave as it is what does not repeat, and in
    programs' tables of characters.
    """
    for number, match in enumerate(_DIGITS.finditer(view.data)):
        if number == RUN_LIMIT:
            return None
        if _is_indexed(view[match.start() : match.start() + TOKEN_BYTES_LIMIT].tobytes()):
            return match.start()
    return None


def holds_token_table(view: Bytes) -> bool:
    """Whether a token table stands in ``view``."""
    return token_table(view) is not None


def holds_banner(view: Bytes) -> bool:
    """Whether a kernel's banner stands in ``view``; it may also show in kernels that are compressed."""
    return _BANNER.search(view.data) is not None


def holds_kernel(view: Bytes) -> bool:
    """Whether ``view`` holds a token table, or the banner alone, as kernels without one do."""
    return holds_token_table(view) or holds_banner(view)


def _is_indexed(behind: bytes) -> bool:
    """Whether ``behind``, which begins with the first digit's token, goes on to the offsets of the tokens."""
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
