r"""Write names of the kernel as text that is safe to print and reads back: one rule for all commands and files.

Printable ASCII stands for itself, but for the blank and the backslash; every other byte is ``\xNN``. The names
themselves are Latin-1 here: a character a byte.
"""

from __future__ import annotations

import re

ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
PLAIN_NAME = re.compile(r"[!-\[\]-~]*")
"""Names in which nothing is escaped, as all of real kernels are."""
PLAIN_TEXT = re.compile(r"[ -\[\]-~]*")


def escaped(name: str) -> str:
    r"""A name as text: ``\xNN`` for a byte that is no printable ASCII character, for blanks and for the backslash."""
    return _escaped(name, PLAIN_NAME)


def escaped_text(text: str) -> str:
    """What a kernel keeps as text, such as a parameter's value: blanks stand for themselves there."""
    return _escaped(text, PLAIN_TEXT)


def letter_text(letter: str) -> str:
    """A symbol's type as text: a question mark, as ``nm`` prints it, for what is no ASCII letter."""
    return letter if letter.isascii() and letter.isalpha() else "?"


def unescaped(text: bytes) -> bytes:
    r"""The name that a text stands for; ``\x`` without two digits behind it stands for itself."""
    return ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), text)


def _escaped(text: str, plain: re.Pattern[str]) -> str:
    if plain.fullmatch(text):
        return text
    return "".join(
        letter if plain.fullmatch(letter) else f"\\x{ord(letter):02x}" if letter <= "\xff" else f"\\u{ord(letter):04x}"
        for letter in text
    )
