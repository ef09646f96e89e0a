"""Open input files, and remember which they are, so that no result is written over one of them.

A file is identified by its device and inode (stat(2)), whatever names and links lead to it. Inside of `recorded_files`,
every input and every output is recorded. If an input and an output exclude each other, the second one is refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from kallsift.errors import OverwriteError

LOOP_FILE = "/sys/dev/block/{major}:{minor}/loop/backing_file"
"""Path where the kernel names the file behind a loop device (Linux, drivers/block/loop.c)."""


@dataclass(frozen=True)
class KnownFile:
    """A file by its name in messages, and its status from stat(2)."""

    name: str
    status: os.stat_result

    def is_written_by(self, output: KnownFile) -> bool:
        """Tell whether writing an output changes this file.

        The output may be the same file, or one on a disk that is read.
        """
        read, written = self.status, output.status
        if (read.st_dev, read.st_ino) == (written.st_dev, written.st_ino):
            return True
        disks = {status.st_rdev for status in (read, written) if stat.S_ISBLK(status.st_mode)}
        return not disks.isdisjoint({read.st_dev, written.st_dev}) or (len(disks) == 1 and _are_disks(read, written))


@dataclass
class FileRecord:
    """All files that a command reads and writes, in the order of their use."""

    inputs: list[KnownFile] = field(default_factory=list)
    outputs: list[KnownFile] = field(default_factory=list)

    def add_input(self, name: str, status: os.stat_result) -> None:
        """Record a file that is read.

        Raises:
            OverwriteError: if an output would change it.
        """
        found = list(_shown_by(KnownFile(name, status)))
        self.inputs += found
        for each in found:
            for output in self.outputs:
                _refuse_conflict(each, output)

    def add_output(self, name: str, status: os.stat_result) -> None:
        """Record a file that is to be written.

        A file that does not exist yet is recorded by the status of its folder.

        Raises:
            OverwriteError: if that would change an input.
        """
        self.outputs.append(found := KnownFile(name, status))
        for each in self.inputs:
            _refuse_conflict(each, found)


_RECORD: ContextVar[FileRecord | None] = ContextVar("files", default=None)


@contextmanager
def recorded_files() -> Iterator[FileRecord]:
    """Record the files that are read and written until the block ends."""
    record = FileRecord()
    token = _RECORD.set(record)
    try:
        yield record
    finally:
        _RECORD.reset(token)


def open_input(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading, and record it.

    Raises:
        OSError: if it cannot be opened; OverwriteError if an output would change it.
    """
    file = Path(path).open("rb")  # noqa: SIM115 - the caller closes it
    try:
        record_input(os.fspath(path), file.fileno())
    except BaseException:
        file.close()
        raise
    return file


def record_input(name: str, descriptor: int) -> None:
    """Record an open file that is read.

    Raises:
        OverwriteError: if an output would change it.
    """
    if (record := _RECORD.get()) is not None:
        record.add_input(name, os.fstat(descriptor))


def record_output(name: str, status: os.stat_result) -> None:
    """Record a file that is to be written, as `FileRecord.add_output`.

    Raises:
        OverwriteError: if that would change an input.
    """
    if (record := _RECORD.get()) is not None:
        record.add_output(name, status)


def record_stream(name: str, descriptor: int) -> None:
    """Record that an open descriptor is written, if that is to a file.

    Raises:
        OverwriteError: if the command reads it; OSError if it is not open.
    """
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) or stat.S_ISBLK(status.st_mode):
        record_output(name, status)


def first_bytes(path: Path, size: int) -> bytes:
    """Return the first bytes of a file that may not be an input, without recording it."""
    with path.open("rb") as file:
        return file.read(size)


def _are_disks(*statuses: os.stat_result) -> bool:
    return all(stat.S_ISBLK(status.st_mode) for status in statuses)


def _shown_by(found: KnownFile) -> Iterator[KnownFile]:
    """Yield a file, and the one that it shows where it is a loop device."""
    yield found
    if stat.S_ISBLK(found.status.st_mode):
        number = found.status.st_rdev
        shown = Path(LOOP_FILE.format(major=os.major(number), minor=os.minor(number)))
        try:
            yield KnownFile(found.name, Path(os.fsdecode(shown.read_bytes().rstrip(b"\n"))).stat())
        except (OSError, ValueError):  # no loop device, or its file is out of reach
            return


def _refuse_conflict(read: KnownFile, written: KnownFile) -> None:
    if read.is_written_by(written):
        which = "" if read.name == written.name else f"writing there would change {read.name}, which "
        raise OverwriteError(f"{written.name}: {which}is read by this command; name another file for the result")
