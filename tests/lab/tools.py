"""Finds and runs the system's programs, and says what to install where one is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .errors import LabError

# Program -> Debian package; everything else the lab runs is essential on Debian.
PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-system-i386": "qemu-system-x86",
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-system-arm": "qemu-system-arm",
    "qemu-system-riscv64": "qemu-system-misc",
    "qemu-system-s390x": "qemu-system-misc",
    "qemu-system-ppc64": "qemu-system-ppc",
    "qemu-system-mips64el": "qemu-system-mips",
    "qemu-system-mipsel": "qemu-system-mips",
    "apt-get": "apt",
    "apt-cache": "apt",
    "bpftool": "bpftool",
    "depmod": "kmod",
    "dpkg-deb": "dpkg",
    "fallocate": "util-linux",
    "fdtput": "device-tree-compiler",
    "x86_64-linux-gnu-gcc": "gcc",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "s390x-linux-gnu-gcc": "gcc-s390x-linux-gnu",
    "make": "make",
    "tar": "tar",
}


def tool(name: str) -> str:
    """The program's path; the sbin folders count even where a user's PATH leaves them out."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    if found := shutil.which(name, path=path):
        return found
    raise LabError(f"{name} is missing: install it with: apt-get install {PACKAGES.get(name, name)}")


def run(
    command: Sequence[str | Path], *, timeout: float, folder: Path | None = None, stdin: bytes | None = None
) -> bytes:
    """The standard output of a program that must succeed within ``timeout`` seconds."""
    argv = [tool(str(command[0])), *map(str, command[1:])]
    try:
        done = subprocess.run(argv, cwd=folder, input=stdin, capture_output=True, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{command[0]} did not end within {timeout:.0f} s: try again") from error
    if done.returncode:
        tail = (done.stdout + done.stderr)[-1500:].decode(errors="replace")
        raise LabError(f"{command[0]} failed ({done.returncode}): {' '.join(map(str, command[-3:]))}", tail)
    return done.stdout
