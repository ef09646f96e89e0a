"""Read a QEMU guest through its monitor: the layout of its RAM, its processors, and its bytes.

There are several ways to the bytes, in this order: the file that a shared memory backend maps; the memory of the QEMU
process; ``pmemsave`` into a temporary file. Ranges that one way does not reach are left to the next.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import SourceError
from kallsift.memory.formats import registry as containers
from kallsift.memory.lazy_segment import Cache, LazySegment
from kallsift.memory.live import hmp
from kallsift.memory.live.connection import Connection
from kallsift.memory.live.hmp import Ram
from kallsift.memory.live.qmp import Qmp, RefusedError
from kallsift.memory.live_file import LiveFile
from kallsift.memory.memory import AddressSpace, Hints, Memory
from kallsift.memory.segments import BytesSegment, Segment, sorted_segments

BLOCK = 1 << 20
"""Number of bytes of the process's memory that are read at once."""

SAVING = 600.0
"""Longest time for ``pmemsave``, in seconds."""

Reached = dict[Ram, Segment]
Way = Callable[[Qmp, Sequence[Ram], contextlib.ExitStack], Reached]
"""Function that returns the ranges that it reaches; resources that it opened are closed with the stack."""


def open(name: str, where: str, *, pause: bool = False, ways: Sequence[str] | None = None) -> Memory:
    """Open the physical memory of a guest.

    Args:
        name: name of the source in messages.
        where: path of a Unix socket, or ``HOST:PORT``.
        pause: stop the guest, if it runs, until the memory is closed.
        ways: names of the ways to try, in `WAYS`; all of them by default.

    Raises:
        SourceError: if it cannot be reached, or its memory cannot be read.
    """
    opened = contextlib.ExitStack()
    try:
        connection = Connection(name, where)
        opened.callback(connection.close)
        qmp = Qmp(connection)
        if pause and _runs(qmp):
            qmp.do("stop")
            opened.callback(_resume, qmp)
        ranges = hmp.ram(qmp.monitor("info mtree -f"))
        if not ranges:
            raise SourceError(f"{name}: QEMU shows no RAM; start the guest first")
        cpus = hmp.processors(qmp.monitor("info registers -a"))
        memory = _memory(qmp, ranges, Hints(cpus), tuple(WAYS if ways is None else ways), opened)
        return replace(memory, release=opened.close)
    except BaseException:
        opened.close()
        raise


def _runs(qmp: Qmp) -> bool:
    status = qmp.do("query-status")
    return isinstance(status, dict) and status.get("running") is True


def _resume(qmp: Qmp) -> None:
    with contextlib.suppress(SourceError):  # a guest that is gone needs no resuming
        qmp.do("cont")


def _memory(qmp: Qmp, ranges: Sequence[Ram], hints: Hints, ways: Sequence[str], opened: contextlib.ExitStack) -> Memory:
    reached: Reached = {}
    used: list[str] = []
    reasons: list[str] = []
    for way in ways:
        left = [part for part in ranges if part not in reached]
        if not left:
            break
        try:
            found = WAYS[way](qmp, left, opened)
        except SourceError as error:
            reasons.append(str(error).removeprefix(f"{qmp.name}: "))
            continue
        reached |= found
        used += [way] if found else []
    if not reached:
        raise SourceError(f"{qmp.name}: its memory cannot be read: {'; '.join(reasons) or 'no method is left'}")
    return Memory(
        source=qmp.name,
        container=f"QEMU guest ({', '.join(used)})",
        space=AddressSpace.PHYSICAL,
        segments=sorted_segments(reached.values()),
        hints=hints,
        notes=tuple(
            f"{part.region} at {part.start:#x} (+{part.size:#x} bytes) cannot be read"
            for part in ranges
            if part not in reached
        ),
        refreshed=lambda: _memory(qmp, ranges, hints, ways, opened),
    )


def shared_files(qmp: Qmp, ranges: Sequence[Ram], opened: contextlib.ExitStack) -> Reached:
    """Return the RAM that QEMU itself maps from files that other processes share."""
    backends = qmp.do("query-memdev")
    reached: Reached = {}
    for backend in backends if isinstance(backends, list) else []:
        if not isinstance(backend, dict) or not backend.get("share") or not isinstance(backend.get("id"), str):
            continue
        view = _backing(qmp, backend["id"])
        for part in ranges:
            if view is not None and part.region == backend["id"] and part.offset + part.size <= len(view):
                reached[part] = BytesSegment(part.start, view[part.offset : part.offset + part.size])
    return reached


def _backing(qmp: Qmp, backend: str) -> NDArray[np.uint8] | None:
    """Map the file of a memory backend, from the offset where its RAM begins.

    The result is None if it has no file that can be mapped.
    """
    try:
        path = qmp.do("qom-get", {"path": f"/objects/{backend}", "property": "mem-path"})
    except RefusedError:
        return None
    try:
        offset = qmp.do("qom-get", {"path": f"/objects/{backend}", "property": "offset"})
    except RefusedError:
        offset = 0  # the property exists since QEMU 8.1
    if not isinstance(path, str) or not isinstance(offset, int) or not Path(path).is_file():
        return None
    return containers.mapped(path)[1][max(0, offset) :]


def process_memory(qmp: Qmp, ranges: Sequence[Ram], opened: contextlib.ExitStack) -> Reached:
    """Return the RAM in the memory of the QEMU process."""
    process = qmp.connection.process()
    if process is None:
        raise SourceError("the QEMU process is not known; name a Unix socket on the same host")
    try:
        mapped = _mappings(process)
        file = LiveFile(qmp.name, f"/proc/{process}/mem")
    except OSError as error:
        reason = error.strerror or str(error)
        raise SourceError(f"the memory of process {process} cannot be read ({reason}); run as root") from error
    opened.callback(file.close)
    cache = Cache()
    reached: Reached = {}
    for owner, part in enumerate(ranges):
        address = hmp.host_address(qmp.monitor(f"gpa2hva {part.start:#x}"))
        # if another program opened the monitor's socket for QEMU, as libvirt does, the process is the wrong one
        if address is None or not any(low <= address and address + part.size <= high for low, high in mapped):
            continue
        decode = _block_reader(file, address, part.size)
        reached[part] = LazySegment(part.start, BLOCK, part.size, decode, cache, owner)
    if not reached:
        raise SourceError(f"process {process} does not hold the guest's memory")
    return reached


def _mappings(process: int) -> list[tuple[int, int]]:
    """Return the mapped ranges of a process's address space, adjacent ones joined."""
    joined: list[tuple[int, int]] = []
    for line in Path(f"/proc/{process}/maps").read_text().splitlines():
        low, high = (int(bound, 16) for bound in line.split()[0].split("-"))
        if joined and joined[-1][1] == low:
            joined[-1] = joined[-1][0], high
        else:
            joined.append((low, high))
    return joined


def _block_reader(file: LiveFile, address: int, size: int) -> Callable[[int], NDArray[np.uint8]]:
    def decode(number: int) -> NDArray[np.uint8]:
        wanted = min(BLOCK, size - number * BLOCK)
        block = np.empty(wanted, np.uint8)
        done = 0
        try:
            while done < wanted:
                read = file.read_into(block[done:], address + number * BLOCK + done)
                if not read:
                    raise OSError(0, "the process has ended")
                done += read
        except OSError as error:
            reason = f"memory of QEMU cannot be read ({error.strerror}); check that QEMU still runs"
            raise SourceError(f"{file.name}: {reason}") from error
        return block

    return decode


def saved(qmp: Qmp, ranges: Sequence[Ram], opened: contextlib.ExitStack) -> Reached:
    """Return RAM that QEMU saves into temporary files.

    The files disappear with the last view of them.
    """
    reached: Reached = {}
    with tempfile.TemporaryDirectory(prefix="kallsift.") as folder:
        for number, part in enumerate(ranges):
            free = shutil.disk_usage(folder).free
            if part.size > free:
                raise SourceError(f"pmemsave of {part.size:,} bytes needs more space than {folder} has ({free:,})")
            path = Path(folder) / str(number)
            qmp.do("pmemsave", {"val": part.start, "size": part.size, "filename": str(path)}, SAVING)
            view = containers.mapped(path)[1]
            if len(view) != part.size:
                raise SourceError(f"QEMU saved {len(view):,} of {part.size:,} bytes; run kallsift on the host of QEMU")
            reached[part] = BytesSegment(part.start, view)
    return reached


WAYS: dict[str, Way] = {"memory file": shared_files, "process memory": process_memory, "pmemsave": saved}
"""The ways to a guest's RAM, in the order in which they are tried."""
