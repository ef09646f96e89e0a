"""The architectures whose page tables are known, in the order in which they are tried."""

from __future__ import annotations

from kallsift.machine import arm64, x86
from kallsift.machine.model import PagingMode

MODES: tuple[PagingMode, ...] = (*x86.MODES, *arm64.MODES)

ROOT_SYMBOLS: tuple[str, ...] = (*x86.ROOT_SYMBOLS,)
"""Names of the kernel's own top table; ``swapper_pg_dir`` is arm64's too."""

LINK_BASES: dict[str, int] = {"x86-64": x86.LINK_BASE}
"""Where ``_text`` is linked, for architectures where no configuration moves it."""
