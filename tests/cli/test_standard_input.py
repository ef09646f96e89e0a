"""Standard input as a source: pipes, files, and what is wrong in one line."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.memory.builders import lime
from tests.memory.writers import kdump

RANGES = [(0x1000, b"first range"), (0x9000, bytes(4096) + b"second")]
LIME = lime(RANGES)
PAGES = {3: b"three".ljust(4096, b"\0"), 5: b"five".ljust(4096, b"\0")}
FLATTENED = kdump.flattened(kdump.cut(kdump.kdump(PAGES, kdump.Kdump()), 5000))


def run(
    *arguments: str, stdin: object, limit: int | None = None, **options: object
) -> subprocess.CompletedProcess[bytes]:
    code = "from kallsift.__main__ import main; main()"
    if limit is not None:
        code = f"import shutil; shutil.disk_usage = lambda _: type('', (), {{'free': {limit}}}); {code}"
    given = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, check=False, timeout=60, **given, **options)  # type: ignore[call-overload, no-any-return]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("content", "start", "size", "expected"),
    [
        (LIME, 0x1000, 11, b"first range"),
        (gzip.compress(LIME, mtime=0), 0xA000, 6, b"second"),
        (FLATTENED, 0x5000, 4, b"five"),
        (gzip.compress(FLATTENED, mtime=0), 0x3000, 5, b"three"),
    ],
)
def test_a_pipe(content: bytes, start: int, size: int, expected: bytes) -> None:
    done = run("extract", "-", hex(start), str(size), stdin=content)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == expected


def test_a_file_is_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "dump.lime"
    path.write_bytes(LIME)
    with path.open("rb") as file:
        done = run("extract", "-", "0x1000", "11", stdin=file, limit=0)
    assert done.stdout == b"first range"
    with path.open("rb") as file:
        file.seek(43)  # what was read of it before is not ours
        done = run("extract", "-", "0xa000", "6", stdin=file)
    assert done.stdout == b"second"


@pytest.mark.parametrize(
    ("content", "limit", "reason"),
    [
        (b"", None, b"standard input: is empty"),
        (bytes(3 << 20), 4 << 20, b"standard input: has more than 2 MiB, half of what is free in "),
        (
            gzip.compress(lime([(0x1000, bytes(3 << 20))]), mtime=0),
            4 << 20,
            b"standard input: unpacks to more than 2 MiB, half of what is free in ",
        ),
    ],
)
def test_what_is_wrong_is_told_in_one_line(content: bytes, limit: int | None, reason: bytes) -> None:
    done = run("symbols", "-", stdin=content, limit=limit)
    assert done.returncode == 1
    assert done.stdout == b""
    assert reason in done.stderr
    assert done.stderr.count(b"\n") == 1


LISTING = b"ffffffff81000000 T _text\nffffffff81000040 t init\nffffffff82000000 B _end\n"


@pytest.mark.sampled(1)
@pytest.mark.parametrize("content", [LISTING, gzip.compress(LISTING, mtime=0)])
def test_a_listing(tmp_path: Path, content: bytes) -> None:
    done = run("lookup", "-", "init", "0xffffffff81000042", stdin=content)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines() == [b"ffffffff81000040 t init", b"ffffffff81000042 init+0x2/0xffffc0"]
    saved = tmp_path / "kallsyms"
    saved.write_bytes(LISTING)
    assert run("diff", str(saved), "-", stdin=content).returncode == 0
    log = tmp_path / "log"
    log.write_bytes(b"0xffffffff81000042\n")
    assert run("symbolize", "-", str(log), stdin=content).stdout == b"0xffffffff81000042 <init+0x2/0xffffc0>\n"


def test_what_is_no_listing_is_still_there_for_the_next_who_asks() -> None:
    done = run("lookup", "-", "init", stdin=LIME)
    assert done.returncode == 1
    assert b"is empty" not in done.stderr
    done = run("symbols", "-", stdin=LISTING)
    assert b"standard input: is a list of symbols, which only 'lookup'" in done.stderr


def test_a_terminal() -> None:
    _, terminal = os.openpty()
    assert b"standard input: is a terminal; send a dump" in run("symbols", "-", stdin=terminal).stderr


def test_none_at_all() -> None:
    done = run("symbols", "-", stdin=None, preexec_fn=lambda: os.close(0))
    assert done.returncode == 1
    assert done.stderr.startswith(b"kallsift: standard input: ")
    assert done.stderr.count(b"\n") == 1


def test_parts_beside_it_are_left_alone(tmp_path: Path) -> None:
    """The folder that the command runs in has nothing to do with what comes in."""
    (tmp_path / "-").write_bytes(LIME)
    done = run("extract", "-", "0x3000", "5", stdin=FLATTENED, cwd=tmp_path)
    assert done.stdout == b"three"
    done = run("extract", "./-", "0x1000", "11", stdin=b"", cwd=tmp_path)
    assert done.stdout == b"first range"
