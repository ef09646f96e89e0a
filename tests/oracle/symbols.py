"""Symbols, and made-up populations of them that look like a kernel's."""

from __future__ import annotations

import random
from typing import NamedTuple

TEXT = 0xFFFF_FFFF_8100_0000
"""Where the made-up kernels begin."""

LETTERS = "tTdDbBrRwWvVa?"
TEXT_LETTERS = "ttttTTTwW"

LONGEST_NAME = 511
"""Characters of a name at most since 6.1; 127 before."""

_WORDS = """
    sys get set init exit read write page slab lock irq mm net tcp udp ipv4 ipv6 ext4 btrfs kvm vmx x64 acpi pci
    usb dev drm i915 amdgpu snd hda crypto sha256 aes trace event probe bpf prog map cgroup sched rcu timer clock
    work queue alloc free put find next prev first last node list hash tree node0 cpu percpu start end
""".split()  # noqa: SIM905 (shorter so)
_ENDS = ("", "", "", "", ".isra.0", ".constprop.3", ".cold", ".llvm.8715330127", ".cfi_jt", "$x", "@veneer")
_STEPS = (0, 0, 1, 4, 8, 16, 48, 64, 272, 4096)
_SIZES = (LONGEST_NAME, 128, 129, 300, 200)
_RANDOM = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


class Symbol(NamedTuple):
    """One entry of the table."""

    address: int
    letter: str
    name: str


def population(
    count: int,
    seed: int = 0,
    *,
    percpu: bool = False,
    start: int = TEXT,
    text_only: bool = False,
    long_names: bool = False,
    distinct: bool = False,
) -> tuple[Symbol, ...]:
    """``count`` symbols in the table's order: equal addresses, equal names, all digits, and ``.``, ``$``, ``@``.

    Args:
        count: at least 4, and 16 with ``text_only``.
        seed: of the choice.
        percpu: whether a twentieth of them are offsets into the per-CPU area, from 0 on.
        start: address of the first one that is none of those.
        text_only: whether they are a kernel's without KALLSYMS_ALL: nothing outside the ranges from ``_stext`` to
            ``_etext`` and from ``_sinittext`` to ``_einittext``.
        long_names: whether some have more than 127 characters, some of those in more than 127 codes.
        distinct: whether no two share an address.
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
    if long_names:
        for number, index in enumerate(chance.sample(range(1, count), max(2, count // 100))):
            names[index] = _long_name(chance, _SIZES[number % len(_SIZES)], hashed=number % 2 == 0)
    small = count // 20 if percpu else 0
    steps = [step or 2 for step in _STEPS] if distinct else _STEPS
    symbols, address = [], 0
    for index, name in enumerate(names):
        if index == small:
            address = start
        symbols.append(Symbol(address, chance.choice(TEXT_LETTERS if text_only else LETTERS), name))
        # the first two share an address, so that every population has equal ones
        address += 0 if index == small and not distinct else chance.choice(steps)
    return _bounded(symbols, start) if text_only else tuple(symbols)


def _bounded(symbols: list[Symbol], start: int) -> tuple[Symbol, ...]:
    """The same symbols as a kernel's text, a tenth of them in the text for initialisation a megabyte behind."""
    last = len(symbols) - 1
    initial = last - len(symbols) // 10
    names = {0: "_stext", initial - 1: "_etext", initial: "_sinittext", last: "_einittext"}
    away = -symbols[initial].address % 4096 + (1 << 20)
    return tuple(
        Symbol(
            start if index == 0 else symbol.address + (away if index >= initial else 0),
            "T" if index in names else symbol.letter,
            names.get(index, symbol.name),
        )
        for index, symbol in enumerate(symbols)
    )


def _long_name(chance: random.Random, size: int, *, hashed: bool) -> str:
    """A name such as Rust gives: a hash that does not compress, or words that do."""
    if hashed:
        return ("_RNv" + "".join(chance.choices(_RANDOM, k=size)))[:size]
    return ("_RNvXs_" + "".join(f"Nt{len(word)}{word}" for word in chance.choices(_WORDS, k=size)))[:size]
