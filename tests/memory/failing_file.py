"""A file that fails to be read in some places, as on a disk that breaks: a file system of one file, by FUSE.

It answers in a process of its own: whoever waits for a page of a mapped file may hold the interpreter's lock. Written
from Linux, include/uapi/linux/fuse.h; only root can mount it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path

import pytest

PAGE = 4096
LARGEST_REQUEST = 1 << 20

HEADER = struct.Struct("<IIQQIIIHH")
"""``fuse_in_header``: size, operation, number, node, user, group, process, and two that are not used here."""
ANSWER = struct.Struct("<IiQ")
"""``fuse_out_header``: size, error, number."""
INIT = struct.Struct("<IIIIHHIIHHII24x")
ATTRIBUTES = struct.Struct("<QIIQQQQQQIIIIIIIIII")
OPEN = struct.Struct("<QIi")
READ = struct.Struct("<QQI")

OP_FORGET, OP_GETATTR, OP_OPEN, OP_READ, OP_RELEASE, OP_FLUSH, OP_INIT, OP_FORGETS = 2, 3, 14, 15, 18, 25, 26, 42
MAJOR, MINOR = 7, 31
MS_RDONLY, MNT_DETACH = 1, 2


def serve(data: bytes, place: str, bad: Set[int]) -> None:
    """Show some bytes as a file, until it is unmounted.

    Args:
        data: the bytes.
        place: an existing file that is hidden meanwhile.
        bad: numbers of the pages that cannot be read.
    """
    device = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode={stat.S_IFREG | 0o444:o},user_id=0,group_id=0"
    if libc.mount(b"failing", place.encode(), b"fuse", MS_RDONLY, options.encode()):
        raise OSError(ctypes.get_errno(), "cannot be mounted")
    size = len(data)
    attributes = ATTRIBUTES.pack(3600, 0, 0, 1, size, size // 512, *[0] * 6, stat.S_IFREG | 0o444, 1, 0, 0, 0, PAGE, 0)
    while True:
        try:
            request = os.read(device, LARGEST_REQUEST)
        except OSError:  # unmounted
            return
        _, operation, number, *_ = HEADER.unpack_from(request)
        error, answer = 0, b""
        if operation in (OP_FORGET, OP_FORGETS):
            continue
        if operation == OP_INIT:
            answer = INIT.pack(MAJOR, MINOR, 1 << 17, 0, 12, 9, 1 << 17, 1, 0, 0, 0, 0)
        elif operation == OP_GETATTR:
            answer = attributes
        elif operation == OP_OPEN:
            answer = OPEN.pack(0, 0, 0)
        elif operation == OP_READ:
            _, offset, wanted = READ.unpack_from(request, HEADER.size)
            if bad.isdisjoint(range(offset // PAGE, -(-(offset + wanted) // PAGE))):
                answer = data[offset : offset + wanted]
            else:
                error = errno.EIO
        elif operation not in (OP_RELEASE, OP_FLUSH):
            error = errno.ENOSYS
        os.write(device, ANSWER.pack(ANSWER.size + len(answer), -error, number) + answer)


@contextmanager
def failing(source: Path, bad: Set[int]) -> Iterator[Path]:
    """Show a file with pages that cannot be read, under another name beside it; skips where nobody may do so."""
    place = source.with_name(f"failing.{source.name}")
    place.touch()
    pages = ",".join(map(str, sorted(bad)))
    command = [sys.executable, "-m", "tests.memory.failing_file", str(source), str(place), pages]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL) as server:
        while place.stat().st_size != source.stat().st_size:
            if server.poll() is not None:
                pytest.skip("no file system can be mounted here")
            time.sleep(0.02)
        try:
            yield place
        finally:
            ctypes.CDLL(None).umount2(str(place).encode(), MNT_DETACH)
            # what still has it mapped would keep the server alive
            server.kill()


@contextmanager
def loop_device(file: Path) -> Iterator[Path]:
    """Show a file as a block device; skips where there can be none."""
    made = subprocess.run(["losetup", "-r", "-f", "--show", file], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip("no loop device can be made here")
    try:
        yield Path(made.stdout.strip())
    finally:
        subprocess.run(["losetup", "-d", made.stdout.strip()], check=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]).read_bytes(), sys.argv[2], {int(page) for page in sys.argv[3].split(",")})
