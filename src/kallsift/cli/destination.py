"""Where a result goes: standard output, or a file that appears whole or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import click

HOLE = 1 << 16
"""Bytes that are left out of a file at once where they are blank."""
BLANK = bytes(HOLE)


def check_target(target: Path, source: str) -> None:
    """Says early that a file cannot be the result's.

    Raises:
        click.UsageError: if it is the source itself, or a folder, or lies in none.
    """
    if target.is_dir():
        raise click.UsageError(f"{target} is a folder; name a file.")
    if not target.absolute().parent.is_dir():
        raise click.UsageError(f"There is no folder {target.parent}; create it first.")
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise click.UsageError(f"{target} is the source itself; name another file.")


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
            _replace(target.resolve(), lambda stream: _write(stream, chunks))
    except OSError as error:
        # A full disk is reported without a name.
        raise OSError(error.errno, error.strerror, str(target)) from error


def save_pieces(target: Path, pieces: Iterable[tuple[int, bytes | memoryview]], ordered: bool) -> None:
    """As `save_chunks`, with the offset of each piece; what none covers is a hole, or zeros where there can be none.

    Args:
        target: the file.
        pieces: their offsets and bytes.
        ordered: whether they come in order, without which a pipe cannot take them.

    Raises:
        click.UsageError: if a pipe should take what is not in order.
        OSError: as `save_chunks`.
    """
    if target.exists() and not target.is_file():
        if not ordered:
            raise click.UsageError(f"{target} is no file, and this format cannot be written in one go; name a file.")
        save_chunks(target, _without_holes(pieces))
        return
    try:
        _replace(target.resolve(), lambda stream: _place(stream, pieces))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error


def _without_holes(pieces: Iterable[tuple[int, bytes | memoryview]]) -> Iterator[bytes | memoryview]:
    position = 0
    for offset, data in pieces:
        while position < offset:
            hole = bytes(min(HOLE, offset - position))
            yield hole
            position += len(hole)
        yield data
        position += len(data)


def _place(stream: BinaryIO, pieces: Iterable[tuple[int, bytes | memoryview]]) -> None:
    """Writes pieces; those that are blank become holes."""
    end = 0
    for offset, data in pieces:
        end = max(end, offset + len(data))
        for start in range(0, len(data), HOLE):
            part = data[start : start + HOLE]
            if part != BLANK[: len(part)]:
                stream.seek(offset + start)
                stream.write(part)
    stream.truncate(end)
    stream.flush()


def _replace(target: Path, write: Callable[[BinaryIO], None]) -> None:
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with partial.open("xb") as stream:
            write(stream)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _write(stream: BinaryIO, chunks: Iterable[bytes | memoryview]) -> None:
    for chunk in chunks:
        stream.write(chunk)
    stream.flush()
