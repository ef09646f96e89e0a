"""List the machines of ELF files: their numbers and the flags of their kernels."""

from __future__ import annotations

from dataclasses import dataclass

from kallsift.image.formats.machine_ids import ELF_MACHINES


@dataclass(frozen=True)
class Machine:
    """One machine.

    Attributes:
        number: e_machine.
        little: e_flags of a little-endian kernel.
        big: e_flags of a big-endian kernel.
    """

    number: int
    little: int = 0
    big: int = 0


UNKNOWN = Machine(0)
"""EM_NONE: readers show the symbols, but disassemble nothing."""

_FLAGS: dict[str, tuple[int, int]] = {
    "arm": (0x0500_0000, 0x0580_0000),
    "loongarch32": (0x41, 0x41),
    "loongarch64": (0x41, 0x41),
    "mips": (0x7000_1000, 0x7000_1000),
    "mips64": (0x8000_0000, 0x8000_0000),
    "ppc64": (2, 1),
    "riscv32": (1, 1),
    "riscv64": (1, 1),
}
"""e_flags of little- and big-endian kernels, if not 0: from each psABI.

arm: EABI version 5, BE8 where big-endian. mips: release 2 of the instruction set, o32 calls where 32-bit. ppc64: ELFv2
calls where little-endian, else function descriptors. riscv: compressed instructions. loongarch: no floating point in
registers, object file version 1.
"""

MACHINES: dict[str, Machine] = {
    architecture: Machine(number, *_FLAGS.get(architecture, (0, 0)))
    for (number, _), architecture in ELF_MACHINES.items()
}
"""By architecture, as `kallsift.arch` names it."""
