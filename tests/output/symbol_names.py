"""Strategies for types and names of symbols, and how texts spell the names."""

from __future__ import annotations

import re

from hypothesis import strategies as st

TYPES = st.sampled_from("AaBbDdRrTtUuVvWw?")
PLAIN = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="\\"), max_size=40)
NASTY = st.text(st.characters(min_codepoint=0, max_codepoint=0xFF), max_size=12)


def escaped(name: str, kept: str = "") -> str:
    """Spell a name as a text has it, in the simplest way; ``kept`` stays as it is."""
    return re.sub(f"[^!-\\[\\]-~{kept}]", lambda strange: f"\\x{ord(strange[0]):02x}", name)
