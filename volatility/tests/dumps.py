"""The dumps that the table is made of: each guest's memory in a format of its own, so that all formats are read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from kallsift import open as open_dump
from tests.memory.writers.avml import blocks


def kallsift(*arguments: str | Path) -> None:
    """Run a command of kallsift."""
    subprocess.run([sys.executable, "-m", "kallsift", *arguments], check=True, timeout=1200)


def write_avml(core: Path, dump: Path) -> None:
    """Write a dump as AVML's version 2 packs it."""
    with open_dump(core) as memory, dump.open("wb") as file:
        for segment in memory.segments:
            file.writelines(blocks([(segment.start, segment.read().tobytes())]))


WRITERS: dict[str, Callable[[Path, Path], None]] = {
    "elf": shutil.copyfile,
    "raw": lambda core, dump: kallsift("convert", core, dump, "--format", "raw"),
    "lime": lambda core, dump: kallsift("convert", core, dump, "--format", "lime"),
    "kdump": lambda core, dump: kallsift("convert", core, dump, "--format", "kdump"),
    "avml": write_avml,
}

FORMATS = {
    "amd64-5.10-investigated": "raw",
    "amd64-6.1-investigated": "lime",
    "amd64-6.12-la57-investigated": "kdump",
    "amd64-7.2-investigated": "avml",
}
"""The format that the table reads each guest in; the third has 5-level page tables."""

TITLES = {"raw": "raw", "lime": "LiME", "kdump": "kdump", "avml": "AVML v2"}


def dump_of(guest: Path, format: str, folder: Path) -> Path:
    """Return a guest's memory in a format, written into a folder on first use."""
    dump = folder / f"{guest.name}.{format}"
    core = guest / "memory.elf"
    if not dump.exists() or dump.stat().st_mtime < core.stat().st_mtime:
        folder.mkdir(parents=True, exist_ok=True)
        draft = dump.with_name(f".{dump.name}.{os.getpid()}")
        try:
            WRITERS[format](core, draft)
            draft.replace(dump)
        finally:
            draft.unlink(missing_ok=True)
    return dump
