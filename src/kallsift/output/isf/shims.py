"""List where a symbol file must differ from the kernel so that Volatility's plugins work.

Volatility 2.28 asks for symbols that some kernels lack or no longer have in the form that it expects.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Alias:
    """A symbol that is added where the kernel has none of its name.

    Attributes:
        name: its name.
        target: the array whose first element it is.
    """

    name: str
    target: str


@dataclass(frozen=True)
class Omission:
    """A symbol that is left out where a structure lacks a member.

    Attributes:
        name: the symbol.
        structure: the structure.
        member: the member that a plugin reads if the symbol is there.
    """

    name: str
    structure: str
    member: str


ALIASES = (Alias("tk_core", "timekeeper_data"),)
"""Since 6.17 there are several timekeepers; the first is what tk_core was (kernel/time/timekeeping.c)."""

OMISSIONS = (Omission("taint_flags", "taint_flag", "module"),)
"""Since 7.0 ``struct taint_flag`` does not tell which flags are modules'; without the table, a built-in one is used."""

TABLE_PREFIX = "kallsyms_"
"""What begins the names of the kernel's symbol tables, which the table itself lists since 6.0 alone."""

REQUIRED = ("linux_banner", "init_task", "init_mm", "init_files")
"""Symbols without which Volatility recognises no kernel."""
