"""Debuggers of the machines that the lab boots."""

from __future__ import annotations

import shutil


def debugger(guest: str) -> str:
    """Name a gdb that knows the guest's machine."""
    return "gdb" if guest.startswith("amd64") and shutil.which("gdb") else "gdb-multiarch"
