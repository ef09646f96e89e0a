"""Locate and read the parts of a module's memory: text, data, read-only data and the like.

``struct module`` has for each part a page-aligned pointer to it and its size. The offsets of these fields change
with releases (include/linux/module.h). The kernel's types tell the offsets. Without types, the right offsets are those
where the parts of all modules never overlap and one part of each module holds its structure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kallsift.errors import UnmappedError
from kallsift.kernel.access.virtual_memory import PAGE, VirtualMemory
from kallsift.modules.struct_module import Structures, numbers_at
from kallsift.types.types import Types

LAYOUTS = ("core", "init", "data")
"""Names of the parts up to 6.3: ``core_layout``, ``init_layout`` and, on some machines, ``data_layout``."""

KINDS = ("text", "data", "rodata", "ro_after_init", "init_text", "init_data", "init_rodata")
"""Names of the parts since 6.4: ``enum mod_mem_type`` (include/linux/module.h)."""

REGION_NAMES = {2: LAYOUTS[:2], 3: LAYOUTS, 7: KINDS}
"""Names of the parts of a module's memory, by the number of parts."""

REGION_FORMS = {8: ((2, 8), (2, 4), (3, 16), (3, 4)), 4: ((2, 4), (3, 4), (4, 4), (5, 16), (4, 12))}
"""Fields of a part before its node, by the size of a word.

Each pair has the words back to the base and the bytes back to the size.
"""

KINDS_WITHOUT_NODES = {8: ((16, 8), (16, 12)), 4: ((8, 4), (12, 8))}
"""Fields of a part since 6.4 where there is no tree, by the size of a word.

Each pair has the bytes from part to part and the bytes from base to size.
"""

MOST_BYTES = 1 << 28
"""Highest size of one part of a module's memory in bytes."""


@dataclass(frozen=True)
class RegionPlace:
    """Fields that describe one part of a module's memory.

    All offsets are in bytes from the beginning of ``struct module``.

    Attributes:
        name: one of `LAYOUTS` or `KINDS`.
        base: offset of the pointer to the part.
        size: offset of its size in bytes, 32 bits.
        node: offset of its node in the tree of modules, which begins with a pointer to the module; None if there is
            none.
        text_size: offset of the number of bytes of code at its beginning, 32 bits; None if the part has one kind of
            memory.
    """

    name: str
    base: int
    size: int
    node: int | None
    text_size: int | None = None


@dataclass(frozen=True, repr=False)
class ModuleRegion:
    """One part of a module's memory.

    Attributes:
        name: the kernel's name of the part.
        base: address of its first byte.
        size: its size in bytes.
        text_size: bytes of code at its beginning, where the kernel keeps that number beside the size; else 0.
    """

    name: str
    base: int
    size: int
    text_size: int = 0

    def __repr__(self) -> str:
        return f"<Region {self.name}: {self.size:,} bytes at {self.base:#x}>"


def read_regions(memory: VirtualMemory, address: int, places: Sequence[RegionPlace]) -> tuple[ModuleRegion, ...]:
    """Return all parts of the memory of one module, also those of size 0.

    Raises:
        UnmappedError: if the structure cannot be read.
    """
    return tuple(
        ModuleRegion(
            place.name,
            memory.value(address + place.base),
            memory.value(address + place.size, 4),
            0 if place.text_size is None else memory.value(address + place.text_size, 4),
        )
        for place in places
    )


def bounds(memory: VirtualMemory, address: int, places: Sequence[RegionPlace]) -> tuple[range, ...]:
    """Return the address ranges of a module's code and of its data.

    The kernel takes their ends for the ends of the last symbols in each.

    Returns:
        The ranges, code first; none if they cannot be read, or a size exceeds that of any module.
    """
    try:
        regions = read_regions(memory, address, places)
    except UnmappedError:
        return ()
    if any(max(region.size, region.text_size) > MOST_BYTES for region in regions):
        return ()
    code = [range(region.base, region.base + region.text_size) for region in regions]
    rest = [range(region.base + region.text_size, region.base + region.size) for region in regions]
    return tuple(part for part in (*code, *rest) if part)


def typed_regions(types: Types) -> tuple[RegionPlace, ...]:
    """Return the fields that the kernel's types describe.

    They are members of one type each, or an array; the result is empty if the types have neither.
    """
    module = types.get("struct module")
    if module is None:
        return ()
    wholes = [(name, module.get(f"{name}_layout")) for name in LAYOUTS]
    parts = [(name, member.offset, member.type) for name, member in wholes if member is not None]
    if (array := module.get("mem")) is not None and array.type.length == len(KINDS):
        inner = array.type.resolved.target
        parts = [(name, array.offset + number * inner.size, inner) for number, name in enumerate(KINDS)]
    places = []
    for name, offset, inner in parts:
        base, size, node, text_size = (inner.get(member) for member in ("base", "size", "mtn", "text_size"))
        if base is None or size is None:
            return ()
        places.append(
            RegionPlace(
                name,
                offset + base.offset,
                offset + size.offset,
                None if node is None else offset + node.offset,
                None if text_size is None else offset + text_size.offset,
            )
        )
    return tuple(places)


def solved_regions(memory: VirtualMemory, structures: Structures, nodes: Sequence[int]) -> tuple[RegionPlace, ...]:
    """Return the fields that fit the memory of all modules.

    Parts with nodes in the tree of modules, at even distances, are tried first, then the forms without nodes.

    Args:
        memory: the kernel's memory.
        structures: the modules' structures.
        nodes: columns of the words that point to the structure itself and may begin nodes.

    Returns:
        The fields; none if no form fits all modules, or several do.
    """
    for forms in (_with_nodes(memory.words.size, nodes), _without_nodes(memory, structures)):
        fitting = [places for places in forms if _are_regions(memory, structures, places)]
        if fitting:
            return fitting[0] if len(fitting) == 1 else ()
    return ()


def _with_nodes(size: int, nodes: Sequence[int]) -> Iterator[tuple[RegionPlace, ...]]:
    names = REGION_NAMES.get(len(nodes))
    if names is None or len(set(np.diff(nodes).tolist())) != 1:
        return
    for back, size_back in REGION_FORMS[size]:
        # a part with code and data has the size of its code behind its whole size
        text_back = size_back - 4 if names is not KINDS and size_back > 4 else None
        yield tuple(
            RegionPlace(
                name,
                (node - back) * size,
                node * size - size_back,
                node * size,
                None if text_back is None else node * size - text_back,
            )
            for name, node in zip(names, nodes, strict=True)
        )


def _without_nodes(memory: VirtualMemory, structures: Structures) -> Iterator[tuple[RegionPlace, ...]]:
    """Yield the forms without a tree, for each possible pointer to a part.

    That part must contain the structure of every module.
    """
    bases = structures.words
    behind = memory.words.wrap(structures.addresses[:, None] - bases)
    for column in np.flatnonzero(((bases % PAGE == 0) & (behind < MOST_BYTES)).all(axis=0)).tolist():
        base = column * memory.words.size
        for places in _forms_without_nodes(memory.words.size, base):
            holder = next(place for place in places if place.base == base)
            if (numbers_at(memory, structures, holder.size) > behind[:, column]).all():
                yield places


def _forms_without_nodes(size: int, base: int) -> Iterator[tuple[RegionPlace, ...]]:
    """Yield the fields around the pointer to the part with the structure, by release."""
    # up to 4.4: both pointers, both sizes, both sizes of code; the init part's comes first each time
    initial = RegionPlace("init", base - size, base + size, None, base + size + 8)
    yield RegionPlace("core", base, base + size + 4, None, base + size + 12), initial
    # up to 6.3: behind the size are those of the code, of read-only data, and of data that is read-only after init
    yield tuple(
        RegionPlace(name, start, start + size, None, start + size + 4)
        for name, start in zip(LAYOUTS[:2], (base, base + size + 16), strict=True)
    )
    for stride, behind in KINDS_WITHOUT_NODES[size]:
        first = base - KINDS.index("data") * stride
        yield tuple(
            RegionPlace(name, first + number * stride, first + number * stride + behind, None)
            for number, name in enumerate(KINDS)
        )


def _are_regions(memory: VirtualMemory, structures: Structures, places: tuple[RegionPlace, ...]) -> bool:
    """Tell whether these fields describe possible parts of all modules.

    Parts that exist begin at a page, no two overlap, and one part of each module holds its structure.
    """
    if not all(0 <= place.base < structures.words.shape[1] * memory.words.size for place in places):
        return False
    bases = np.stack([structures.words[:, place.base // memory.words.size] for place in places], axis=1)
    sizes = np.stack([numbers_at(memory, structures, place.size) for place in places], axis=1)
    if ((bases == 0) != (sizes == 0)).any() or (bases % PAGE != 0).any() or (sizes > MOST_BYTES).any():
        return False
    if any(
        (numbers_at(memory, structures, place.text_size) > own).any()
        for place, own in zip(places, sizes.T, strict=True)
        if place.text_size is not None
    ):
        return False
    holds = memory.words.wrap(structures.addresses[:, None] - bases) < sizes
    order = np.argsort(bases[sizes > 0])
    ends = (bases + sizes)[sizes > 0][order]
    return bool(holds.any(axis=1).all() and (bases[sizes > 0][order][1:] >= ends[:-1]).all())
