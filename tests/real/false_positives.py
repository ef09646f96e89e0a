"""The table of docs/measured/false-positives.md: what recognisers answer where the truth has nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import kallsift
from kallsift.addresses import PhysicalAddress
from kallsift.analysis.address_space.page_table import page_table
from kallsift.analysis.dynamic.bpf import bpf_programs
from kallsift.analysis.dynamic.ftrace import traced_functions, trampolines
from kallsift.analysis.dynamic.kprobes import kprobe_pages
from kallsift.analysis.listings.owned_lines import OwnedLines
from kallsift.kernel.access.generated_code import GeneratedCode
from kallsift.kernel.access.list_head import heads_of_image
from kallsift.kernel.access.virtual_memory import PAGE, VirtualMemory, virtual_memory
from kallsift.kernel.kernel import Kernel, TableLocation
from kallsift.kernel.placement.pointers import AFTER, BEFORE, Words
from kallsift.modules.hidden_modules import found_elsewhere
from kallsift.modules.inventory import inventory
from kallsift.modules.module_list import listed_structures
from kallsift.modules.struct_module import name_of, structures_at
from tests.analysis.soup import STARTS, kernel_in, memory_of, soup, with_back_pointers, with_readers
from tests.lab import Capture
from tests.lab.guests import load_guests
from tests.lab.places import captures_folder
from tests.modules.made_modules import made_modules
from tests.real.listed import text_only

RECOGNISERS = ("modules", "traced", "trampolines", "BPF", "kprobes", "hidden modules")

HEADING = """\
# Answers where there is nothing

Every recogniser of a list that no symbol names (docs/evidence.md says what must be true of each), asked of kernels
whose table names text alone and has all functions that use such lists, so that nothing but content decides. Each
number counts answers that the truth lacks, and must be 0:

* *own lists*: a guest's image, the lists of which are really there. What is found is compared with the guest's own
  `/proc/kallsyms` and `/proc/modules`.
* *lists in RAM*: the same machine's memory, window by window, as if the image were there: all lists that its kernel
  allocated the heads of.
* *soup*: 512 MiB of noise, of x86 code (executable segments below /usr) and of page cache (files below /usr/lib), all
  over which run circular lists that mean nothing, with pointers and small numbers beside their links, and words that
  point back as those of modules do.

Written by `python -m tests.real false-positives` from the captures that are there.

| where | lists that close | modules | traced | trampolines | BPF | kprobes | hidden modules | found and true |
|---|--:|--:|--:|--:|--:|--:|--:|--:|"""

SIZE = 512 << 20
SOUP_WORDS = (Words(8, "<"), Words(8, ">"), Words(4, "<"))

BYTES_PER_LIST = 1 << 10
"""Bytes of a soup for each of its lists."""

UNLISTED = {"amd64-6.1-modules": {"labunlisted", "labhidden"}}
"""Modules that a guest's scenario took out of the list."""

ELF_MAGIC = b"\x7fELF"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        where: what was searched.
        lists: heads whose first member points back at them.
        wrong: answers that the truth lacks, by recogniser.
        right: answers that the truth has.
    """

    where: str
    lists: int
    wrong: Mapping[str, int]
    right: int = 0

    @property
    def good(self) -> bool:
        """Whether nothing was answered that is not there."""
        return not any(self.wrong.values())

    def __str__(self) -> str:
        counts = " | ".join(f"{self.wrong.get(name, 0):,}" for name in RECOGNISERS)
        return f"| {self.where} | {self.lists:,} | {counts} | {self.right:,} |"


def _answers(kernel: Kernel, memory: VirtualMemory, owners: NDArray[np.uint64]) -> Iterator[tuple[str, bytes]]:
    """Recogniser and a line, as ``/proc/kallsyms`` has it, of all that is found; a module's line is its name."""
    code = GeneratedCode(kernel, memory, owners[:0])
    try:
        for address in listed_structures(kernel, memory).addresses.tolist():
            yield "modules", name_of(memory, address).encode("latin-1")
    except kallsift.KallsiftError:
        pass
    sources: dict[str, Callable[[], Iterator[OwnedLines | str]]] = {
        "traced": lambda: traced_functions(code, owners),
        "trampolines": lambda: trampolines(code),
        "BPF": lambda: bpf_programs(code),
        "kprobes": lambda: kprobe_pages(code),
    }
    for name, source in sources.items():
        for part in source():
            if isinstance(part, OwnedLines):
                for address, letter, symbol in part.lines:
                    digits = b"%0*x" % (2 * memory.words.size, address)
                    yield name, b"%s %s %s\t[%s]" % (digits, letter.encode(), symbol, part.owner.encode())


def _closed(kernel: Kernel, memory: VirtualMemory) -> int:
    return sum(len(heads) for heads, _ in heads_of_image(kernel, memory))


def _truth(taken: Capture) -> set[bytes]:
    lines = {line for line in taken.truth("kallsyms").splitlines() if b"\t[" in line}
    return lines | {line.split()[0] for line in taken.truth("modules").splitlines()}


def _loaded(kernel: Kernel) -> tuple[NDArray[np.uint64], list[str | None]]:
    """Addresses of the modules that are listed, and names of the others; none where no module is loaded."""
    try:
        loaded = inventory(kernel)
    except kallsift.KallsiftError:
        # an empty list is none that its members could prove
        return np.empty(0, np.uint64), []
    addresses = sorted(module.address for module in loaded.listed)
    return np.array(addresses, np.uint64), [module.name for module in loaded.unlisted]


def own_lists(taken: Capture) -> Row:
    """What is found by content alone where a guest's own lists are."""
    with kallsift.open(taken.dump("elf")) as source:
        kernel = with_readers(text_only(kallsift.recover(source)))
        memory = virtual_memory(kernel)
        owners, unlisted = _loaded(kernel)
        found, truth = list(_answers(kernel, memory, owners)), _truth(taken)
        wrong = {name: sum(line not in truth for kind, line in found if kind == name) for name in RECOGNISERS}
        wrong["hidden modules"] = sum(name not in UNLISTED.get(taken.name, ()) for name in unlisted)
        right = sum(line in truth for _, line in found) + len(unlisted) - wrong["hidden modules"]
        return Row(f"{taken.name}, own lists", _closed(kernel, memory), wrong, right)


def lists_in_ram(taken: Capture) -> Row:
    """What is found where all lists of a guest's RAM are asked."""
    with kallsift.open(taken.dump("elf")) as source:
        whole = kallsift.recover(source)
        memory = virtual_memory(whole)
        table = page_table(whole, memory)
        distance = whole.distance if table is None or table.offset is None else table.offset
        owners, _ = _loaded(whole)
        kernel, truth = with_readers(text_only(whole)), _truth(taken)
        lists, right, wrong = 0, 0, dict.fromkeys(RECOGNISERS, 0)
        places = [at for segment in source.segments for at in _windows(segment.start, segment.end)]
        for start in places:
            place = replace(whole.tables[0], physical=PhysicalAddress(start))
            moved = replace(kernel, tables=(place,), distance=distance & memory.words.mask)
            lists += _closed(moved, memory)
            for name, line in _answers(moved, memory, owners):
                right += line in truth
                wrong[name] += line not in truth
        return Row(f"{taken.name}, lists in RAM", lists, wrong, right)


def _windows(start: int, end: int) -> Iterator[int]:
    """Places of tables around which images together are all of a memory."""
    for low in range(start, end, BEFORE + AFTER):
        yield min(low + BEFORE, end - PAGE)


def _noise(_: int) -> NDArray[np.uint8]:
    return np.random.default_rng(10).integers(0, 256, SIZE, np.uint8)


def _files(folder: str) -> Iterator[bytes]:
    for root, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            path = Path(root, name)
            if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
                yield path.read_bytes()


def _code(size: int) -> NDArray[np.uint8]:
    """Executable segments of ELF files (System V gABI, "Program Header"): type 1, flag 1."""
    parts, total = [], 0
    for data in _files("/usr"):
        if data[:6] != ELF_MAGIC + b"\2\1" or total >= size:
            continue
        start, count = int.from_bytes(data[32:40], "little"), int.from_bytes(data[56:58], "little")
        headers = np.frombuffer(data[start : start + 56 * count], "<u8").reshape(-1, 7)
        for kind, offset, _, _, held, _, _ in headers.tolist():
            if kind & 0xFFFF_FFFF == 1 and kind >> 32 & 1:
                parts.append(np.frombuffer(data[offset : offset + held], np.uint8))
                total += len(parts[-1])
    return np.resize(np.concatenate(parts), size)


def _page_cache(size: int) -> NDArray[np.uint8]:
    """Files, each from a page on."""
    parts, total = [], 0
    for data in _files("/usr/lib"):
        parts.append(np.frombuffer(data + bytes(-len(data) % 4096), np.uint8))
        total += len(parts[-1])
        if total >= size:
            break
    return np.resize(np.concatenate(parts), size)


MATERIALS: dict[str, Callable[[int], NDArray[np.uint8]]] = {
    "noise": _noise,
    "x86 code": _code,
    "page cache": _page_cache,
}


def soups() -> Iterator[Row]:
    """What is found in lists that mean nothing."""
    for name, make in MATERIALS.items():
        material = make(SIZE)
        for words in SOUP_WORDS:
            yield _soup(name, material, words)


def _soup(name: str, material: NDArray[np.uint8], words: Words) -> Row:
    data = soup(material, words, len(material) // BYTES_PER_LIST, 11)
    fields = made_modules(2, words).fields
    assert fields.owner is not None
    with_back_pointers(data, words, fields.owner, 12)
    memory = memory_of(data, words)
    places = np.random.default_rng(13).integers(0, len(data) // 16, 8).astype(np.uint64) * np.uint64(16)
    listed = structures_at(memory, np.sort(np.uint64(STARTS[words.size]) + places))
    lists, wrong = 0, dict.fromkeys(RECOGNISERS, 0)
    for start in _windows(0, len(data)):
        kernel = kernel_in(data, words, start)
        place = TableLocation("names", kernel.tables[0].physical, kernel.tables[0].virtual, 0x100)
        kernel = replace(kernel, tables=(place,))
        lists += _closed(kernel, memory)
        for kind, _ in _answers(kernel, memory, listed.addresses):
            wrong[kind] += 1
    for known in (fields, replace(fields, regions=())):
        wrong["hidden modules"] += len(found_elsewhere(kernel, memory, known, listed)[0])
    order = "little" if words.byte_order == "<" else "big"
    return Row(f"{name}, {8 * words.size} bits, {order} endian", lists, wrong)


def write() -> int:
    """Print the table; 1 if anything is answered that is not there."""
    print(HEADING)
    worst = 0
    taken = [Capture(captures_folder() / name) for name in load_guests()]
    for capture in taken:
        if (capture.folder / "manifest.json").exists():
            for measure in (own_lists, lists_in_ram):
                row = measure(capture)
                worst = worst if row.good else 1
                print(row, flush=True)
    for row in soups():
        worst = worst if row.good else 1
        print(row, flush=True)
    return worst
