"""Symbols, and made-up populations of them that look like a kernel's."""

from __future__ import annotations

import random
from typing import NamedTuple

TEXT = 0xFFFF_FFFF_8100_0000
"""Where the made-up kernels begin."""

LETTERS = "tTdDbBrRwWvVa?"

_WORDS = """
    sys get set init exit read write page slab lock irq mm net tcp udp ipv4 ipv6 ext4 btrfs kvm vmx x64 acpi pci
    usb dev drm i915 amdgpu snd hda crypto sha256 aes trace event probe bpf prog map cgroup sched rcu timer clock
    work queue alloc free put find next prev first last node list hash tree node0 cpu percpu start end
""".split()  # noqa: SIM905 (shorter so)
_ENDS = ("", "", "", "", ".isra.0", ".constprop.3", ".cold", ".llvm.8715330127", ".cfi_jt", "$x", "@veneer")


class Symbol(NamedTuple):
    """One entry of the table."""

    address: int
    letter: str
    name: str


def population(count: int, seed: int = 0, *, percpu: bool = False, start: int = TEXT) -> tuple[Symbol, ...]:
    """``count`` symbols in the table's order: equal addresses, equal names, all digits, and ``.``, ``$``, ``@``.

    Args:
        count: at least 4.
        seed: of the choice.
        percpu: whether a twentieth of them are offsets into the per-CPU area, from 0 on.
        start: address of the first one that is none of those.
    """
    chance = random.Random(f"{count} {seed}")
    names = ["fixed_0123456789", "$x", "e843419@010a_00000e67", "twice"]
    while len(names) < count:
        if chance.random() < 0.1:
            names.append(chance.choice(names))
        else:
            stem = "_".join(chance.choices(_WORDS, k=chance.randint(1, 4)))
            names.append(f"{chance.choice(('', '', '__', '__pfx_'))}{stem}{chance.choice(_ENDS)}")
    names = names[:1] + chance.sample(names[1:], count - 1)
    small = count // 20 if percpu else 0
    symbols, address = [], 0
    for index, name in enumerate(names):
        if index == small:
            address = start
        symbols.append(Symbol(address, chance.choice(LETTERS), name))
        # the first two share an address, so that every population has equal ones
        address += 0 if index == small else chance.choice((0, 0, 1, 4, 8, 16, 48, 64, 272, 4096))
    return tuple(symbols)
