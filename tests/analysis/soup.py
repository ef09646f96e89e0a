"""Memory full of lists that mean nothing: what a recogniser must not take for its own, whatever stands around links.

The bytes of a material (noise, code, files) stay as they are but for the links of circular lists, which run all over
it, and, beside these links, words that point at more of it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kallsift.addresses import PhysicalAddress, VirtualAddress
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.kernel import Kernel, TableLocation
from kallsift.kernel.placement.pointers import Words
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment
from tests.output.sample import kernel, table

READERS = ("load_module", "ftrace_mod_get_kallsym", "arch_ftrace_update_trampoline", "bpf_get_kallsym")
READERS_OF_KPROBES = "kprobe_get_kallsym"
"""Functions of the kernel without which nothing is looked for."""

ALL_READERS = (*READERS, READERS_OF_KPROBES)

STARTS = {8: 0xFFFF_8880_0000_0000, 4: 0x8000_0000}
"""Where the memory begins, by the size of a word."""

BESIDE = 10
"""Words before and behind links that can become pointers."""

MOST_MEMBERS = 4

IMAGE = 1 << 14
"""Bytes at the beginning of a window that are the kernel's image."""


def soup(material: NDArray[np.uint8], words: Words, lists: int, seed: int) -> NDArray[np.uint8]:
    """Return a copy of a material, shape (n,), uint8, with so many circular lists, and pointers beside their links."""
    random = np.random.default_rng(seed)
    data = material[: len(material) // 16 * 16].copy()
    view = data.view(words.dtype)
    start = STARTS[words.size]
    sizes = random.integers(2, MOST_MEMBERS + 2, lists)
    nodes = random.integers(BESIDE, len(view) - BESIDE - 2, int(sizes.sum()))
    beside = (nodes[:, None] + np.concatenate((np.arange(-BESIDE, 0), np.arange(2, BESIDE + 2)))).ravel()
    chosen = beside[random.random(len(beside)) < 0.5]
    targets = random.integers(0, len(view), len(chosen)).astype(np.uint64)
    view[chosen] = targets * np.uint64(words.size) + np.uint64(start)
    # small numbers are as frequent as pointers: states, counts, sizes
    small = beside[random.random(len(beside)) < 0.2]
    view[small] = random.integers(0, 64, len(small)).astype(np.uint64)
    ends = np.cumsum(sizes)
    after, before = np.arange(1, len(nodes) + 1), np.arange(-1, len(nodes) - 1)
    after[ends - 1], before[ends - sizes] = ends - sizes, ends - 1
    addresses = (nodes * words.size).astype(np.uint64) + np.uint64(start)
    view[nodes], view[nodes + 1] = addresses[after], addresses[before]
    return data


def with_back_pointers(data: NDArray[np.uint8], words: Words, offset: int, seed: int) -> None:
    """Let many words of a memory, whose beginning is at `STARTS`, point to so many bytes before themselves."""
    view = data.view(words.dtype)
    places = np.random.default_rng(seed).integers(offset // words.size, len(view), len(view) // 100)
    view[places] = places.astype(np.uint64) * np.uint64(words.size) + np.uint64(STARTS[words.size] - offset)


def kernel_in(data: NDArray[np.uint8], words: Words, offset: int) -> Kernel:
    """Return a kernel that names functions alone, and has its tables at an offset into that memory."""
    start = STARTS[words.size]
    base = start + offset
    rows = [(base + 0x100 * number, "T", name) for number, name in enumerate(("_stext", *ALL_READERS))]
    rows.append((base + IMAGE, "T", "_etext"))
    place = TableLocation("names", PhysicalAddress(base), VirtualAddress(base), 0x100)
    memory = Memory("soup", "raw", AddressSpace.VIRTUAL, (BytesSegment(start, data),))
    made = kernel(rows, words.size, tables=(place,), memory=memory, distance=0, byte_order=words.byte_order)
    return replace(made, architecture=None)


def with_readers(text: Kernel) -> Kernel:
    """Return a kernel whose table names text alone, with all functions that use lists, whatever it was built with."""
    kept = [(symbol.address, symbol.type, symbol.name) for symbol in text.symbols if symbol.name not in ALL_READERS]
    kept += [(kept[0][0], "T", name) for name in ALL_READERS]
    return replace(text, symbols=table(kept, text.symbols.word_size))


def memory_of(data: NDArray[np.uint8], words: Words) -> VirtualMemory:
    """Return what a kernel in that memory sees."""
    segment = BytesSegment(STARTS[words.size], data)
    return VirtualMemory(Memory("soup", "raw", AddressSpace.VIRTUAL, (segment,)), None, None, words)
