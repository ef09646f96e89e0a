"""Find the captures of the lab's guests, and run Volatility on them with folders of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from runner import Rows
from truth import CAPTURES

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
