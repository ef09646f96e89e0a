"""Find the table of system calls without a symbol, by the numbers of system calls.

These numbers never change, so the words of the table lead to the functions that belong to their numbers. Replaced words
do not. Therefore more than half of the known ones must, and no other table may have as many.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import KallsiftError
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.kernel import Kernel
from kallsift.kernel.placement.pointers import AFTER, BEFORE, pointers_between

Numbers = Mapping[int, str]
"""Names of system calls, without any prefix, by their numbers."""

GENERIC: Numbers = dict(
    enumerate(("io_setup", "io_destroy", "io_submit", "io_cancel", "setxattr", "lsetxattr", "fsetxattr", "getxattr"))
) | {17: "getcwd", 23: "dup", 24: "dup3", 56: "openat", 57: "close", 63: "read", 64: "write", 93: "exit", 172: "getpid"}
"""Numbers of include/uapi/asm-generic/unistd.h."""

X86_64: Numbers = (
    dict(enumerate(("read", "write", "open", "close")))
    | dict(enumerate(("lseek", "mmap", "mprotect", "munmap", "brk", "rt_sigaction", "rt_sigprocmask"), 8))
    | {16: "ioctl", 22: "pipe", 32: "dup", 33: "dup2", 39: "getpid", 57: "fork", 59: "execve"}
)
"""Numbers of arch/x86/entry/syscalls/syscall_64.tbl.

x32's own table lacks some of these.
"""

FIRST: Numbers = (
    dict(enumerate(("exit", "fork", "read", "write", "open", "close"), 1))
    | dict(enumerate(("creat", "link", "unlink", "execve", "chdir"), 8))
    | {14: "mknod", 15: "chmod", 19: "lseek", 20: "getpid"}
)
"""The numbers that Linux began with.

They are those of arch/x86/entry/syscalls/syscall_32.tbl, and of arm, s390, ppc.
"""

NUMBERS = {"x86-64": X86_64, "arm64": GENERIC, "riscv64": GENERIC, "riscv32": GENERIC, "loongarch64": GENERIC}
"""Numbers by architecture; all others have `FIRST`."""

SYSTEM_CALL = re.compile(r"(?:__\w+?_)?(?:compat_)?(?:sys|SyS|ppc)_(\w+)")
"""The name of a function that implements a system call, with any prefix."""

MAX_CALLS = 1 << 12

MAX_ALIASES = 64
"""Highest number of symbols at one address that are checked."""

MAX_REPLACED = 16
"""Highest number of consecutive words that lead to no system call.

More of them end the table.
"""


@dataclass(frozen=True, eq=False)
class _Search:
    """The data for the search of a kernel's tables.

    Attributes:
        kernel: the kernel whose tables are searched.
        memory: its memory.
        functions: addresses of functions that implement system calls, by name without any prefix.
        places: physical address of each word of the image that equals one of them, shape (n,).
        values: these words, shape (n,).
    """

    kernel: Kernel
    memory: VirtualMemory
    functions: dict[str, NDArray[np.uint64]]
    places: NDArray[np.uint64]
    values: NDArray[np.uint64]

    def starts(self, numbers: Numbers) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Return the addresses of tables with more than half of these numbers, shape (n,).

        The second array, shape (n,), has how many of the numbers each table has.
        """
        size = self.memory.words.size
        votes = [
            self.places[np.isin(self.values, self.functions[name])] - np.uint64(number * size)
            for number, name in numbers.items()
            if name in self.functions
        ]
        found, counts = np.unique(np.concatenate([np.empty(0, np.uint64), *votes]), return_counts=True)
        most = counts > len(numbers) // 2
        return self.memory.words.wrap(found[most] + np.uint64(self.kernel.distance)), counts[most].astype(np.int64)


def find_system_calls(kernel: Kernel, memory: VirtualMemory) -> tuple[int, int, str]:
    """Return the first address of the table of system calls, its end and the evidence.

    Raises:
        KallsiftError: if there is no such table, or several fit equally well.
    """
    numbers = NUMBERS.get(kernel.architecture or "", FIRST)
    search = _search(kernel, memory)
    starts, counts = search.starts(numbers)
    best = np.flatnonzero(counts == counts.max(initial=0))
    if len(best) != 1:
        found = f"{len(best)} tables look like it" if len(best) else "no pointers look like it"
        raise KallsiftError(f"no symbol names the table of system calls, and {found}")
    start, votes = int(starts[best[0]]), int(counts[best[0]])
    every = np.concatenate([search.starts(one)[0] for one in (GENERIC, X86_64, FIRST)])
    others = every[every > np.uint64(start)]
    end = _end(search, start, int(others.min()) if len(others) else None)
    evidence = (
        f"no symbol names it; in the table at {start:#x}, {votes} of {len(numbers)} known numbers lead to "
        "their system calls"
    )
    return start, end, evidence


def _search(kernel: Kernel, memory: VirtualMemory) -> _Search:
    wanted = {name for numbers in (GENERIC, X86_64, FIRST) for name in numbers.values()}
    found: dict[str, list[int]] = {}
    for address, name in zip(kernel.symbols.addresses.tolist(), kernel.symbols.names(), strict=True):
        call = SYSTEM_CALL.fullmatch(name)
        if call and call[1] in wanted:
            found.setdefault(call[1], []).append(address)
    functions = {name: np.array(addresses, np.uint64) for name, addresses in found.items()}
    every = np.concatenate([np.empty(0, np.uint64), *functions.values()])
    if not len(every):
        raise KallsiftError("neither the table of system calls nor any system call has a symbol")
    window = kernel.memory.around(kernel.tables[0].physical, BEFORE, AFTER)
    pointers = pointers_between(window, memory.words, int(every.min()), int(every.max()))
    kept = np.isin(pointers.values, every)
    return _Search(kernel, memory, functions, pointers.places[kept], pointers.values[kept])


def _end(search: _Search, start: int, limit: int | None) -> int:
    """Return the address behind the last system call of the table.

    It is not higher than ``limit``, the address of the next table.
    """
    size = search.memory.words.size
    count = MAX_CALLS if limit is None else min(MAX_CALLS, (limit - start) // size)
    values, _ = search.memory.values(np.uint64(start) + np.arange(count, dtype=np.uint64) * np.uint64(size))
    last = -1
    for number, value in enumerate(values.tolist()):
        if number - last > MAX_REPLACED:
            break
        if _is_call(search.kernel, value):
            last = number
    return start + (last + 1) * size


def _is_call(kernel: Kernel, address: int) -> bool:
    """Tell whether a function that implements a system call is at an address."""
    symbols = kernel.symbols
    low, high = np.searchsorted(symbols.addresses, np.array([address, address + 1], np.uint64)).tolist()
    return any(SYSTEM_CALL.fullmatch(symbols.symbol(index).name) for index in range(low, min(high, low + MAX_ALIASES)))
