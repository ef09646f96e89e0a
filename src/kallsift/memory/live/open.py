"""Open live sources by their scheme, ``qemu:SOCKET`` and ``gdb:HOST:PORT``, and ``/proc/kcore`` by its path."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from kallsift.errors import SourceError
from kallsift.memory.memory import Memory, printable


def _qemu(name: str, where: str, pause: bool) -> Memory:
    from kallsift.memory.live import qemu

    return qemu.open(name, where, pause=pause)


def _gdb(name: str, where: str, pause: bool) -> Memory:
    from kallsift.memory.live import gdb_stub

    return gdb_stub.open(name, where)  # attaching to a stub stops the machine anyway


SCHEMES: dict[str, Callable[[str, str, bool], Memory]] = {"qemu": _qemu, "gdb": _gdb}
"""Functions that open a source, by the scheme; they get the source's name and the text behind the colon."""


def _is_there(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # no file can have such a name
        return False


def _may_live(path: str) -> bool:
    """Tell whether a path may be that of a /proc/kcore.

    Such a file has no blocks.
    """
    try:
        return not Path(path).stat().st_blocks
    except (OSError, ValueError):
        return False


def open_live(source: object, *, pause: bool = False) -> Memory | None:
    """Open the memory of a live source; return None if ``source`` names none.

    Args:
        source: source as the user gave it.
        pause: stop the machine before it is read, and resume it when the memory is closed.

    Raises:
        SourceError: if it cannot be reached or read, or cannot be paused.
    """
    if not isinstance(source, str | os.PathLike):
        return None
    text = os.fspath(source)
    if not isinstance(text, str):
        return None
    scheme, colon, where = text.partition(":")
    if colon and scheme in SCHEMES and not _is_there(text):
        return SCHEMES[scheme](printable(text), where, pause)
    if pause:
        raise SourceError(f"{printable(text)}: only a QEMU guest (qemu:SOCKET) can be paused")
    if not _may_live(text):
        return None
    from kallsift.memory.formats import proc_kcore

    return proc_kcore.open_live(printable(text), text) if proc_kcore.lives(text) else None
