"""The machines that an ELF file can be for: their number, and the flags that a kernel of theirs carries."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """One machine.

    Attributes:
        number: e_machine.
        little: e_flags of a little-endian kernel.
        big: e_flags of a big-endian one.
    """

    number: int
    little: int = 0
    big: int = 0


UNKNOWN = Machine(0)
"""EM_NONE: readers show the symbols, but disassemble nothing."""

MACHINES: dict[str, Machine] = {
    "alpha": Machine(0x9026),
    "arm": Machine(40, 0x0500_0000, 0x0580_0000),
    "arm64": Machine(183),
    "loongarch32": Machine(258, 0x41, 0x41),
    "loongarch64": Machine(258, 0x41, 0x41),
    "m68k": Machine(4),
    "mips": Machine(8, 0x7000_1000, 0x7000_1000),
    "mips64": Machine(8, 0x8000_0000, 0x8000_0000),
    "parisc": Machine(15),
    "parisc64": Machine(15),
    "ppc": Machine(20),
    "ppc64": Machine(21, 2, 1),
    "riscv32": Machine(243, 1, 1),
    "riscv64": Machine(243, 1, 1),
    "s390": Machine(22),
    "s390x": Machine(22),
    "sh": Machine(42),
    "sparc": Machine(2),
    "sparc64": Machine(43),
    "x86": Machine(3),
    "x86-64": Machine(62),
    "xtensa": Machine(94),
}
"""By architecture, as `kallsift.machine` names it. Numbers: System V gABI, "ELF Header". Flags: each psABI.

arm: EABI version 5, BE8 where big-endian. mips: release 2 of the instruction set, o32 calls where 32-bit. ppc64: ELFv2
calls where little-endian, else function descriptors. riscv: compressed instructions. loongarch: no floating point in
registers, object file version 1.
"""
