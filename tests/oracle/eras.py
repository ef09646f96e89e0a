"""What each era of kernels put where: one row an era, from the releases' own scripts/kallsyms.c."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Encoding = Literal["absolute", "offset", "percpu", "self-relative"]

WORD = 0
"""Stands for the word size where a row gives a size."""

_NAMES = ("num_syms", "names", "markers")
_TOKENS = ("token_table", "token_index")
_OFFSETS = ("offsets", "relative_base")


@dataclass(frozen=True)
class Era:
    """Kernels whose tables look alike.

    Attributes:
        name: a release of the era and what else decides.
        order: the tables in the order of their addresses, named as in the kernel, without ``kallsyms_``.
        encoding: of the addresses.
        count_size: bytes of num_syms.
        marker_size: bytes of a marker.
        sequence_size: bytes of an entry of seqs_of_names; 0 if there is none.
        long_names: whether an entry's length may take two bytes.
        alignments: of each table, in bytes, for words of four and of eight bytes.
        word_sizes: those that such a kernel can have.
    """

    name: str
    order: tuple[str, ...]
    encoding: Encoding
    count_size: int = 4
    marker_size: int = 4
    sequence_size: int = 0
    long_names: bool = False
    alignments: tuple[int, int] = (4, 8)
    word_sizes: tuple[int, ...] = (4, 8)

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


_OLD_ABSOLUTE = ("addresses", *_NAMES, *_TOKENS)
_OLD = (*_OFFSETS, *_NAMES, *_TOKENS)
_OLD_SORTED = (*_OFFSETS, *_NAMES, "seqs_of_names", *_TOKENS)
_NEW_ABSOLUTE = (*_NAMES, *_TOKENS, "addresses", "seqs_of_names")
_NEW = (*_NAMES, *_TOKENS, *_OFFSETS, "seqs_of_names")
_NEWEST = (*_NAMES, *_TOKENS, "offsets", "seqs_of_names")

_WIDE_GAPS = (16, 256)
"""``.align 4`` and ``.align 8`` where the assembler counts in powers of two."""

ERAS = (
    Era("2.6.20 x86", _OLD_ABSOLUTE, "absolute", WORD, WORD),
    Era("2.6.32 arm", _OLD_ABSOLUTE, "absolute", WORD, WORD, alignments=_WIDE_GAPS),
    Era("4.6 x86", _OLD, "percpu", WORD, WORD, word_sizes=(8,)),
    Era("4.9 arm64", _OLD, "offset", WORD, WORD, alignments=_WIDE_GAPS),
    Era("4.20 arm64", _OLD, "offset", alignments=_WIDE_GAPS),
    Era("5.4 ia64", _OLD_ABSOLUTE, "absolute"),
    Era("5.10 x86", _OLD, "percpu", word_sizes=(8,)),
    Era("5.10 arm64", _OLD, "offset"),
    Era("6.1.0 arm64", _OLD, "offset", long_names=True),
    Era("6.1.42 x86", _OLD_SORTED, "percpu", sequence_size=4, long_names=True, word_sizes=(8,)),
    Era("6.2 x86", _OLD_SORTED, "percpu", sequence_size=3, long_names=True, word_sizes=(8,)),
    Era("6.2 arm64", _OLD_SORTED, "offset", sequence_size=3, long_names=True),
    Era("6.4 absolute", _NEW_ABSOLUTE, "absolute", sequence_size=3, long_names=True),
    Era("6.4 x86", _NEW, "percpu", sequence_size=3, long_names=True, word_sizes=(8,)),
    Era("6.12 arm64", _NEW, "offset", sequence_size=3, long_names=True),
    Era("7.0", _NEWEST, "self-relative", sequence_size=3, long_names=True, alignments=(4, 4)),
    Era("7.0 arm", _NEWEST, "absolute", sequence_size=3, long_names=True, alignments=(4, 4), word_sizes=(4,)),
)
