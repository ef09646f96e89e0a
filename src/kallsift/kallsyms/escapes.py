r"""Write names of the kernel as text that is safe to print and can be read back.

All commands and files use this one rule: printable ASCII stands for itself, except the blank and the backslash; every
other byte is ``\xNN``. The names themselves are Latin-1 strings here, one character for each byte.
"""

from __future__ import annotations

import re

ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
PLAIN_NAME = re.compile(r"[!-\[\]-~]*")
"""Pattern of names in which nothing is escaped; all names of real kernels are such names."""
PLAIN_TEXT = re.compile(r"[ -\[\]-~]*")


def escaped(name: str) -> str:
    r"""Return a name as printable text.

    Bytes that are no printable ASCII characters, blanks and backslashes become ``\xNN``.
    """
    return _escaped(name, PLAIN_NAME)


def escaped_text(text: str) -> str:
    """Return a text of the kernel, such as a parameter's value, as printable text.

    The rule is that of `escaped`, but blanks stand for themselves.
    """
    return _escaped(text, PLAIN_TEXT)


def letter_text(letter: str) -> str:
    """Return a symbol's type as text.

    What is no ASCII letter becomes a question mark, as ``nm`` prints it.
    """
    return letter if letter.isascii() and letter.isalpha() else "?"


def unescaped(text: bytes) -> bytes:
    r"""Return the name that an escaped text stands for.

    A ``\x`` that no two lower-case hexadecimal digits follow stands for itself.
    """
    return ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), text)


def _escaped(text: str, plain: re.Pattern[str]) -> str:
    if plain.fullmatch(text):
        return text
    return "".join(
        letter if plain.fullmatch(letter) else f"\\x{ord(letter):02x}" if letter <= "\xff" else f"\\u{ord(letter):04x}"
        for letter in text
    )
