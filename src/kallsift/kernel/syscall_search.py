"""The table of system calls where no symbol names it: a run of pointers to the functions that must follow each other.

The numbers of the first system calls never change, so that their order is known for each architecture; where the run
begins, the table does, and it goes on as long as its words are system calls (Documentation/process/adding-syscalls).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from kallsift.errors import KallsiftError
from kallsift.kernel.model import Kernel
from kallsift.kernel.pointers import AFTER, BEFORE, pointers_between
from kallsift.kernel.virtual import VirtualMemory


@dataclass(frozen=True)
class Run:
    """System calls that follow each other.

    Attributes:
        first: number of the first one.
        names: without any prefix.
    """

    first: int
    names: tuple[str, ...]


_GENERIC = Run(0, ("io_setup", "io_destroy", "io_submit", "io_cancel"))

RUNS = {
    "x86-64": Run(0, ("read", "write", "open", "close")),
    "arm64": _GENERIC,
    "riscv64": _GENERIC,
    "riscv32": _GENERIC,
    "loongarch64": _GENERIC,
}
"""By architecture (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h)."""

OTHERS = Run(1, ("exit", "fork", "read", "write", "open", "close"))
"""All others (arch/x86/entry/syscalls/syscall_32.tbl and alike)."""

PREFIXES = (
    "sys_",
    "SyS_",
    "__x64_sys_",
    "__ia32_sys_",
    "__arm64_sys_",
    "__riscv_sys_",
    "__s390x_sys_",
    "__s390_sys_",
    "ppc_",
    "__powerpc_sys_",
)
"""How kernels call the functions behind system calls, before the call's own name."""

SYSTEM_CALL = re.compile(r"(?:__\w+?_)?(?:compat_)?(?:sys|SyS|ppc\w*)_\w+")

MAX_CALLS = 1 << 12


def find_system_calls(kernel: Kernel, memory: VirtualMemory) -> tuple[int, int, str]:
    """Where the table of system calls is, the address behind it, and why.

    Raises:
        KallsiftError: if there is no such run of pointers, or several.
    """
    words, symbols = memory.words, kernel.symbols
    run = RUNS.get(kernel.architecture or "", OTHERS)
    functions = [
        np.array([symbol.address for prefix in PREFIXES for symbol in symbols.all(prefix + name)], np.uint64)
        for name in run.names
    ]
    wanted = f"pointers to {', '.join(run.names)}, one behind the other"
    if not all(len(addresses) for addresses in functions):
        raise KallsiftError(f"no symbol names the table, and not all functions are listed that would show it: {wanted}")
    window = kernel.memory.around(kernel.tables[0].physical, BEFORE, AFTER)
    found = pointers_between(window, words, int(functions[0].min()), int(functions[0].max()))
    places = found.places[np.isin(found.values, functions[0])]
    for number, addresses in enumerate(functions[1:], 1):
        values, held = kernel.memory.words(places + np.uint64(number * words.size), words.dtype)
        places = places[held & np.isin(values, addresses)]
    starts = [int(place) - run.first * words.size + kernel.distance & words.mask for place in places.tolist()]
    if len(starts) != 1:
        where = f" but {len(starts)} times, from {min(starts):#x} on" if starts else ""
        raise KallsiftError(
            f"no symbol names the table, and its content is {'not ' * (not starts)}found{where}: {wanted}"
        )
    start = starts[0]
    evidence = f"no symbol names it; at {start:#x} stand {wanted}, with numbers from {run.first} on"
    return start, _end(kernel, memory, start), evidence


def _end(kernel: Kernel, memory: VirtualMemory, start: int) -> int:
    """The address behind the last word that is a system call's."""
    size = memory.words.size
    places = np.uint64(start) + np.arange(MAX_CALLS, dtype=np.uint64) * np.uint64(size)
    values, _ = memory.values(places)
    symbols = kernel.symbols
    for number, value in enumerate(values.tolist()):
        low, high = np.searchsorted(symbols.addresses, np.array([value, value + 1], np.uint64)).tolist()
        if not any(SYSTEM_CALL.fullmatch(symbols.symbol(index).name) for index in range(low, min(high, low + 64))):
            return start + number * size
    return start + MAX_CALLS * size
