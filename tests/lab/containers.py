"""One boot of a guest, saved in every container that QEMU writes: the same memory, byte for byte, in all of them.

What QEMU's build does not offer is left out. Last of all the guest runs on while it is migrated, so that there are
streams with pages that were sent more than once; what the memory was when each ended is saved beside it.
"""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from . import dumps
from .boot import Paused
from .capture import Capture, capture
from .errors import LabError
from .guests import Guest
from .places import containers_folder, say
from .qmp import Qmp

_TIMEOUT = 900.0

GUESTS = ("amd64-7.2", "amd64-5.10", "arm64-6.12", "amd64-7.2-4g")
"""Guests that the claims about containers are tested on, the last with a hole; the first alone where time counts."""

KDUMPS = ("kdump-zlib", "kdump-lzo", "kdump-snappy")
"""Formats of dump-guest-memory besides ELF."""

LIVE = ("live", "compressed")
"""Migrations of the running guest: plain, and with pages compressed. Each is of a moment of its own."""

CONTAINERS = ("elf", "elf-paging", *KDUMPS, "raw", "migration")
"""What is of one moment."""


def container(taken: Capture, name: str) -> Path | None:
    """The file of a container, or None where QEMU's build did not offer it."""
    path = taken.folder / f"memory.{name}"
    return path if path.exists() else None


def saved(guest: Guest, again: bool = False) -> Capture:
    """The guest's capture with all containers; the guest is booted if there is none yet, or ``again``."""
    return capture(guest, again, containers_folder(), _save)


def _save(stopped: Paused, folder: Path) -> None:
    """Everything besides the ELF dump that each capture has."""
    qmp = stopped.qmp
    offered = qmp.do("query-dump-guest-memory-capability")["formats"]
    for name in KDUMPS:
        if name in offered:
            how = {"paging": False, "protocol": f"file:{folder}/memory.{name}", "format": name}
            qmp.do("dump-guest-memory", how, _TIMEOUT)
    qmp.do("dump-guest-memory", {"paging": True, "protocol": f"file:{folder}/memory.elf-paging"}, _TIMEOUT)
    _save_raw(qmp, folder / "memory.raw")
    _migrate(qmp, folder / "memory.migration")
    for name in LIVE:
        _set(qmp, compress=name == "compressed")
        qmp.do("cont")
        _migrate(qmp, folder / f"memory.{name}-migration")
        _save_raw(qmp, folder / f"memory.{name}-raw")
    for path in folder.glob("memory.*"):
        path.chmod(0o644)
        dumps.make_sparse(path)


def _save_raw(qmp: Qmp, path: Path) -> None:
    """From the first byte of RAM to the last, and whatever lies between them."""
    ranges = dumps.ram_ranges(qmp.monitor("info mtree -f"))
    first, last = min(part.start for part in ranges), max(part.stop for part in ranges)
    qmp.do("pmemsave", {"val": first, "size": last - first, "filename": str(path)}, _TIMEOUT)


def _set(qmp: Qmp, **capabilities: bool) -> None:
    states = [{"capability": name, "state": state} for name, state in capabilities.items()]
    qmp.do("migrate-set-capabilities", {"capabilities": states})


def _migrate(qmp: Qmp, path: Path) -> None:
    """The guest as it would be sent to another host; it stands still afterwards."""
    qmp.do("migrate", {"uri": f"exec:cat > {shlex.quote(str(path))}"}, _TIMEOUT)
    deadline = time.monotonic() + _TIMEOUT
    while (state := qmp.do("query-migrate")["status"]) != "completed":
        if state in ("failed", "cancelled") or time.monotonic() > deadline:
            raise LabError(f"QEMU does not migrate the guest into {path.name} ({state})")
        time.sleep(0.2)
    say(f"{path.name}: {path.stat().st_size >> 20} MiB")
