"""Read VMware's saved state: a .vmss (suspended) or .vmsn (snapshot) file, and the .vmem file beside it or in it.

Format: VMware's own reader, vmware_vmss.c and vmware_vmss.h of crash (groups, tags, regions, names of registers);
Volatility's layers/vmware.py agrees. All words are little-endian. The RAM is one run of bytes. The regions in the group
"memory" give the addresses of its parts; a state without regions has all of it at address 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import SourceError
from kallsift.memory.claimed import Claimed
from kallsift.memory.memory import AddressSpace, CpuState, Hints, Memory, cut_short
from kallsift.memory.remarks import reason
from kallsift.memory.segments import BytesSegment, sorted_segments

OLD_MAGIC = 0xBED0BED0
"""Magic of a state whose blocks have sizes of 32 bits."""
MAGICS = (OLD_MAGIC, 0xBED2BED2, 0xBED3BED3, 0xBAD1BAD1, 0xBAD2BAD2)
"""CPTDUMP_*_MAGIC_NUMBER: plain, partial, restored, not to be restored."""

HEADER = np.dtype([("magic", "<u4"), ("version", "<u4"), ("groups", "<u4")])
GROUP = np.dtype([("name", "S64"), ("position", "<u8"), ("size", "<u8")])

GROUP_LIMIT = 1 << 12
TAG_LIMIT = 1 << 18
"""Highest number of tags of one group: a processor has hundreds."""
REGION_LIMIT = 64
PROCESSOR_LIMIT = 1 << 10

BLOCK, PACKED_BLOCK = 63, 62
"""Sizes of a tag's value that mean that a block follows, with its own size before it."""

PAGE = 4096

STATES = (".vmss", ".vmsn")
RAM = ".vmem"
"""Endings of the names of files that belong together."""


class _Tag(NamedTuple):
    """One value: its name, indexes, file offset, size, and whether it is a packed block."""

    name: str
    indexes: tuple[int, ...]
    offset: int
    size: int
    packed: bool


def probe(header: bytes) -> bool:
    """Tell whether a file that begins with ``header`` is a saved state."""
    return int.from_bytes(header[:4], "little") in MAGICS


def open(name: str, view: NDArray[np.uint8], release: Callable[[], None]) -> Memory:
    """Open the RAM inside of a saved state.

    Args:
        name: name of the source in messages.
        view: the whole file, shape (size,), uint8.
        release: function that releases the file.

    Raises:
        SourceError: if the state is broken, or if its RAM is in a separate file.
    """
    return _opened(name, view, None, release)


def open_pair(name: str, state: NDArray[np.uint8], ram: NDArray[np.uint8], release: Callable[[], None]) -> Memory:
    """Open the RAM of a .vmem file at the addresses in the state beside it.

    Raises:
        SourceError: if the state is broken.
    """
    return _opened(name, state, ram, release)


def companion(path: Path, header: bytes) -> Path | None:
    """Return a state's .vmem file, or a .vmem file's state; None if there is none."""
    ending = path.suffix.lower()
    wanted = STATES if ending == RAM else (RAM,) if ending in STATES and probe(header) else ()
    return next((other for each in wanted if (other := path.with_suffix(each)).is_file()), None)


def _opened(name: str, state: NDArray[np.uint8], ram: NDArray[np.uint8] | None, release: Callable[[], None]) -> Memory:
    groups = _groups(name, state)
    old = int.from_bytes(state[:4].tobytes(), "little") == OLD_MAGIC
    regions: dict[tuple[str, int], int] = {}
    count = 0
    for tag in _tags(name, state, groups.get("memory", len(state)), old):
        if tag.name == "Memory" and tag.size > 8:
            if tag.packed:
                raise SourceError(f"{name}: its RAM is compressed; take a snapshot, which has the RAM in a .vmem file")
            # RAM in the state itself is from the same moment.
            ram = state[tag.offset : tag.offset + tag.size]
        elif tag.name == "regionsCount":
            count = _number(state, tag)
        elif tag.name in ("regionPageNum", "regionPPN", "regionSize") and len(tag.indexes) == 1:
            regions[tag.name, tag.indexes[0]] = _number(state, tag)
            if len(regions) > 3 * REGION_LIMIT:
                break
    if ram is None:
        raise SourceError(f"{name}: its RAM is in a {RAM} file of the same name; put that into the same folder")
    if count > REGION_LIMIT:
        raise SourceError(
            f"{name}: the VMware state claims {count} regions of memory, more than any machine has; it is "
            "damaged, copy it again"
        )
    segments, notes = _segments(name, ram, count, regions)
    return Memory(
        source=name,
        container="VMware saved state",
        space=AddressSpace.PHYSICAL,
        segments=segments,
        hints=Hints(cpus=_processors(name, state, groups, old)),
        release=release,
        notes=tuple(notes),
    )


def _segments(
    name: str, ram: NDArray[np.uint8], count: int, regions: dict[tuple[str, int], int]
) -> tuple[tuple[BytesSegment, ...], list[str]]:
    numbers = sorted({*range(count), *(number for _, number in regions)})
    segments = [] if numbers else [BytesSegment(0, ram)]
    notes = []
    claimed = Claimed()
    for number in numbers:
        offset, address, size = (
            PAGE * regions.get((field, number), 0) for field in ("regionPageNum", "regionPPN", "regionSize")
        )
        data = ram[offset : offset + size]
        if any((field, number) not in regions for field in ("regionPageNum", "regionPPN", "regionSize")):
            notes.append(f"the address of memory region {number} is missing: it is left out")
        elif address + len(data) > 1 << 64:
            notes.append(f"memory region {number} has the invalid address {address:#x}: it is left out")
        elif len(data) and not claimed.claim_whole(address, address + len(data)):
            notes.append(f"region {address:#x}-{address + size - 1:#x} overlaps earlier regions: it is left out")
        else:
            segments.append(BytesSegment(address, data))
            if len(data) < size:
                notes.append(cut_short(f"region {address:#x}-{address + size - 1:#x}", len(data), size))
    kept = sorted_segments(segments)
    if not kept:
        raise SourceError(f"{name}: the RAM file ends before its first region{reason(notes)}; copy it again")
    return kept, notes


def _groups(name: str, state: NDArray[np.uint8]) -> dict[str, int]:
    """Return the offset of each group's tags."""
    if len(state) < HEADER.itemsize:
        raise SourceError(f"{name}: the VMware state ends inside its header; copy it again")
    count = int(state[: HEADER.itemsize].view(HEADER)[0]["groups"])
    end = HEADER.itemsize + count * GROUP.itemsize
    if count > GROUP_LIMIT or end > len(state):
        raise SourceError(
            f"{name}: the VMware state claims {count} groups, more than it can hold; it is damaged or cut "
            "short, copy it again"
        )
    groups = state[HEADER.itemsize : end].view(GROUP)
    return {bytes(group["name"]).decode("latin-1"): int(group["position"]) for group in groups}


def _tags(name: str, state: NDArray[np.uint8], position: int, old: bool) -> Iterator[_Tag]:
    """Yield the tags from ``position`` on, as far as they can be read."""
    width = 4 if old else 8
    for _ in range(TAG_LIMIT):
        flags, length = state[position : position + 2].tobytes().ljust(2, b"\0")
        if not flags and not length:
            return
        text = state[position + 2 : position + 2 + length].tobytes().decode("latin-1")
        position += 2 + length
        words = state[position : position + 4 * (flags >> 6)].tobytes()
        indexes = tuple(int.from_bytes(words[place : place + 4], "little") for place in range(0, len(words), 4))
        position += 4 * (flags >> 6)
        size = flags & 0x3F
        if size in (BLOCK, PACKED_BLOCK):
            fields = state[position : position + 2 * width + 2].tobytes()
            position += 2 * width + 2 + int.from_bytes(fields[2 * width :], "little")
            length = int.from_bytes(fields[:width], "little")
            yield _Tag(text, indexes, position, length, size == PACKED_BLOCK)
            size = length
        else:
            yield _Tag(text, indexes, position, size, False)
        position += size
        if position >= len(state):
            return
    raise SourceError(
        f"{name}: a group of the VMware state has more than {TAG_LIMIT} values; it is damaged, copy it again"
    )


def _number(state: NDArray[np.uint8], tag: _Tag, start: int = 0, width: int = 8) -> int:
    first = tag.offset + start
    return int.from_bytes(state[first : first + min(width, tag.size - start)].tobytes(), "little")


def _processors(name: str, state: NDArray[np.uint8], groups: dict[str, int], old: bool) -> tuple[CpuState, ...]:
    """Return the processors' registers.

    Each register is a separate value, or all of one kind are in one block.
    """
    found: dict[int, dict[str, int]] = {}
    for tag in _tags(name, state, groups.get("cpu", len(state)), old):
        if not tag.indexes or tag.indexes[0] >= PROCESSOR_LIMIT or tag.packed:
            continue
        number, inner = tag.indexes[0], tag.indexes[1:]
        registers = found.setdefault(number, {})
        if tag.name == "CR64" or (tag.name == "CR" and "cr3" not in registers):
            if not inner and tag.size >= 5 * 8:
                registers |= {f"cr{each}": _number(state, tag, 8 * each) for each in (0, 3, 4)}
            elif len(inner) == 1 and inner[0] in (0, 3, 4):
                registers[f"cr{inner[0]}"] = _number(state, tag)
        elif tag.name == "IDTR":
            if not inner and tag.size == 10:
                registers["idt_base"] = _number(state, tag, 2)
            elif inner in ((1,), (2,)):
                # the lower half of the base has index 1, the upper one index 2
                registers["idt_base"] = registers.get("idt_base", 0) | _number(state, tag, 0, 4) << 32 * (inner[0] - 1)
        elif tag.name.lower() in ("rip", "lstar") and not inner:
            registers[tag.name.lower()] = _number(state, tag)
    return tuple(CpuState(number, found[number]) for number in sorted(found) if found[number])
