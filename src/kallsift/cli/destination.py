"""Where a result goes: standard output, or a file that appears whole or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import click


def check_target(target: Path, source: str) -> None:
    """Says early that a file cannot be the result's.

    Raises:
        click.UsageError: if it is the source itself, or a folder, or lies in none.
    """
    if target.is_dir():
        raise click.UsageError(f"{target} is a folder; give -o the name of a file.")
    if not target.absolute().parent.is_dir():
        raise click.UsageError(f"There is no folder {target.parent}; create it first.")
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise click.UsageError(f"{target} is the source itself; give -o another name.")


def print_chunks(chunks: Iterable[bytes | memoryview]) -> None:
    """Writes to standard output."""
    _write(sys.stdout.buffer, chunks)


def save_chunks(target: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Writes a file under a temporary name, then gives it its own; devices and pipes are written to as they are.

    Raises:
        OSError: if it cannot be written; a regular file is then as it was before.
    """
    try:
        if target.exists() and not target.is_file():
            with target.open("wb") as stream:
                _write(stream, chunks)
        else:
            _replace(target.resolve(), chunks)
    except OSError as error:
        # A full disk is reported without a name.
        raise OSError(error.errno, error.strerror, str(target)) from error


def _replace(target: Path, chunks: Iterable[bytes | memoryview]) -> None:
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with partial.open("xb") as stream:
            _write(stream, chunks)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _write(stream: BinaryIO, chunks: Iterable[bytes | memoryview]) -> None:
    for chunk in chunks:
        stream.write(chunk)
    stream.flush()
