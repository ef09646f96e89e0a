"""VMCOREINFO: what a kernel writes about itself for crash tools, as ``KEY=VALUE`` lines.

In a note of the container, or in memory at a page's start (kernel/vmcore_info.c; a page of its own since 4.13).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from kallsift.memory.model import Memory

START = b"OSRELEASE="
MAX_SIZE = 1 << 16
PAGE = 4096
MAX_FOUND = 64


@dataclass(frozen=True)
class Vmcoreinfo:
    """One VMCOREINFO text.

    Attributes:
        origin: ``"note"``, or the physical address it was found at.
        values: the lines' values by key; the first of each key counts.
    """

    origin: str
    values: Mapping[str, str]

    def symbol(self, name: str) -> int | None:
        """The address that ``SYMBOL(name)`` gives, None if it is absent or malformed."""
        return _number(self.values.get(f"SYMBOL({name})"), 16)

    @property
    def kernel_offset(self) -> int | None:
        """KERNELOFFSET: the KASLR slide."""
        return _number(self.values.get("KERNELOFFSET"), 16)


def _number(text: str | None, base: int) -> int | None:
    try:
        return int(text or "", base)
    except ValueError:
        return None


def parse(text: bytes, origin: str) -> Vmcoreinfo | None:
    """Reads a text; None if it does not begin as each VMCOREINFO does or has no page size near its start."""
    text = text[:MAX_SIZE].split(b"\0", 1)[0]
    if not text.startswith(START) or b"\nPAGESIZE=" not in text[:512]:
        return None
    values: dict[str, str] = {}
    for line in text.decode("latin-1").split("\n"):
        key, equals, value = line.partition("=")
        if equals:
            values.setdefault(key, value)
    return Vmcoreinfo(origin, values)


def all_vmcoreinfo(memory: Memory) -> Iterator[Vmcoreinfo]:
    """The note's text first, then those that stand at the start of a page; at most `MAX_FOUND`."""
    if memory.hints.vmcoreinfo is not None and (info := parse(memory.hints.vmcoreinfo, "note")):
        yield info
    found = 0
    for segment in memory.segments:
        skipped = -segment.start % PAGE
        whole = (len(segment.data) - skipped) // PAGE * PAGE
        if whole <= 0:
            continue
        pages = segment.data[skipped : skipped + whole].reshape(-1, PAGE)
        # the first eight bytes of each page, as one number
        first = np.ascontiguousarray(pages[:, :8]).view("<u8")[:, 0]
        for page in np.flatnonzero(first == np.uint64(int.from_bytes(START[:8], "little"))):
            address = segment.start + skipped + int(page) * PAGE
            if found < MAX_FOUND and (
                info := parse(memory.window(address, 0, MAX_SIZE).data.tobytes(), f"{address:#x}")
            ):
                found += 1
                yield info
