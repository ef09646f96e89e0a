"""Read VMCOREINFO, the text that a kernel writes about itself for crash tools, and check a kernel against it.

The text has ``KEY=VALUE`` lines. It is in a note of the container, or in memory at the start of a page
(kernel/vmcore_info.c; a page of its own since 4.13).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from kallsift.arch.paging import translate
from kallsift.errors import UnmappedError
from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kallsyms.recovered_tables import Tables
from kallsift.kernel.placement.placement import Placement
from kallsift.memory.memory import Memory

START = b"OSRELEASE="
MAX_SIZE = 1 << 16
PAGE = 4096
MAX_FOUND = 64

BATCH = 16 << 20
"""Bytes of memory that are searched at once."""


@dataclass(frozen=True)
class Vmcoreinfo:
    """One VMCOREINFO text.

    Attributes:
        origin: ``"note"``, or the physical address at which it was found.
        values: the lines' values by key; the first of each key counts.
    """

    origin: str
    values: Mapping[str, str]

    def symbol(self, name: str) -> int | None:
        """Return the address that ``SYMBOL(name)`` gives; None if absent or malformed."""
        return _address(self.values.get(f"SYMBOL({name})"))

    @property
    def kernel_offset(self) -> int | None:
        """KERNELOFFSET: the KASLR slide."""
        return _address(self.values.get("KERNELOFFSET"))


def _address(text: str | None) -> int | None:
    return int(text, 16) if text and re.fullmatch("[0-9a-fA-F]{1,16}", text) else None


def parse(text: bytes, origin: str) -> Vmcoreinfo | None:
    """Read a text; None if it is no VMCOREINFO.

    It must begin as each VMCOREINFO does and have a page size near its start.
    """
    text = text[:MAX_SIZE].split(b"\0", 1)[0]
    if not text.startswith(START) or b"\nPAGESIZE=" not in text[:512]:
        return None
    return Vmcoreinfo(origin, _values(text))


def _values(text: bytes) -> dict[str, str]:
    """Return the first value of each key, up to a NUL."""
    values: dict[str, str] = {}
    for line in text[:MAX_SIZE].split(b"\0", 1)[0].decode("latin-1").replace("\r\n", "\n").split("\n"):
        key, equals, value = line.partition("=")
        if equals:
            values.setdefault(key.strip(), value)
    return values


def vmcoreinfo_check(memory: Memory, tables: Tables, placement: Placement) -> tuple[Vmcoreinfo | None, Check]:
    """Return the VMCOREINFO of this kernel, if there is one, and the check of it."""
    symbols = placement.symbols
    own_places = {f"kallsyms_{name}": place for name, place, _ in tables.places}

    def agrees(name: str, address: int) -> bool | None:
        """Tell whether a symbol has this address; None if the table has no such symbol.

        Some keys give the pointer that the symbol holds instead (mem_section).
        """
        if name in own_places:
            return placement.physical(address) == own_places[name]
        own = [symbol.address for symbol in symbols.all(name)]
        if not own:
            return None
        held = np.array([placement.physical(at) for at in own], np.uint64)
        return address in own or address in memory.words(held, placement.words.dtype)[0].tolist()

    others = 0
    for info in _vmcoreinfos(memory, placement):
        names = [key[len("SYMBOL(") : -1] for key in info.values if key.startswith("SYMBOL(")]
        verdicts = [agrees(name, info.symbol(name) or 0) for name in names]
        right, wrong = verdicts.count(True), verdicts.count(False)
        if right and not wrong:
            place = "the note" if info.origin == "note" else f"the text at {info.origin}"
            return info, Check.that(
                CheckId.VMCOREINFO, True, f"{place} gives the same address for all {right} symbols in common"
            )
        if info.origin == "note" and not right + wrong:
            return None, Check(CheckId.VMCOREINFO, Outcome.ABSENT, "the note names none of the symbols of this kernel")
        if info.origin == "note":
            return None, Check.that(
                CheckId.VMCOREINFO, False, f"the note gives different addresses for {wrong} of {right + wrong} symbols"
            )
        others += 1
    if others:
        return None, Check.that(
            CheckId.VMCOREINFO,
            False,
            f"{others} texts were found in memory, but none describes this kernel",
            essential=False,
        )
    return None, Check(CheckId.VMCOREINFO, Outcome.ABSENT, "none was found")


def _vmcoreinfos(memory: Memory, placement: Placement) -> Iterator[Vmcoreinfo]:
    """Yield the VMCOREINFO texts that can be this kernel's.

    The note's text comes first. Then comes the one that the kernel points at, or, where no symbol names it, all in
    memory.
    """
    if note := noted(memory):
        yield note
    pointer = placement.symbols.find("vmcoreinfo_data")
    if pointer is None:
        yield from scattered(memory)
    elif info := _pointed(memory, placement, placement.symbols.symbol(pointer).address):
        yield info


def noted(memory: Memory) -> Vmcoreinfo | None:
    """Return the text in the container's note, or None."""
    return None if memory.hints.vmcoreinfo is None else Vmcoreinfo("note", _values(memory.hints.vmcoreinfo))


def _pointed(memory: Memory, placement: Placement, pointer: int) -> Vmcoreinfo | None:
    """Return the text that the variable ``vmcoreinfo_data`` points at, or None.

    ``pointer`` is the virtual address of the variable.
    """
    if placement.mapping is None:
        return None
    place = np.array([placement.physical(pointer)], np.uint64)
    virtual, held = memory.words(place, placement.words.dtype)
    physical, mapped = translate(memory, placement.mapping, placement.root, virtual)
    return _at(memory, int(physical[0])) if held[0] and mapped[0] else None


def scattered(memory: Memory) -> Iterator[Vmcoreinfo]:
    """Yield the texts at the start of a page anywhere in memory; at most `MAX_FOUND`."""
    wanted = np.uint64(int.from_bytes(START[:8], "little"))
    found = 0
    for segment in memory.segments:
        for offset in segment.steps(BATCH, -segment.start % PAGE):
            batch = segment.read(offset, offset + BATCH)
            pages = batch[: len(batch) // PAGE * PAGE].reshape(-1, PAGE)
            # the first eight bytes of each page, as one number
            first = np.ascontiguousarray(pages[:, :8]).view("<u8")[:, 0]
            for page in np.flatnonzero(first == wanted):
                if found < MAX_FOUND and (info := _at(memory, segment.start + offset + int(page) * PAGE)):
                    found += 1
                    yield info


def _at(memory: Memory, address: int) -> Vmcoreinfo | None:
    try:
        return parse(memory.window(address, 0, MAX_SIZE).data.tobytes(), f"{address:#x}")
    except UnmappedError:
        return None
