"""The table of docs/measured/dynamic.md: all of ``/proc/kallsyms`` of running kernels, byte for byte."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import kallsift
from kallsift import Memory
from kallsift.analysis.dynamic.dynamic_symbols import dynamic_symbols
from kallsift.output.symbols.kallsyms import kallsyms_text
from tests.lab import Capture, Guest, capture
from tests.real.conftest import memory_of, writable

BUILT_IN = ("bpf", "__builtin__ftrace", "__builtin__kprobes")
"""What stands in brackets besides the names of modules."""

HEADING = """\
# All of /proc/kallsyms

Every line, byte for byte against the guest's own `/proc/kallsyms`: the built-in table, modules, functions of modules'
initial code that ftrace kept, trampolines of ftrace, programs and trampolines of BPF, pages of kprobes. Each guest
called traced loads modules while it is traced, loads BPF programs and sets kprobes, some of which its kernel optimises
(tests/lab/scenarios/traced); those of MIPS load modules. Once as dumped, once with the kernel's types (BTF) overwritten
by zeros in the dump (-: no symbol names any).
Written by `python -m tests.real dynamic`, which boots each of these kernels.

| guest | kernel | lines | modules | their lines | bpf | ftrace | kprobes | identical | identical without BTF |
|---|---|--:|--:|--:|--:|--:|--:|---|---|"""


def owners(text: bytes) -> Counter[str]:
    """How many lines each owner has."""
    return Counter(found.decode() for found in re.findall(rb"\t\[([^\]\n]+)\]$", text, re.MULTILINE))


def printed(memory: Memory) -> tuple[bytes, tuple[str, ...]]:
    """All lines that are recovered, and what is missing."""
    kernel = kallsift.recover(memory)
    dynamic = dynamic_symbols(kernel)
    return b"".join(kallsyms_text(kernel, dynamic)), dynamic.missing


def without_types(taken: Capture) -> Memory | None:
    """The guest's memory with zeros where its kernel keeps its types; None where it has none."""
    data: NDArray[np.uint8] = writable(taken)
    kernel = kallsift.recover(memory_of(data))
    bounds = [kernel.symbols.find(name) for name in ("__start_BTF", "__stop_BTF")]
    if None in bounds:
        return None
    low, high = (kernel.symbols.symbol(index).address for index in bounds if index is not None)
    data[low - kernel.distance : high - kernel.distance] = 0
    return memory_of(data)


def row(guest: Guest) -> tuple[str, bool]:
    """One row of the table, and whether all is identical."""
    taken = capture(guest)
    truth = taken.truth("kallsyms")
    counts = owners(truth)
    own = {name: count for name, count in counts.items() if name not in BUILT_IN}
    with kallsift.open(taken.dump("elf")) as memory:
        same = printed(memory) == (truth, ())
    blanked = without_types(taken)
    same_without = blanked is None or printed(blanked) == (truth, ())
    cells = [
        guest.name,
        taken.manifest["kernel"]["release"],
        f"{truth.count(10):,}",
        f"{len(own)}",
        f"{sum(own.values()):,}",
        *(f"{counts[name]}" for name in BUILT_IN),
        "yes" if same else "NO",
        "-" if blanked is None else "yes" if same_without else "NO",
    ]
    return f"| {' | '.join(cells)} |", same and same_without


def write(guests: Sequence[Guest]) -> int:
    """Prints the table; 1 if anything differs."""
    print(HEADING)
    worst = 0
    for guest in guests:
        line, good = row(guest)
        worst = worst if good else 1
        print(line, flush=True)
    return worst
