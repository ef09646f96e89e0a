"""What a guest of the lab wrote down of itself before its memory was dumped."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

CAPTURES = Path(os.environ.get("KALLSIFT_LAB", str(Path.home() / ".cache" / "kallsift" / "lab")), "captures")
"""Folder of the guests that ``python -m tests.lab`` of kallsift booted."""

PF_KTHREAD = 0x00200000
"""Flag of a kernel thread (include/linux/sched.h)."""


@dataclass(frozen=True)
class Process:
    """A process as the guest printed it."""

    parent: int
    name: str
    arguments: str


@dataclass(frozen=True)
class Area:
    """A line of /proc/PID/maps."""

    start: int
    end: int
    access: str
    offset: int
    inode: int
    path: str


@dataclass(frozen=True)
class Truth:
    """The files of a capture's folder ``truth``; guest-init of the lab and scenarios/ say what each has."""

    folder: Path

    def text(self, name: str) -> str:
        """Return one of the guest's own files."""
        return (self.folder / "truth" / name).read_text(errors="replace")

    def rows(self, name: str) -> list[list[str]]:
        """Return the fields of a file whose lines have tabs between them."""
        return [line.split("\t") for line in self.text(name).splitlines() if line]

    @cached_property
    def facts(self) -> dict[str, int]:
        """Addresses that the lab's modules printed into the kernel's log."""
        found = re.findall(r"LAB-FACT (\S+) ([0-9a-f]+)", self.text("dmesg"))
        return {name: int(address, 16) for name, address in found}

    @cached_property
    def processes(self) -> dict[int, Process]:
        """Processes by their numbers."""
        rows = self.rows("processes.tsv")
        return {int(pid): Process(int(parent), name, " ".join(rest).strip()) for pid, parent, _, name, *rest in rows}

    @cached_property
    def kernel_threads(self) -> dict[int, str]:
        """Names of kernel threads by their numbers."""
        found = re.findall(r"task/\d+/stat:(\d+) \((.*)\) ((?:\S+ ?)+)$", self.text("threads"), re.MULTILINE)
        # the name is followed by the state, five numbers and the flags (fs/proc/array.c, do_task_stat)
        return {int(tid): name for tid, name, rest in found if int(rest.split()[6]) & PF_KTHREAD}

    @cached_property
    def namespaces(self) -> dict[tuple[int, str], int]:
        """Numbers of namespaces by process and kind."""
        found = re.findall(r"/proc/(\d+)/ns/(\w+) -> \w+:\[(\d+)\]", self.text("namespaces"))
        return {(int(pid), kind): int(number) for pid, kind, number in found}

    @cached_property
    def networks(self) -> dict[str, int]:
        """Numbers of the two network namespaces by what their files are called."""
        outer = self.namespaces[1, "net"]
        (inner,) = {number for (_, kind), number in self.namespaces.items() if kind == "net" and number != outer}
        return {"outer": outer, "inner": inner}

    @cached_property
    def areas(self) -> dict[int, list[Area]]:
        """Memory of processes by their numbers."""
        found: dict[int, list[Area]] = defaultdict(list)
        for pid, line in self.rows("maps.tsv"):
            bounds, access, offset, _, inode, *path = line.split(maxsplit=5)
            start, _, end = bounds.partition("-")
            area = Area(int(start, 16), int(end, 16), access, int(offset, 16), int(inode), "".join(path))
            found[int(pid)].append(area)
        return found

    @cached_property
    def symbols(self) -> dict[str, set[int]]:
        """Addresses by the names of /proc/kallsyms, those of modules too."""
        found: dict[str, set[int]] = defaultdict(set)
        for line in self.text("kallsyms").splitlines():
            address, _, name, *_ = line.split()
            found[name].add(low(int(address, 16)))
        return found


def low(address: int) -> int:
    """Return the 48 bits of a kernel address that Volatility prints, whatever the paging."""
    return address & ((1 << 48) - 1)
