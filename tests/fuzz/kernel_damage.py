"""Accidents in a kernel's memory: words with hostile values, links that run in circles, pages of zeros or noise."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kallsift.kernel.access.virtual_memory import PAGE, VirtualMemory

from .kernel_targets import Target
from .trials import HOSTILE

UNMAPPED = (0xDEAD000000000100, 0xFFFFDEAD00001000, 0xFFFFFFFFFFFFFFF0, 0xFFFFFFFFFFFFF000, 0x7FFFFFFFF000)
"""Addresses with nothing behind them, at the end of the address space among them."""

BURST = 24
"""Words that are overwritten in a row at most."""


@dataclass(eq=False)
class Damage:
    """What one case does to a memory.

    Attributes:
        chance: where everything comes from.
        data: physical memory from address 0 on, copied on write.
        memory: the same before anything happened, as the kernel sees it.
        targets: what can be hit, by kind.
        done: what was done, one line each.
        owners: addresses of the modules that are damaged, None among them where more than single modules is.
    """

    chance: random.Random
    data: NDArray[np.uint8]
    memory: VirtualMemory
    targets: dict[str, list[Target]]
    done: list[str] = field(default_factory=list)
    owners: set[int | None] = field(default_factory=set)

    def happen(self) -> None:
        """Some accidents, most often few, and most often of one kind."""
        chance = self.chance
        kinds = chance.sample(sorted(self.targets), min(len(self.targets), chance.choice((1, 1, 1, 2, 4))))
        for _ in range(chance.choice((1, 1, 1, 2, 2, 8, 100))):
            target = chance.choice(self.targets[chance.choice(kinds)])
            self.owners.add(target.owner)
            self._accident(target)

    def _accident(self, target: Target) -> None:
        chance, size = self.chance, self.memory.words.size
        low = chance.randrange(0, target.size - size + 1, 4 if chance.random() < 0.2 else size)
        if chance.random() < 0.3:
            low %= 4 * size
        low = min(low, target.size - size)
        match chance.randrange(10):
            case 0:
                end = min(target.size, low + PAGE - (target.start + low) % PAGE)
                content = bytes(end - low) if chance.random() < 0.5 else chance.randbytes(end - low)
                self._write(target, low, content, "a page")
            case 1:
                other = chance.choice(self.targets[target.kind])
                length = min(target.size, other.size, PAGE)
                self._write(target, 0, self._bytes(other, length), f"a copy of {other.start:#x}")
            case 2:
                for number in range(chance.randrange(2, BURST)):
                    if low + (number + 1) * size <= target.size:
                        self._word(target, low + number * size)
            case _:
                self._word(target, low)

    def _word(self, target: Target, low: int) -> None:
        chance, size = self.chance, self.memory.words.size
        mask, own = self.memory.words.mask, target.start + low
        match chance.randrange(9):
            case 0 | 1:
                value = chance.choice(HOSTILE)
            case 2:
                value = own + chance.choice((0, 0, -size, size, -low))
            case 3 | 4:
                other = chance.choice(self.targets[target.kind])
                value = other.start + chance.choice((0, low if low < other.size else 0))
            case 5:
                value = chance.choice(UNMAPPED)
            case 6:
                value = chance.getrandbits(64)
            case 7:
                value = chance.choice(chance.choice(list(self.targets.values()))).start
            case _:
                old = int.from_bytes(self._bytes(target, size, low), self._order)
                value = old + chance.choice((1, -1, size, PAGE, -PAGE, 1 << 31))
        if chance.random() < 0.2:
            size, value = 4, value >> chance.choice((0, 32))
        self._write(target, low, (value & mask & (1 << 8 * size) - 1).to_bytes(size, self._order), f"{value & mask:#x}")

    @property
    def _order(self) -> Literal["little", "big"]:
        return "little" if self.memory.words.byte_order == "<" else "big"

    def _bytes(self, target: Target, size: int, low: int = 0) -> bytes:
        if target.physical:
            return self.data[target.start + low :][:size].tobytes()
        characters, _ = self.memory.values(
            np.uint64(target.start + low) + np.arange(size, dtype=np.uint64), np.dtype("u1")
        )
        return characters.astype(np.uint8).tobytes()

    def _write(self, target: Target, low: int, content: bytes, said: str) -> None:
        """Writes bytes, page by page, as far as there are such pages."""
        self.done.append(f"{target.kind} at {target.start:#x} + {low:#x}: {said}")
        position = target.start + low
        while content:
            length = min(len(content), PAGE - position % PAGE)
            place, mapped = position, True
            if not target.physical:
                physical, there = self.memory.physical(np.array([position], np.uint64))
                place, mapped = int(physical[0]), bool(there[0])
            if mapped and place + length <= len(self.data):
                self.data[place : place + length] = np.frombuffer(content[:length], np.uint8)
            position, content = position + length, content[length:]
