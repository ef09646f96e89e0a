"""Modules in a made-up kernel's memory: their structures in any order, for any size of word and byte order."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.placement.pointers import Words
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment
from kallsift.modules.field_offsets import ModuleLayout
from kallsift.modules.memory_regions import KINDS, REGION_NAMES, RegionPlace
from kallsift.modules.struct_module import Structures, structures_at

BASE = 0xC000_0000
SIZE = 1 << 24
STRIDE = 1 << 21
"""Bytes from one module's memory to the next one's."""

STRUCTURE = 0x3000
"""Where in its memory a module's structure begins."""

LITTLE = Words(8, "<")

INITIAL = 1 << 16
"""Where behind a module's memory its initial code was."""

SECTIONS = (".text", ".init.text", ".gnu.linkonce.this_module", ".note.gnu.build-id")
BUILD_ID = bytes(range(20))


@dataclass
class Arena:
    """Memory that things are put into.

    Attributes:
        words: size and order of a word.
        data: the bytes.
        top: offset of what is free.
    """

    words: Words
    data: np.ndarray[tuple[int], np.dtype[np.uint8]] = field(default_factory=lambda: np.zeros(SIZE, np.uint8))
    top: int = SIZE - (1 << 18)

    def take(self, size: int) -> int:
        """The address of some bytes that nothing uses."""
        self.top += size + -size % 16
        return BASE + self.top - size - -size % 16

    def put(self, address: int, *values: int, width: int | None = None) -> None:
        """Writes numbers, words unless a width is given."""
        order: Literal["little", "big"] = "little" if self.words.byte_order == "<" else "big"
        width = width or self.words.size
        for number, value in enumerate(values):
            place = address - BASE + number * width
            self.data[place : place + width] = np.frombuffer(value.to_bytes(width, order), np.uint8)

    def text(self, text: str | bytes) -> int:
        """The address of a string."""
        raw = (text.encode() if isinstance(text, str) else text) + b"\0"
        address = self.take(len(raw))
        self.data[address - BASE : address - BASE + len(raw)] = np.frombuffer(raw, np.uint8)
        return address

    def link(self, head: int, nodes: list[int]) -> None:
        """Makes a circular list."""
        ring = [head, *nodes]
        for place, after, before in zip(ring, ring[1:] + ring[:1], ring[-1:] + ring[:-1], strict=True):
            self.put(place, after, before)

    @property
    def memory(self) -> VirtualMemory:
        """What a kernel sees."""
        held = Memory("made", "raw", AddressSpace.VIRTUAL, (BytesSegment(BASE, self.data),))
        return VirtualMemory(held, None, None, self.words)


@dataclass(frozen=True)
class Made:
    """A kernel's modules.

    Attributes:
        arena: its memory.
        fields: where everything is.
        addresses: of the structures.
        names: of the modules.
    """

    arena: Arena
    fields: ModuleLayout
    addresses: list[int]
    names: list[str]

    @property
    def structures(self) -> Structures:
        """As the list of modules would lead to them."""
        return structures_at(self.arena.memory, np.array(self.addresses, np.uint64))


def _places(random: np.random.Generator, size: int, parts: int, form: tuple[int, int]) -> ModuleLayout:
    """Fields in a random order with random gaps; neighbours stay together."""
    back, size_back = form
    groups: dict[str, tuple[int, dict[str, int]]] = {
        "object": (10, {"kobject": 0, "owner": 9}),
        "versions": (2, {"version": 0, "srcversion": 1}),
        "parameters": (2, {"parameters": 0, "parameter_count": 1}),
        "memory": (1 + parts * 12, {"init": 0}),
        "bugs": (5, {"taints": 0, "bug_list": 2}),
        "attributes": (3, {"sections": 0, "arguments": 2}),
        "uses": (6, {"users": 0, "uses": 2, "exit": 4, "refcount": 5}),
    }
    place = 20
    found: dict[str, Any] = {}
    regions: tuple[RegionPlace, ...] = ()
    for name in random.permutation(sorted(groups)).tolist():
        place += int(random.integers(0, 6))
        length, inner = groups[name]
        found |= {key: (place + offset) * size for key, offset in inner.items()}
        if name == "memory":
            nodes = [place + 1 + number * 12 + back for number in range(parts)]
            names = REGION_NAMES[parts]
            text = 4 - size_back if names is not KINDS and size_back > 4 else None
            regions = tuple(
                RegionPlace(
                    part,
                    (node - back) * size,
                    node * size - size_back,
                    node * size,
                    None if text is None else node * size + text,
                )
                for part, node in zip(names, nodes, strict=True)
            )
        place += length
    return ModuleLayout(regions, **found)


def made_modules(
    seed: int, words: Words = LITTLE, count: int = 5, parts: int = 7, form: tuple[int, int] = (2, 8)
) -> Made:
    """Some modules, of which each but the first uses the one before it."""
    random, arena, size = np.random.default_rng(seed), Arena(words), words.size
    fields = _places(random, size, parts, form)
    addresses = [BASE + number * STRIDE + STRUCTURE for number in range(count)]
    names = [f"module_{chr(ord('a') + number)}" for number in range(count)]
    kset, ktype, group_name = arena.take(8 * size), arena.take(size), arena.text("sections")
    at = {key: value for key, value in vars(fields).items() if isinstance(value, int)}
    for number, (address, name) in enumerate(zip(addresses, names, strict=True)):
        start = address - STRUCTURE
        arena.put(address, 0, width=4)
        raw = np.frombuffer(name.encode(), np.uint8)
        arena.data[address + 3 * size - BASE :][: len(raw)] = raw
        arena.put(address + at["kobject"], arena.text(name))
        arena.put(address + at["kobject"] + 3 * size, kset, kset, ktype)
        arena.put(address + at["owner"], address)
        if number % 2:
            texts = (f"1.{number}", f"{number:023X}")
            arena.put(address + at["version"], *(arena.text(text) for text in texts))
            parameters = arena.take(10 * size)
            for index in range(2):
                arena.put(parameters + 5 * index * size, arena.text(f"p{index}"), address, kset)
            arena.put(address + at["parameters"], parameters)
            arena.put(address + at["parameter_count"], 2, width=4)
            arena.put(address + at["taints"], 1 << 12)
        arena.put(address + at["taints"] + size, number, width=4)
        arena.put(address + at["bug_list"] + 2 * size, start + 0x800 if number else 0)
        arena.put(address + at["init"], start + INITIAL + 0x10 if number != 2 else 0)
        arena.put(address + at["exit"], start + 0x40 if number != 3 else 0)
        arena.put(address + at["refcount"], 1 + (number < count - 1), width=4)
        note = start + 0x900
        arena.put(note, 4, len(BUILD_ID), 3, width=4)
        arena.data[note + 12 - BASE :][:24] = np.frombuffer(b"GNU\0" + BUILD_ID, np.uint8)
        group, array = arena.take(8 * size), arena.take((len(SECTIONS) + 1) * size)
        arena.put(group, group_name, 0, 0, 0, array)
        for index, section in enumerate(SECTIONS):
            attribute = arena.take(10 * size)
            place = (start, start + INITIAL, address, note)[index]
            arena.put(attribute, arena.text(section), 0, 0, place)
            arena.put(array + index * size, attribute)
        arena.put(address + at["sections"], group)
        arena.put(address + at["arguments"], arena.text("" if number else "debug=1"))
        for part, region in enumerate(fields.regions):
            node = address + (region.node or 0)
            arena.put(node, address)
            if part < 2:
                arena.put(address + region.base, start + part * 0x2000)
                arena.put(address + region.size, 0x2000, width=4)
        for key in ("users", "uses"):
            arena.link(address + at[key], [])
    for user, used in zip(addresses[1:], addresses, strict=False):
        record = arena.take(6 * size)
        arena.link(used + at["users"], [record])
        arena.link(user + at["uses"], [record + 2 * size])
        arena.put(record + 4 * size, user, used)
    objects = [address + at["kobject"] + size for address in addresses]
    arena.link(kset, objects)
    arena.link(arena.take(2 * size), [address + at["bug_list"] for address in addresses])
    arena.link(arena.take(2 * size), [address + size for address in addresses])
    _plant(arena, fields, addresses)
    return Made(arena, fields, addresses, names)


def _plant(arena: Arena, fields: ModuleLayout, addresses: list[int]) -> None:
    """Makes two trees, each a chain of its nodes."""
    size = arena.words.size
    for tree in range(2):
        nodes = [
            address + (region.node or 0) + (1 + 3 * tree) * size
            for address in addresses
            for region in fields.regions[:2]
        ]
        for number, node in enumerate(nodes):
            parent = nodes[number - 1] | 1 if number else 0
            arena.put(node, parent, nodes[number + 1] if number + 1 < len(nodes) else 0, 0)


def without(made: Made, number: int) -> Made:
    """The same modules, of which the list lacks one."""
    kept = [one for one in range(len(made.addresses)) if one != number]
    return replace(made, addresses=[made.addresses[one] for one in kept], names=[made.names[one] for one in kept])
