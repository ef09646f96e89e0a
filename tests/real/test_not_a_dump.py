"""What is no dump of a Linux machine is refused in one line, with exit code 1, in about the time of reading it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

GIB = 1 << 30


def refused(source: Path) -> str:
    command = [sys.executable, "-m", "kallsift", "symbols", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("kallsift: ")
    return done.stderr


def test_text(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("Linux version 6.1.0\n" * 1000)
    assert "token table" in refused(tmp_path / "text")


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert "empty" in refused(tmp_path / "empty")


def test_folder(tmp_path: Path) -> None:
    assert "folder" in refused(tmp_path)


def test_missing(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "nothing")


def test_cut_lime_header(tmp_path: Path) -> None:
    (tmp_path / "lime").write_bytes(b"EMiL\1\0\0\0" + bytes(10))
    refused(tmp_path / "lime")


def test_core_of_a_program(tmp_path: Path) -> None:
    """A real one where the system writes cores into the current folder, else one that gdb's gcore would write."""
    program = "import os, resource; resource.setrlimit(resource.RLIMIT_CORE, (-1, -1)); os.kill(os.getpid(), 6)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False, capture_output=True)
    assert done.returncode == -signal.SIGABRT
    cores = list(tmp_path.glob("core*"))
    if not cores:
        pytest.skip("this system does not write cores into the current folder; tests/memory has synthetic ones")
    assert "program" in refused(cores[0])


@pytest.mark.slow
@pytest.mark.parametrize("filler", ["zeros", "noise"])
def test_a_gibibyte_of_nothing(tmp_path: Path, filler: str) -> None:
    path = tmp_path / filler
    with path.open("wb") as file:
        if filler == "zeros":
            os.truncate(path, GIB)
        else:
            generator = np.random.default_rng(1)
            for _ in range(GIB >> 24):
                file.write(generator.bytes(1 << 24))
    assert "token table" in refused(path)
