"""Find the captures of the lab's guests, and run Volatility on them with folders of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kallsift_volatility
import pytest

CAPTURES = Path(os.environ.get("KALLSIFT_LAB", str(Path.home() / ".cache" / "kallsift" / "lab")), "captures")
"""Folder of the guests that ``python -m tests.lab`` of kallsift booted."""

PLUGINS = Path(kallsift_volatility.__path__[0], "plugins")

Rows = list[dict[str, Any]]
Vol = Callable[..., Rows]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volatility's cache, empty at first."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def vol(cache: Path) -> Vol:
    """Runs ``vol`` with some arguments and returns its rows."""

    def run_it(*arguments: str | Path) -> Rows:
        program = Path(sys.executable).with_name("vol")
        options = ["--cache-path", cache, "-q", "-r", "json"]
        run = subprocess.run([program, *options, *arguments], capture_output=True, text=True, timeout=1200)
        assert run.returncode == 0, run.stderr[-3000:]
        rows: Rows = json.loads(run.stdout)
        return rows

    return run_it


def capture(guest: str) -> Path:
    """Return the folder of a guest, or skip the test."""
    folder = CAPTURES / guest
    if not (folder / "memory.elf").exists():
        pytest.skip(f"the guest {guest} has not been booted: python -m tests.lab guest {guest}")
    return folder
