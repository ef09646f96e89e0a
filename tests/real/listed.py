"""What a guest lists of its own symbols, read without kallsift; and kernels that list less of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

import kallsift
from kallsift import Kernel
from kallsift.memory.segments import BytesSegment
from tests.lab import Capture
from tests.real.conftest import memory_of, writable


@cache
def running(dump: Path) -> Kernel:
    """The kernel in a dump or an image, recovered once for all tests of a process; it keeps the source open."""
    return kallsift.recover(kallsift.open(dump))


@cache
def without_hints(dump: Path) -> Kernel:
    """Recover the kernel in the bytes of a raw dump alone, once for all tests of a process."""
    return kallsift.recover(memory_of(np.memmap(dump, np.uint8, "r")))


def changed(capture: Capture, words: Mapping[int, int]) -> Kernel:
    """A guest's kernel in a copy of its memory in which words, by their addresses in the image, have other values."""
    kernel = running(capture.dump("elf"))
    size = kernel.symbols.word_size
    data = writable(capture)
    for address, value in words.items():
        place = address - kernel.distance & (1 << 8 * size) - 1
        data[place : place + size].view(f"{kernel.byte_order}u{size}")[0] = value
    return replace(kernel, memory=replace(kernel.memory, segments=(BytesSegment(0, np.asarray(data)),)))


def listed(capture: Capture) -> dict[str, int]:
    """Addresses by name, the first of each, from the guest's ``/proc/kallsyms``; modules' as ``module:name``."""
    found: dict[str, int] = {}
    for line in capture.truth("kallsyms").decode("latin-1").splitlines():
        address, _, name = line.split(" ", 2)
        name, _, module = name.partition("\t")
        found.setdefault(f"{module.strip('[]')}:{name}" if module else name, int(address, 16))
    return found


def names_at(capture: Capture) -> dict[int, set[str]]:
    """Names of the built-in symbols by address, from the guest's ``/proc/kallsyms``."""
    found: dict[int, set[str]] = {}
    for line in capture.truth("kallsyms").decode("latin-1").splitlines():
        address, _, name = line.split(" ", 2)
        if "\t" not in name:
            found.setdefault(int(address, 16), set()).add(name)
    return found


def resources(capture: Capture) -> dict[str, tuple[int, int]]:
    """First and last address by name, from the guest's ``/proc/iomem``; of several of a name the last."""
    found = {}
    for line in capture.truth("iomem").decode().splitlines():
        bounds, _, name = line.strip().partition(" : ")
        first, last = (int(part, 16) for part in bounds.split("-"))
        found[name] = (first, last)
    return found


def text_only(kernel: Kernel) -> Kernel:
    """The kernel with those symbols alone that one without CONFIG_KALLSYMS_ALL lists (scripts/kallsyms.c)."""
    table = kernel.symbols

    def between(first: str, last: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        low, high = np.uint64(table[first].address), np.uint64(table[last].address)
        return (table.addresses >= low) & (table.addresses <= high)

    if "_end" not in table:
        return kernel
    kept = np.flatnonzero(between("_stext", "_etext") | between("_sinittext", "_einittext"))
    text, bounds = table.characters.tobytes(), table.bounds.tolist()
    parts = [text[bounds[index] : bounds[index + 1]] for index in kept.tolist()]
    return replace(
        kernel,
        symbols=replace(
            table,
            addresses=table.addresses[kept],
            characters=np.frombuffer(b"".join(parts), np.uint8),
            bounds=np.concatenate(([0], np.cumsum([len(part) for part in parts]))).astype(np.int64),
        ),
    )
