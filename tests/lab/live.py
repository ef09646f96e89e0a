"""A guest that goes on running: with a monitor and a GDB stub of its own for tests, and a copy of its /proc/kcore."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from .boot import Paused, paused
from .capture import prepared
from .guests import Guest
from .places import qemu_slot, say


@dataclass(frozen=True)
class Living:
    """A guest that runs, with two busy processors and page-table isolation."""

    paused: Paused  # as it was when it told its truth; its qmp can stop it
    qmp: Path  # a Unix socket of QEMU's machine protocol that nobody uses
    gdb: Path  # a Unix socket of QEMU's GDB stub
    kcore: Path  # its /proc/kcore: the first 64 KiB, then each range of RAM

    def core_kallsyms(self) -> bytes:
        """The kernel's own lines of /proc/kallsyms, byte for byte."""
        lines = self.paused.truth["kallsyms"].splitlines(keepends=True)
        return b"".join(line for line in lines if b"\t[" not in line)


@contextlib.contextmanager
def living(guest: Guest) -> Iterator[Living]:
    """The guest, running; its RAM is a file that QEMU shares. It ends with the block."""
    kernel, accelerator = prepared(guest)
    with qemu_slot(guest.name), tempfile.TemporaryDirectory(prefix="kallsift-live.") as name:
        folder = Path(name)
        disk = folder / "kcore"
        disk.touch()
        os.truncate(disk, guest.memory + 128 << 20)  # besides the RAM its image, where that is mapped elsewhere
        guest = replace(guest, append=f"{guest.append} pti=on labbusy labkcore=vda".strip())
        backend = f"memory-backend-file,id=labram,size={guest.memory}M,mem-path={folder}/ram,share=on"
        extra = [
            "-object", backend, "-machine", "memory-backend=labram",
            "-qmp", f"unix:{folder}/qmp,server=on,wait=off",
            "-gdb", f"unix:{folder}/gdb,server=on,wait=off",
            "-drive", f"file={disk},format=raw,if=virtio,cache=unsafe",
        ]  # fmt: skip
        say(f"{guest.name}: booting {kernel.release} to be read while it runs")
        with paused(guest, kernel, accelerator, extra) as stopped:
            say(f"{guest.name}: ready after {stopped.seconds:.0f} s")
            stopped.qmp.do("cont")
            yield Living(stopped, folder / "qmp", folder / "gdb", disk)
