"""The memory of loaded modules: where their structures tell of its parts, and what these are.

``struct module`` has for each part a pointer to it, aligned to pages, and its size; where they stand changes with
releases (include/linux/module.h). The kernel's types say it. Without them, it is where the parts of all modules never
overlap and one of each module's holds the structure itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kallsift.errors import UnmappedError
from kallsift.kernel.access.btf import Btf
from kallsift.kernel.access.virtual_memory import PAGE, VirtualMemory
from kallsift.modules.struct_module import Structures, numbers_at

LAYOUTS = ("core", "init", "data")
"""What a module's memory is called up to 6.3: ``core_layout`` and ``init_layout``, on some machines ``data_layout``."""

KINDS = ("text", "data", "rodata", "ro_after_init", "init_text", "init_data", "init_rodata")
"""The same since 6.4: ``enum mod_mem_type`` (include/linux/module.h)."""

REGION_NAMES = {2: LAYOUTS[:2], 3: LAYOUTS, 7: KINDS}
"""What the parts of a module's memory are called, by their number."""

REGION_FORMS = {8: ((2, 8), (2, 4), (3, 16), (3, 4)), 4: ((2, 4), (3, 4), (4, 4), (5, 16), (4, 12))}
"""How a part of memory is told of before its node, by the size of a word: words back to its base, bytes to its size."""

KINDS_WITHOUT_NODES = {8: ((16, 8), (16, 12)), 4: ((8, 4), (12, 8))}
"""Since 6.4 where there is no tree, by the size of a word, in bytes: from part to part, and from base to size."""

MOST_BYTES = 1 << 28
"""Bytes of one part of a module's memory at most."""


@dataclass(frozen=True)
class RegionPlace:
    """Where one part of a module's memory is told of, in bytes from the structure's beginning.

    Attributes:
        name: one of `LAYOUTS` or `KINDS`.
        base: of the pointer to it.
        size: of the number of its bytes, 32 bits.
        node: of its node in the tree of modules, which begins with a pointer to the module; None where there is none.
        text_size: of the number of bytes at its beginning that are code, 32 bits; None where it is of one kind.
    """

    name: str
    base: int
    size: int
    node: int | None
    text_size: int | None = None


@dataclass(frozen=True)
class Region:
    """A part of a module's memory.

    Attributes:
        name: what the kernel calls it.
        base: where it begins.
        size: its bytes.
        text_size: bytes at its beginning that are code, where the kernel keeps that beside the size; else 0.
    """

    name: str
    base: int
    size: int
    text_size: int = 0


def read_regions(memory: VirtualMemory, address: int, places: Sequence[RegionPlace]) -> tuple[Region, ...]:
    """All parts of the memory of the module whose structure is at an address, also those of no size.

    Raises:
        UnmappedError: if the structure cannot be read.
    """
    return tuple(
        Region(
            place.name,
            memory.value(address + place.base),
            memory.value(address + place.size, 4),
            0 if place.text_size is None else memory.value(address + place.text_size, 4),
        )
        for place in places
    )


def bounds(memory: VirtualMemory, address: int, places: Sequence[RegionPlace]) -> tuple[range, ...]:
    """The addresses of a module's code and data, which the kernel takes for the ends of the last symbols in each.

    Returns:
        Its code first; none where they cannot be read, or no module is that large.
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


def typed_regions(types: Btf) -> tuple[RegionPlace, ...]:
    """What the kernel's types say: members of one type each, or an array; none if neither is there."""
    module = types.struct("module")
    if module is None:
        return ()
    wholes = [(name, module.members.get(f"{name}_layout")) for name in LAYOUTS]
    parts = [(name, member.offset, types.struct_of(member.type)) for name, member in wholes if member is not None]
    if (array := module.members.get("mem")) is not None and types.length(array.type) == len(KINDS):
        step = types.size(array.type) // len(KINDS)
        inner = types.struct_of(array.type)
        parts = [(name, array.offset + number * step, inner) for number, name in enumerate(KINDS)]
    places = []
    for name, offset, inner in parts:
        if inner is None or "base" not in inner.members or "size" not in inner.members:
            return ()
        at = {member: offset + inner.members[member].offset for member in inner.members}
        places.append(RegionPlace(name, at["base"], at["size"], at.get("mtn"), at.get("text_size")))
    return tuple(places)


def solved_regions(memory: VirtualMemory, structures: Structures, nodes: Sequence[int]) -> tuple[RegionPlace, ...]:
    """What must be true says: parts with nodes in the tree of modules at even distances, else one of the forms without.

    Args:
        memory: the kernel's.
        structures: of the modules.
        nodes: words of the structures that point to their own beginning and may begin nodes.

    Returns:
        The places; none if nothing fits all modules, or several do.
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
        # parts of several kinds have the size of their code behind that of all
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
    """Forms without a tree, wherever the part that has the structures holds those of all modules."""
    bases = structures.words
    behind = memory.words.wrap(structures.addresses[:, None] - bases)
    for column in np.flatnonzero(((bases % PAGE == 0) & (behind < MOST_BYTES)).all(axis=0)).tolist():
        base = column * memory.words.size
        for places in _forms_without_nodes(memory.words.size, base):
            holder = next(place for place in places if place.base == base)
            if (numbers_at(memory, structures, holder.size) > behind[:, column]).all():
                yield places


def _forms_without_nodes(size: int, base: int) -> Iterator[tuple[RegionPlace, ...]]:
    """What can be around the pointer to the part that has the structure, by release."""
    # up to 4.4 both pointers, then both sizes, then those of code, each time the initial one first
    initial = RegionPlace("init", base - size, base + size, None, base + size + 8)
    yield RegionPlace("core", base, base + size + 4, None, base + size + 12), initial
    # up to 6.3 behind the size are those of the code, and of what is read-only before and after loading
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
    """Whether these are whole pages where there are any, never overlap, and one of them holds the structure."""
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
