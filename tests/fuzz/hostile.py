"""Sprays at random what an attacker would into a made machine's memory, and holds the search to its budget.

The kernel must come out as if nothing else were there. Bytes that hold no kernel, but whatever looks like a part of one
or like something packed, must be refused within the budget too.
"""

from __future__ import annotations

import bz2
import lzma
import random
import resource
import time
from collections.abc import Callable

import numpy as np
from backports import zstd
from numpy.typing import NDArray

from kallsift.budget import MIN_WORK, WORK_RATIO, WorkBudget
from kallsift.errors import KallsiftError
from kallsift.kallsyms.token_scan import DIGITS
from kallsift.kernel.kernel import Kernel
from kallsift.kernel.recovery.search import recover, recover_all
from tests.hostile.attacks import GZIP, lookalike, machine, token_table, wide_xz, wide_zstd
from tests.kernel.made_machine import MIB, memory_of

from .trials import FAILED, Trials, refusal

MAX_SECONDS, READ_RATIO = 8.0, 6
"""Processor time that a case may take whatever its size, also on a busy machine, and how many times that of a copy of
its bytes besides."""

MAX_RESIDENT = 600 * MIB
"""Bytes that may be resident at once beside the case's own."""

SIZES = (0, 1, 16, 64)
"""MiB of memory behind the machine's."""


def _markers(chance: random.Random) -> bytes:
    """Words that pass for markers, often more than the made kernel has."""
    steps = [chance.randrange(512, 9000) for _ in range(chance.choice((1, 3, 20, 700)))]
    return np.cumsum([0, *steps]).astype("<u4").tobytes()


PIECES: tuple[Callable[[random.Random], bytes], ...] = (
    lambda chance: DIGITS * chance.choice((1, 1, 50)),
    lambda chance: DIGITS + b"".join(bytes((code, 0)) for code in range(0x3A, 0x7F)),
    lambda chance: token_table(chance.randrange(2, 9)),
    lambda chance: _markers(chance) + token_table(),
    lambda chance: lookalike(),
    lambda chance: _markers(chance),
    lambda chance: b"Linux version 6.1.0 (a@b) #1 SMP\n\0",
    lambda chance: GZIP * chance.choice((1, 400)) + b"\0" + b"\0\0\0\xff\xff" * 2000,
    lambda chance: bz2.compress(b"x"),
    lambda chance: zstd.compress(b"x") + wide_zstd(),
    lambda chance: lzma.compress(b"x") + wide_xz(),
    lambda chance: chance.randbytes(chance.choice((1, 64, 4096))),
)
"""What is sprayed."""


def listed(kernel: Kernel) -> list[tuple[int, str, str]]:
    return [(symbol.address, symbol.type, symbol.name) for symbol in kernel.symbols]


def sprayed(chance: random.Random, data: NDArray[np.uint8], low: int) -> None:
    """Put pieces of some kinds at equal or at random distances from an offset on."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        piece = np.frombuffer(chance.choice(PIECES)(chance), np.uint8)
        room = len(data) - low - len(piece)
        count = min(chance.choice((1, 8, 258, 4000, 65_537)), room // len(piece) + 1) if room > 0 else 0
        for number in range(count):
            place = low + (room * number // count if count > 8 else chance.randrange(room))
            data[place : place + len(piece)] = piece


def case(chance: random.Random, truth: list[tuple[int, str, str]]) -> str:
    """Spray, search, and say what came of it."""
    made, has_kernel = machine(), chance.random() < 0.7
    behind = np.zeros(chance.choice(SIZES) * MIB, np.uint8)
    data = np.concatenate((made.data if has_kernel else np.zeros(MIB, np.uint8), behind))
    sprayed(chance, data, len(data) - len(behind) if has_kernel else 0)
    if has_kernel:
        sprayed(chance, data[: made.place], MIB)
    begin = time.process_time()
    data.copy()
    copied, begin = time.process_time() - begin, time.process_time()
    budget = WorkBudget.of(len(data))
    try:
        find = recover_all if chance.random() < 0.3 else lambda memory, budget: (recover(memory, budget=budget),)
        kernels = find(memory_of(data), budget=budget)
    except KallsiftError as error:
        outcome = f"{FAILED} to find the kernel: {error}" if has_kernel else refusal(error)
    else:
        proven = [listed(kernel) for kernel in kernels if kernel.proven]
        outcome = "exact" if proven == ([truth] if has_kernel else []) else f"{FAILED} with other symbols"
    took = time.process_time() - begin
    if took > MAX_SECONDS + READ_RATIO * copied:
        return f"{FAILED}: {took:.1f} s for {len(data) >> 20} MiB"
    if budget.spent_work > MIN_WORK + WORK_RATIO * len(data):
        return f"{FAILED}: {budget.spent_work:,} bytes passed over"
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return f"{FAILED}: {resident >> 20} MiB resident" if resident > MAX_RESIDENT + 2 * len(data) else outcome


def hostile_trials() -> Trials:
    """Memory that is sprayed at random."""
    truth = listed(recover(machine().memory()))
    return Trials("hostile", lambda number, chance: case(chance, truth), lambda number: f"--case {number}", 60.0)
