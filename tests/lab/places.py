"""Where the lab keeps its data, and the small file habits every part of it shares."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

MAX_GUESTS = min(4, os.cpu_count() or 1)
"""Guests that run at a time: each takes a processor while it boots."""

_started = time.monotonic()


def lab_folder() -> Path:
    """``$KALLSIFT_LAB``, or ``kallsift/lab`` in the user's cache folder."""
    if chosen := os.environ.get("KALLSIFT_LAB"):
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kallsift" / "lab"


def captures_folder() -> Path:
    return lab_folder() / "captures"


def containers_folder() -> Path:
    """Captures that have the same memory in many containers."""
    return lab_folder() / "containers"


def say(what: str) -> None:
    """One line of progress on stderr."""
    print(f"lab {time.monotonic() - _started:6.1f}s  {what}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def building(target: Path) -> Iterator[Path]:
    """A temporary folder beside ``target`` which takes its place when the block ends without an error.

    Only to be used while ``alone``: what a killed run left behind goes away first.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield draft
        draft.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextlib.contextmanager
def alone(what: str, name: str = "lock", *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of this name while no other run of the lab does; ``shared`` ones may be held by many at once."""
    lab_folder().mkdir(parents=True, exist_ok=True)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with (lab_folder() / name).open("w") as lock:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except OSError:
            say(f"{what}: waiting for another run of the lab")
            fcntl.flock(lock, kind)
        yield


@contextlib.contextmanager
def qemu_slot(what: str) -> Iterator[None]:
    """Wait until fewer guests run on this host than ``MAX_GUESTS``, whoever boots them, and be one of these."""
    lab_folder().mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        locks = [stack.enter_context((lab_folder() / f"qemu.{number}.lock").open("w")) for number in range(MAX_GUESTS)]
        is_told = False
        while not any(_is_locked(lock) for lock in locks):
            if not is_told:
                say(f"{what}: waiting until another guest is done")
                is_told = True
            time.sleep(0.5)
        yield


def _is_locked(lock: TextIO) -> bool:
    """Lock a file unless somebody else has; tell whether it is ours now."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
