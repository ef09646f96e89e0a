"""Check by the page tables of processes in which copy of an image the machine's processes run.

The page table in an image can be that of a copy or of a forger. The page tables of processes are independent of it: on
most architectures each has the kernel's half of the address space too, and must map the same image at the same place.
They are reached from init_task (init/init_task.c), the head of the list of all processes. The offsets of fields in
task_struct and mm_struct are inferred from what must be true of them: a list of tasks leads from names to names, ``mm``
and ``active_mm`` are equal in a process that has memory of its own, and ``mm->pgd`` leads to a table that maps the
kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kallsift.arch.paging import PagingMode, walk
from kallsift.arrays import distinct, is_in
from kallsift.errors import KallsiftError, UnmappedError
from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kallsyms.recovered_tables import Tables
from kallsift.kernel.access.list_head import ListMembers, reachable
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.kernel import Kernel
from kallsift.kernel.placement.placement import Placement
from kallsift.kernel.placement.pointers import AFTER, BEFORE, PAGE
from kallsift.memory.memory import Memory

IDLE = b"swapper"
"""Beginning of the names of idle tasks; init_task is the first processor's."""

NAME_SIZE = 16
"""TASK_COMM_LEN: bytes of a task's name, with a NUL at the end."""

TASK_SIZE = 16 << 10
"""Highest size of a task_struct in bytes; most have 10 KiB."""

MAX_IDLE = 16
"""Highest number of names of idle tasks that are followed where no symbol names init_task."""

MAX_TASKS = 1 << 15
"""Highest number of processes that are followed."""

MAX_SAMPLE = 64
"""Number of processes whose page tables are read."""

MM_REACHES = ((0, 256), (-4096, 4096))
"""Ranges of bytes, relative to the links of the list of tasks, in which ``mm`` stands: right behind them, or, where the
fields of structures are shuffled, around them."""

MM_SIZE = 1024
"""Bytes of an mm_struct within which ``pgd`` stands."""

WITNESSES = ("token_table", "names")
"""Tables of which a copy of an image has the same bytes; every image has one of them."""

WITNESS_SIZE = 512
"""Bytes of them that are compared."""

NO_TABLE = np.uint64((1 << 64) - 1)
"""An address at which no table can be."""

TABLE_ALIGNMENT = 32
"""Lowest alignment of a top-level table in bytes: that of PAE; all others have more."""


class Tasks(NamedTuple):
    """The list of all processes.

    Attributes:
        head: address of the list's links in init_task.
        nodes: addresses of the links in all other processes, and the faults of the list.
        name: offset of a process' name from the links.
    """

    head: int
    nodes: ListMembers
    name: int


def processes_check(memory: Memory, tables: Tables, placement: Placement) -> Check:
    """Check that the page tables of processes map an image where it lies.

    The check is absent if it cannot be made: no process is found, their list is broken, or their tables do not map a
    kernel.

    Args:
        memory: physical memory.
        tables: the tables of the image.
        placement: the placement, with the page table that maps the image.
    """
    mapping = placement.mapping
    if not isinstance(mapping, PagingMode):
        return _absent("not checked: no page table maps the image")
    virtual = VirtualMemory(memory, mapping, placement.root, placement.words)
    tasks = next(task_lists(virtual, tables, placement), None)
    if tasks is None:
        return _absent("no list of processes was found")
    agreeing, contrary = _counted(memory, tables, placement, mapping, _tables_of(virtual, placement, mapping, tasks))
    count = len(tasks.nodes.nodes) + 1
    if contrary:
        detail = f"{contrary} of {agreeing + contrary} page tables of processes map another copy of this image"
        return Check.that(CheckId.PROCESSES, False, detail, is_quoted=True)
    if not agreeing:
        return _absent(f"none of {count} processes has a page table that maps the kernel")
    if tasks.nodes.problems:
        return _absent(f"{agreeing} page tables of processes map this image, but the list of processes is broken")
    detail = f"{agreeing} page tables of {count} processes that init_task leads to map this image"
    return Check.that(CheckId.PROCESSES, True, detail)


def lacks_processes(kernel: Kernel) -> bool:
    """Tell whether a kernel of x86-64 that lists ``init_task`` leads to no process.

    Then it is a copy of an image, and no machine runs it. Such a copy can seem to run, because the image holds its page
    tables, and memory that was copied beside it holds some of its lists. On x86-64 every process's page table maps the
    kernel, which is not so on all architectures.
    """
    is_told = kernel.architecture == "x86-64" and kernel.symbols.find("init_task") is not None
    return is_told and all(
        check.outcome is Outcome.ABSENT for check in kernel.evidence if check.name == CheckId.PROCESSES
    )


def _absent(detail: str) -> Check:
    return Check(CheckId.PROCESSES, Outcome.ABSENT, detail)


def task_lists(virtual: VirtualMemory, tables: Tables, placement: Placement) -> Iterator[Tasks]:
    """Yield the lists of an image that can be the list of all processes."""
    words = placement.words
    for place in _idle_names(virtual.memory, tables, placement):
        window = virtual.memory.around(place, TASK_SIZE, TASK_SIZE)
        skipped = -window.start % words.size
        count = (window.size - skipped) // words.size
        values = window.data[skipped : skipped + count * words.size].view(words.dtype).astype(np.uint64)
        places = np.uint64(window.start + skipped) + np.arange(count, dtype=np.uint64) * np.uint64(words.size)
        own = words.wrap(places + np.uint64(placement.distance))
        first, last = values[:-1], values[1:]
        usable = np.flatnonzero((first >= PAGE) & (last >= PAGE) & (first != own[:-1]))
        behind, held = virtual.values(first[usable] + np.uint64(words.size))
        before, there = virtual.values(last[usable])
        for index in usable[held & there & (behind == own[usable]) & (before == own[usable])].tolist():
            name = place - int(places[index])
            if _named(virtual, int(first[index]) + name) and _named(virtual, int(last[index]) + name):
                try:
                    nodes = reachable(virtual, int(own[index]), MAX_TASKS)
                except KallsiftError:
                    continue
                if all(_named(virtual, node + name) for node in _sample(nodes.nodes).tolist()):
                    yield Tasks(int(own[index]), nodes, name)


def _idle_names(memory: Memory, tables: Tables, placement: Placement) -> Iterator[int]:
    """Yield the physical addresses of the names of idle tasks in the image."""
    symbols = placement.symbols.all("init_task")
    try:
        if symbols:
            start = placement.physical(symbols[0].address)
            windows = [memory.window(start, 0, TASK_SIZE)]
        else:
            windows = [memory.around(tables.array_address, BEFORE, AFTER)]
    except UnmappedError:
        return
    found = 0
    for window in windows:
        skipped = -window.start % 4
        words = window.data[skipped : skipped + (window.size - skipped) // 4 * 4].view("<u4")
        for index in np.flatnonzero(words == np.uint32(int.from_bytes(IDLE[:4], "little"))).tolist():
            name = window.data[skipped + 4 * index :][:NAME_SIZE].tobytes()
            if name.startswith((IDLE + b"\0", IDLE + b"/0\0")) and found < MAX_IDLE:
                found += 1
                yield window.start + skipped + 4 * index


def _named(virtual: VirtualMemory, address: int) -> bool:
    """Tell whether a task's name can stand at an address: printable text and a NUL."""
    try:
        name, end, _ = virtual.read(address, NAME_SIZE).tobytes().partition(b"\0")
    except UnmappedError:
        return False
    return bool(name and end) and all(0x20 <= letter < 0x7F for letter in name)


def _sample(nodes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return nodes[:: max(1, -(-len(nodes) // MAX_SAMPLE))]


def _tables_of(virtual: VirtualMemory, placement: Placement, mapping: PagingMode, tasks: Tasks) -> NDArray[np.uint64]:
    """Return the physical addresses of possible top-level tables of processes.

    There is a row for each possible offset of ``pgd``, with a column for each address space. `NO_TABLE` stands where
    none can be.
    """
    width = placement.words.size
    for low, high in MM_REACHES:
        steps = np.arange(low // width, high // width).astype(np.int64) * width
        cells = _sample(tasks.nodes.nodes)[:, None] + steps.astype(np.uint64)[None, :]
        values = virtual.values(cells.reshape(-1))[0].reshape(cells.shape)
        mine, active = values[:, :-1], values[:, 1:]
        usable = np.where((mine >= PAGE) & mapping.translatable(mine.reshape(-1)).reshape(mine.shape), mine, 0)
        # a kernel thread has no ``mm``, and borrows another's ``active_mm``
        columns = ((usable == mine) & ((mine == 0) | (mine == active))).all(axis=0) & (mine != 0).any(axis=0)
        spaces = distinct(mine[:, columns])
        spaces = spaces[spaces != 0]
        if len(spaces):
            break
    fields = np.arange(0, MM_SIZE, width, dtype=np.uint64)
    found, held = virtual.values((spaces[:, None] + fields[None, :]).reshape(-1))
    held &= (found >= PAGE) & (found & np.uint64(TABLE_ALIGNMENT - 1) == 0)
    places, mapped = virtual.physical(found)
    keep = held & mapped & (places != np.uint64(placement.root or 0))
    return np.where(keep, places, NO_TABLE).reshape(len(spaces), -1).T


def _counted(
    memory: Memory, tables: Tables, placement: Placement, mapping: PagingMode, candidates: NDArray[np.uint64]
) -> tuple[int, int]:
    """Return how many processes' tables map this image, and how many map a copy.

    The numbers are those of the offset of ``pgd`` at which most tables map one of them.
    """
    place, size = next((place, size) for name, place, size in tables.places if name in WITNESSES)
    wanted = memory.around(place, 0, min(size, WITNESS_SIZE)).data.tobytes()
    roots = distinct(candidates[candidates != NO_TABLE])
    physical, mapped = walk(memory, mapping, roots, np.full(len(roots), placement.virtual(place), np.uint64))
    for other in distinct(physical[mapped & (physical != np.uint64(place))]).tolist():
        # on some architectures a process' table does not map the kernel, but something else at the same address
        mapped[physical == np.uint64(other)] = _held(memory, other, wanted)
    best = (0, 0)
    for row in candidates:
        chosen = mapped & is_in(roots, row)
        counts = (
            int(np.count_nonzero(chosen & (physical == place))),
            int(np.count_nonzero(chosen & (physical != place))),
        )
        best = max(best, counts, key=sum)
    return best


def _held(memory: Memory, place: int, wanted: bytes) -> bool:
    try:
        return memory.read(place, len(wanted)).tobytes() == wanted
    except UnmappedError:
        return False
