"""A whole x86-64 machine made by hand: RAM with a kernel's image, its tables, page tables, lists and processes.

What a kernel that boots would leave in memory, as far as the recovery asks for it. All numbers that a release could
choose (where fields stand in structures, where things lie) are chosen here, apart from the reader.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from kallsift.memory.memory import AddressSpace, CpuState, Hints, Memory
from kallsift.memory.segments import BytesSegment
from tests.oracle.eras import ERAS, Era
from tests.oracle.symbols import Symbol, population
from tests.oracle.writer import Blob, write

MIB, PAGE, LARGE = 1 << 20, 4096, 2 << 20
DIRECT = 0xFFFF_8880_0000_0000
KERNEL_TABLE, KERNEL_PAGE = 0x63, 0x8000_0000_0000_01E3
"""Present, writable, accessed and dirty; a large page is global besides, and nothing is executed in it."""

IMAGE_SIZE = 4 * MIB
POINTERS, HEADS, BANNER, TABLES, DATA = MIB, 5 * MIB // 4, 3 * MIB // 2, 2 * MIB, 3 * MIB
"""Offsets in the image."""

ROOT, INIT_TASK, INIT_MM, LISTS = DATA, DATA + 0x4000, DATA + 0x8000, DATA + 0x1_0000
VARIABLES = DATA + 0x9000
"""Where variables of 8 bytes each lie that a test names."""

TASK_LIST, TASK_MM, TASK_ACTIVE_MM, TASK_COMM, MM_PGD = 0x310, 0x348, 0x350, 0x7A0, 0x58
"""Where fields stand in this kernel's task_struct and mm_struct."""

PROCESSES = (("init", True), ("kthreadd", False), ("kworker/0:1", False), ("sshd", True), ("bash", True))
"""Names, and whether a process has memory of its own."""


@lru_cache(maxsize=16)
def _symbols(base: int, variables: tuple[str, ...], seed: int) -> tuple[Symbol, ...]:
    text = population(1500, seed, start=base, distinct=True)
    named = [
        (BANNER, "D", "linux_banner"),
        (ROOT, "D", "init_top_pgt"),
        (INIT_TASK, "D", "init_task"),
        (INIT_MM, "D", "init_mm"),
        *((VARIABLES + 8 * number, "D", name) for number, name in enumerate(variables)),
        (LISTS, "D", "lists"),
        (IMAGE_SIZE, "B", "_end"),
    ]
    first = Symbol(base, "T", "_text"), Symbol(base, "T", "_stext")
    return (*first, *text[1:], *(Symbol(base + place, letter, name) for place, letter, name in named))


def era_called(name: str) -> Era:
    """The release whose tables are written."""
    return next(era for era in ERAS if str(era) == name)


@lru_cache(maxsize=16)
def _blob(base: int, variables: tuple[str, ...], seed: int, era: str) -> Blob:
    return write(_symbols(base, variables, seed), era_called(era), address=base + TABLES)


@dataclass
class Machine:
    """RAM under construction.

    Attributes:
        size: bytes of RAM, from address 0 on.
        place: physical address of the image.
        base: virtual address of the image.
        direct: virtual address of the direct map.
        heap: physical address from which on pages are taken.
        variables: values of variables of 8 bytes by their names.
        seed: of the symbols.
        release: in the banner.
        mark: bits that every page-table entry has besides.
        processes: names, and whether a process has memory of its own.
        era: the release that wrote the tables.
    """

    size: int = 32 * MIB
    place: int = 6 * MIB
    base: int = 0xFFFF_FFFF_8100_0000
    direct: int = DIRECT
    heap: int = 16 * MIB
    variables: dict[str, int] = field(default_factory=dict)
    seed: int = 1
    release: str = "7.1.0-made"
    mark: int = 0
    processes: tuple[tuple[str, bool], ...] = PROCESSES
    era: str = "7.0"

    def __post_init__(self) -> None:
        self.data = np.zeros(self.size, np.uint8)
        self.symbols = _symbols(self.base, tuple(self.variables), self.seed)
        self.root = self.place + ROOT
        self.pgds: list[int] = []
        self._write_image()
        self._write_page_tables()
        self._write_lists()
        self._write_processes()

    @property
    def blob(self) -> Blob:
        """The tables."""
        return _blob(self.base, tuple(self.variables), self.seed, self.era)

    def put(self, place: int, *words: int) -> None:
        """Writes words at a physical address."""
        values = np.array([word % (1 << 64) for word in words], "<u8").view(np.uint8)
        self.data[place : place + len(values)] = values

    def word(self, place: int) -> int:
        """The word at a physical address."""
        return int(self.data[place : place + 8].view("<u8")[0])

    def take(self, pages: int = 1) -> int:
        """The physical address of fresh pages."""
        self.heap += pages * PAGE
        return self.heap - pages * PAGE

    def address(self, name: str) -> int:
        """The address of a symbol."""
        return next(symbol.address for symbol in self.symbols if symbol.name == name)

    def memory(self, **registers: int) -> Memory:
        """The machine's memory, with the registers of one processor if there are any."""
        return memory_of(self.data, **registers)

    def _write_image(self) -> None:
        chance = random.Random(self.seed)
        blob = self.blob
        at = self.place + TABLES
        self.data[at : at + len(blob.data)] = np.frombuffer(blob.data, np.uint8)
        targets = sorted({symbol.address for symbol in self.symbols if symbol.address < self.base + POINTERS})
        for number, target in enumerate(chance.sample(targets, 600)):
            self.put(self.place + POINTERS + 24 * number, target)
        for number in range(64):
            head = HEADS + 64 * number
            self.put(self.place + head, self.base + head, self.base + head)
        banner = f"Linux version {self.release} (somebody@somewhere) #1 SMP\n\0".encode()
        self.data[self.place + BANNER :][: len(banner)] = np.frombuffer(banner, np.uint8)
        for number, value in enumerate(self.variables.values()):
            self.put(self.place + VARIABLES + 8 * number, value)

    def map_large(self, root: int, virtual: int, physical: int) -> None:
        """Maps 2 MiB."""
        table = root
        for shift in (39, 30):
            entry = table + 8 * (virtual >> shift & 511)
            if not self.word(entry):
                self.put(entry, self.take() | KERNEL_TABLE | self.mark)
            table = self.word(entry) & ~self.mark & 0xF_FFFF_FFFF_F000
        self.put(table + 8 * (virtual >> 21 & 511), physical | KERNEL_PAGE | self.mark)

    def _write_page_tables(self) -> None:
        for step in range(0, IMAGE_SIZE, LARGE):
            self.map_large(self.root, self.base + step, self.place + step)
        for step in range(0, self.size, LARGE):
            self.map_large(self.root, self.direct + step, step)

    def _write_lists(self) -> None:
        for number in range(96):
            head, element = LISTS + 48 * number, self.take() + 16 * number
            self.put(self.place + head, self.direct + element, self.direct + element)
            self.put(element, self.base + head, self.base + head)

    def _write_processes(self) -> None:
        tasks = [(self.place + INIT_TASK, self.base + INIT_TASK)]
        for name, has_memory in self.processes:
            task = self.take(2)
            tasks.append((task, self.direct + task))
            self.data[task + TASK_COMM :][: len(name)] = np.frombuffer(name.encode(), np.uint8)
            if has_memory:
                mm, pgd = self.take() + 0x200, self.take()
                self.data[pgd + 2048 : pgd + 4096] = self.data[self.root + 2048 : self.root + 4096]
                self.pgds.append(pgd)
                self.put(task + TASK_MM, self.direct + mm, self.direct + mm)
                self.put(mm + MM_PGD, self.direct + pgd)
        self.data[self.place + INIT_TASK + TASK_COMM :][:9] = np.frombuffer(b"swapper/0", np.uint8)
        self.put(self.place + INIT_TASK + TASK_ACTIVE_MM, self.base + INIT_MM)
        self.put(self.place + INIT_MM + MM_PGD, self.base + ROOT)
        ring = [virtual + TASK_LIST for _, virtual in tasks]
        for number, (physical, _) in enumerate(tasks):
            self.put(physical + TASK_LIST, ring[(number + 1) % len(ring)], ring[number - 1])


def memory_of(data: np.ndarray[tuple[int], np.dtype[np.uint8]], **registers: int) -> Memory:
    """Raw memory from address 0 on."""
    hints = Hints((CpuState(0, registers),) if registers else ())
    return Memory("made up", "raw", AddressSpace.PHYSICAL, (BytesSegment(0, data),), hints)
