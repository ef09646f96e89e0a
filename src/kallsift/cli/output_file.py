"""Write a result to standard output, a device or pipe, or a file.

A file appears whole or not at all. All results are written by this module. It never writes a file that the command
reads (see `memory.input_files`).
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import click
import numpy as np

from kallsift.memory.file_mapping import touch
from kallsift.memory.input_files import record_output, record_stream

HOLE = 1 << 16
"""Size in bytes of the blocks that are left out of a file if they are blank."""
BLANK = bytes(HOLE)

STANDARD_OUTPUT = "-"
"""Name by which a user chooses standard output."""

MAX_LINKS = 40
"""Highest number of symbolic links in a path, as in the kernel.

Source: path_resolution(7).
"""

STREAMS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
DESCRIPTOR = re.compile(r"/proc/(?P<process>\d+)(?:/task/\d+)?/fd/(?P<number>\d+)")
"""Paths of open descriptors (proc(5)).

``/dev/fd`` and ``/proc/self/fd`` lead to them.
"""

PRIVATE, BY_UMASK = 0o600, 0o666
"""Permissions of new files: for contents of memory, and for all others.

The umask takes bits away from both.
"""


@dataclass(frozen=True)
class OutputFile:
    """A destination that can be written, as far as can be known before.

    Attributes:
        name: as the user gave it, for messages.
        path: path of a file, device or pipe, links resolved; None for an open descriptor.
        descriptor: number of the open descriptor; None for a path.
        permissions: permissions of a new file, `PRIVATE` or `BY_UMASK`.
        is_stream: whether bytes can only be written in order, since it is no regular file.
    """

    name: str
    path: Path | None
    descriptor: int | None
    permissions: int
    is_stream: bool

    def numbered(self, index: int) -> OutputFile:
        """Return the file of one of several results: the name with ``.index`` behind it.

        Raises:
            click.UsageError: if there cannot be such a file.
        """
        if self.is_stream:
            raise click.UsageError(f"--all writes a file for each kernel, but {self.name} is not a file; give -o FILE.")
        return output_file(Path(f"{self.name}.{index}"), permissions=self.permissions)

    def write(self, chunks: Iterable[bytes | memoryview]) -> None:
        """Write a result.

        A regular file is replaced when all is written, and keeps its mode and owner.

        Raises:
            OSError: if it cannot be written; a regular file is then as it was before.
            OverwriteError: if the file has become one that is read.
        """
        with self._named_errors():
            if self.is_stream:
                with self._stream() as stream:
                    _write(stream, chunks)
            else:
                self._replace(lambda stream: _write(stream, chunks))

    def check_order(self, *, is_ordered: bool) -> None:
        """Refuse a stream for pieces that do not come in order.

        Raises:
            click.UsageError: if they cannot be written.
        """
        if self.is_stream and not is_ordered:
            raise click.UsageError(f"{self.name} is not a file, but this format needs one; name a file.")

    def write_pieces(self, pieces: Iterable[tuple[int, bytes | memoryview]]) -> None:
        """Write pieces with their offsets, as `write` does.

        Bytes that no piece covers are a hole, or zeros if there can be no hole.
        """
        if self.is_stream:
            self.write(_without_holes(pieces))
            return
        with self._named_errors():
            self._replace(lambda stream: _put(stream, pieces))

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Add the file's name to errors of the system: that of a full disk has no name."""
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.name) from error

    @contextmanager
    def _stream(self) -> Iterator[BinaryIO]:
        """Open a destination that takes bytes in order.

        An open descriptor continues at its position, as in a shell.
        """
        if self.descriptor == sys.stdout.fileno():
            sys.stdout.flush()
            yield sys.stdout.buffer
            return
        # without O_CREAT and O_TRUNC: a file that took the name meanwhile must not be harmed
        number = self.descriptor
        if number is None:
            assert self.path is not None
            number = os.open(self.path, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
        with open(number, "wb", closefd=self.descriptor is None) as stream:
            if self.descriptor is None and stat.S_ISREG(os.fstat(number).st_mode):
                raise OSError(errno.EEXIST, "has become a regular file in the meantime; name another file")
            yield stream

    def _replace(self, write: Callable[[BinaryIO], None]) -> None:
        """Write a new file in the same folder, then give it the name of the old one.

        Its first name is unpredictable.
        """
        assert self.path is not None
        partial = self.path.with_name(f".kallsift-{os.urandom(16).hex()}.part")
        before = _status(self.path)
        permissions = self.permissions if before is None else PRIVATE
        try:
            # a signal that ends the command may come as soon as the file exists
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, permissions)
            with open(descriptor, "wb") as stream:  # noqa: PTH123
                write(stream)
                if before is not None:
                    _take_over(descriptor, before)
            _record(self.name, self.path)
            partial.replace(self.path)
        except FileExistsError:  # nobody guesses that name, but a file that has it is not ours, so it stays
            raise
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def output_file(target: Path | None, *, permissions: int) -> OutputFile:
    """Return the kind of a destination, and record that it is written.

    Args:
        target: as the user gave it; None and ``-`` stand for standard output.
        permissions: permissions of a new file, `PRIVATE` or `BY_UMASK`.

    Raises:
        click.UsageError: if it cannot be written.
        OverwriteError: if the command reads it.
    """
    if target is None or str(target) == STANDARD_OUTPUT:
        return OutputFile("standard output", None, sys.stdout.fileno(), permissions, is_stream=True)
    name = str(target)
    try:
        descriptor = _descriptor_of(name)
        if descriptor is not None:
            record_stream(name, descriptor)
            return OutputFile(name, None, descriptor, permissions, is_stream=True)
        status = _status(target)
    except OSError as error:
        raise click.UsageError(f"{name}: {error.strerror}; name another file.") from error
    path = Path(os.path.realpath(name))
    if status is None and not path.parent.is_dir():
        raise click.UsageError(f"There is no folder {path.parent}; create it first.")
    if status is not None and (reason := _unfit(status, path)):
        raise click.UsageError(f"{name} {reason}.")
    _record(name, path)
    return OutputFile(name, path, None, permissions, status is not None and not stat.S_ISREG(status.st_mode))


def _record(name: str, path: Path) -> None:
    """Record a file that is written; one that does not exist yet, by its folder."""
    record_output(name, _status(path) or path.parent.stat())


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _unfit(status: os.stat_result, path: Path) -> str | None:
    """Return why an existing file cannot be a result's destination; None if it can."""
    if stat.S_ISDIR(status.st_mode):
        return "is a folder; name a file"
    if stat.S_ISBLK(status.st_mode):
        return "is a block device; name a file"
    if stat.S_ISSOCK(status.st_mode):
        return "is a socket; name a file"
    if not status.st_mode & 0o222 or not os.access(path, os.W_OK):
        return "is write-protected; name another file"
    return None


def _descriptor_of(name: str) -> int | None:
    """Return the number of this process's open descriptor that a path names.

    The path may lead to it through links. None if it names no descriptor.

    Raises:
        OSError: if there are too many links.
    """
    path = Path(name)
    for _ in range(MAX_LINKS):
        folder = os.path.realpath(path.parent)
        place = os.path.join(folder, path.name)  # noqa: PTH118
        if place in STREAMS:
            return STREAMS[place]
        if (found := DESCRIPTOR.fullmatch(place)) and int(found["process"]) == os.getpid():
            return int(found["number"])
        if not os.path.islink(place):  # noqa: PTH114
            return None
        path = Path(folder, os.readlink(place))  # noqa: PTH115
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _take_over(descriptor: int, before: os.stat_result) -> None:
    """Give a file the owner and mode of the one that it replaces.

    If it cannot get that owner, only its actual owner keeps permissions; if it cannot get that group, the group has
    none.
    """
    permissions = stat.S_IMODE(before.st_mode) & 0o777
    for user, group, kept in ((before.st_uid, -1, 0o700), (-1, before.st_gid, 0o707)):
        try:
            os.fchown(descriptor, user, group)
        except PermissionError:
            permissions &= kept
    os.fchmod(descriptor, permissions)


def _without_holes(pieces: Iterable[tuple[int, bytes | memoryview]]) -> Iterator[bytes | memoryview]:
    position = 0
    for offset, data in pieces:
        while position < offset:
            hole = bytes(min(HOLE, offset - position))
            yield hole
            position += len(hole)
        yield data
        position += len(data)


def _put(stream: BinaryIO, pieces: Iterable[tuple[int, bytes | memoryview]]) -> None:
    """Write pieces; blank parts become holes."""
    end = 0
    for offset, data in pieces:
        end = max(end, offset + len(data))
        _touch(data)
        for start in range(0, len(data), HOLE):
            part = data[start : start + HOLE]
            if part != BLANK[: len(part)]:
                stream.seek(offset + start)
                stream.write(part)
    stream.truncate(end)
    stream.flush()


def _write(stream: BinaryIO, chunks: Iterable[bytes | memoryview]) -> None:
    for chunk in chunks:
        _touch(chunk)
        stream.write(chunk)
    stream.flush()


def _touch(data: bytes | memoryview) -> None:
    """Access bytes before a system call uses them.

    A system call fails on an unreadable page of a mapped file, where an access continues.
    """
    touch(np.frombuffer(data, np.uint8))
