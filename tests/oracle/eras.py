"""What each era of kernels put where: one row an era, from the releases' own scripts/kallsyms.c."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Encoding = Literal["absolute", "offset", "percpu", "self-relative"]

Compression = Literal["pairs", "substrings", "none", "stems", "strings"]
"""How names are stored: token tables of pairs (2.6.14 on) or of longer strings (2.6.10 to 2.6.13), a length and the
characters themselves (OpenWrt), what differs from the name before (2.5.54 to 2.6.9), or strings (before that)."""

WORD = 0
"""Stands for the word size where a row gives a size."""

_EARLY = ("addresses", "num_syms", "names")
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
        compression: of the names.
        cut: what names are cut at before they are put in order, where Clang optimised the whole kernel at link time.
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
    compression: Compression = "pairs"
    cut: str = ""

    def __str__(self) -> str:
        return self.name.replace(" ", "-")

    @property
    def lettered(self) -> bool:
        """Whether names carry the letter of their type."""
        return self.compression not in ("stems", "strings")


_OLD_ABSOLUTE = ("addresses", *_NAMES, *_TOKENS)
_OLD = (*_OFFSETS, *_NAMES, *_TOKENS)
_OLD_SORTED = (*_OFFSETS, *_NAMES, "seqs_of_names", *_TOKENS)
_OLD_SORTED_ABSOLUTE = ("addresses", *_NAMES, "seqs_of_names", *_TOKENS)
_NEW_ABSOLUTE = (*_NAMES, *_TOKENS, "addresses", "seqs_of_names")
_NEW = (*_NAMES, *_TOKENS, *_OFFSETS, "seqs_of_names")
_NEWEST = (*_NAMES, *_TOKENS, "offsets", "seqs_of_names")

_WIDE_GAPS = (16, 256)
"""``.align 4`` and ``.align 8`` where the assembler counts in powers of two."""

ERAS = (
    Era("2.6.10 x86", _OLD_ABSOLUTE, "absolute", WORD, WORD, compression="substrings"),
    Era("2.6.10 ppc", _OLD_ABSOLUTE, "absolute", WORD, WORD, alignments=_WIDE_GAPS, compression="substrings"),
    Era("2.6.14 x86", _OLD_ABSOLUTE, "absolute", WORD, WORD),
    Era("2.6.20 x86", _OLD_ABSOLUTE, "absolute", WORD, WORD),
    Era("2.6.32 arm", _OLD_ABSOLUTE, "absolute", WORD, WORD, alignments=_WIDE_GAPS),
    Era("4.6 x86", _OLD, "percpu", WORD, WORD, word_sizes=(8,)),
    Era("4.6 s390", _OLD, "offset", WORD, WORD),
    Era("4.9 arm64", _OLD, "offset", WORD, WORD, alignments=_WIDE_GAPS),
    Era("4.20 x86", _OLD, "percpu", word_sizes=(8,)),
    Era("4.20 arm64", _OLD, "offset", alignments=_WIDE_GAPS),
    Era("4.20 absolute", _OLD_ABSOLUTE, "absolute", alignments=_WIDE_GAPS),
    Era("5.4 ia64", _OLD_ABSOLUTE, "absolute"),
    Era("5.10 x86", _OLD, "percpu", word_sizes=(8,)),
    Era("5.10 arm64", _OLD, "offset"),
    Era("6.0 arm64", _OLD, "offset"),
    Era("6.1.0 x86", _OLD, "percpu", long_names=True, word_sizes=(8,)),
    Era("6.1.0 arm64", _OLD, "offset", long_names=True),
    Era("6.1.42 x86", _OLD_SORTED, "percpu", sequence_size=4, long_names=True, word_sizes=(8,)),
    Era("6.1.42 arm64", _OLD_SORTED, "offset", sequence_size=4, long_names=True),
    Era("6.2 x86", _OLD_SORTED, "percpu", sequence_size=3, long_names=True, word_sizes=(8,)),
    Era("6.2 arm64", _OLD_SORTED, "offset", sequence_size=3, long_names=True),
    Era("6.2 absolute", _OLD_SORTED_ABSOLUTE, "absolute", sequence_size=3, long_names=True),
    Era("6.4 absolute", _NEW_ABSOLUTE, "absolute", sequence_size=3, long_names=True),
    Era("6.4 x86", _NEW, "percpu", sequence_size=3, long_names=True, word_sizes=(8,)),
    Era("6.12 arm64", _NEW, "offset", sequence_size=3, long_names=True),
    Era("6.15 x86", _NEW, "offset", sequence_size=3, long_names=True),
    Era("7.0", _NEWEST, "self-relative", sequence_size=3, long_names=True, alignments=(4, 4)),
    Era("7.0 arm", _NEWEST, "absolute", sequence_size=3, long_names=True, alignments=(4, 4), word_sizes=(4,)),
)
"""Those with token tables, as released."""

LTO_ERAS = (
    Era("6.2 LTO", _OLD_SORTED, "offset", sequence_size=3, long_names=True, cut="."),
    Era("6.1.60 LTO", _OLD_SORTED, "offset", sequence_size=3, long_names=True, cut=".llvm."),
    Era("6.4.7 LTO", _NEW, "offset", sequence_size=3, long_names=True, cut=".llvm."),
)
"""With names sorted as they were before the compiler gave them a suffix; up to 6.10."""

VENDOR_ERAS = (
    Era("vendor 3.10 with 32-bit markers", _OLD_ABSOLUTE, "absolute", WORD, 4),
    Era("vendor 3.10 with 32-bit counts", _OLD_ABSOLUTE, "absolute", 4, WORD, alignments=_WIDE_GAPS),
    Era("vendor 3.10 base-relative", _OLD, "offset", WORD, WORD, alignments=_WIDE_GAPS),
    Era("vendor 3.10 base-relative percpu", _OLD, "percpu", WORD, WORD, word_sizes=(8,)),
    Era("vendor 4.9 with 32-bit counts", _OLD, "offset", alignments=_WIDE_GAPS),
    Era("vendor 4.9 with long names", _OLD, "offset", WORD, WORD, long_names=True, alignments=_WIDE_GAPS),
    Era("vendor 5.10 sorted", _OLD_SORTED, "offset", sequence_size=3),
    Era("vendor 5.10 sorted, 32-bit sequences", _OLD_SORTED, "percpu", sequence_size=4, word_sizes=(8,)),
    Era("vendor 6.1 in the order of 6.4", _NEW, "offset", sequence_size=4, long_names=True),
    Era("vendor 6.12 without sequences", _NEW[:-1], "offset", long_names=True),
    Era("vendor 6.12 self-relative", _NEWEST, "self-relative", sequence_size=3, long_names=True),
)
"""Mixes of several releases' features, as backports make them."""

UNCOMPRESSED_ERAS = (
    Era("openwrt 4.14", ("addresses", *_NAMES), "absolute", WORD, WORD, alignments=_WIDE_GAPS, compression="none"),
    Era("openwrt 5.15", (*_OFFSETS, *_NAMES), "offset", compression="none"),
    Era("openwrt 6.1", (*_OFFSETS, *_NAMES, "seqs_of_names"), "offset",
        sequence_size=3, long_names=True, compression="none"),
    Era("openwrt 6.1.42", (*_OFFSETS, *_NAMES, "seqs_of_names"), "offset",
        sequence_size=4, long_names=True, compression="none"),
    Era("openwrt 6.6", (*_NAMES, *_OFFSETS, "seqs_of_names"), "offset",
        sequence_size=3, long_names=True, compression="none"),
    Era("openwrt 6.6 absolute", (*_NAMES, "addresses", "seqs_of_names"), "absolute",
        sequence_size=3, long_names=True, compression="none"),
    Era("openwrt 6.6 x86", (*_NAMES, *_OFFSETS, "seqs_of_names"), "percpu",
        sequence_size=3, long_names=True, word_sizes=(8,), compression="none"),
)  # fmt: skip
"""OpenWrt's KALLSYMS_UNCOMPRESSED: no token tables."""

EARLY_ERAS = (
    Era("2.5.45 x86", _EARLY, "absolute", WORD, compression="strings"),
    Era("2.5.45 ppc", _EARLY, "absolute", WORD, alignments=_WIDE_GAPS, compression="strings"),
    Era("2.6.9 x86", _EARLY, "absolute", WORD, compression="stems"),
    Era("2.6.9 ppc", _EARLY, "absolute", WORD, alignments=_WIDE_GAPS, compression="stems"),
)
"""Before 2.6.10: neither tokens nor markers nor letters."""

ALL_ERAS = (*EARLY_ERAS, *ERAS, *LTO_ERAS, *UNCOMPRESSED_ERAS, *VENDOR_ERAS)
