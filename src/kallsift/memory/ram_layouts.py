"""List where machines have their RAM: the address of its first byte, and the hole behind which the rest continues.

Facts, each from the program's own source: QEMU, hw/i386/pc_piix.c, pc_q35.c and microvm.c, hw/arm/virt.c,
hw/riscv/virt.c, hw/arm/sbsa-ref.c; Firecracker, arch/x86_64/layout.rs (a hole of 768 MiB, later of 1 GiB) and
arch/aarch64/layout.rs; Cloud Hypervisor, arch/src/x86_64/layout.rs (MEM_32BIT_RESERVED_START) and aarch64; VirtualBox,
MM_RAM_HOLE_SIZE_DEFAULT; Xen, public/hvm/e820.h (HVM_BELOW_4G_RAM_END). VMware and Hyper-V publish none: their rows
come from their guests' memory maps. A wrong row of `LAYOUTS` costs time, never correctness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

MIB, GIB = 1 << 20, 1 << 30

VGA_WINDOW = range(0xA0000, 0xC0000)
"""Addresses of a PC at which a display adapter answers instead of the RAM behind them."""


class Piece(NamedTuple):
    """A part of a machine's RAM: offset in the RAM, physical address, size."""

    offset: int
    address: int
    size: int


@dataclass(frozen=True)
class RamLayout:
    """The addresses of RAM in one kind of machine.

    Attributes:
        machine: name in messages.
        base: address of the first byte.
        below: bytes of RAM in front of the hole; None where there is no hole.
        resumes: address of the first byte behind the hole.
        split_from: size in bytes from which on RAM is split; smaller RAM is not, even if it is larger than ``below``.
    """

    machine: str
    base: int = 0
    below: int | None = None
    resumes: int = 4 * GIB
    split_from: int = 0

    def pieces(self, size: int) -> tuple[Piece, ...]:
        """Return the parts of RAM of ``size`` bytes."""
        if self.below is None or size <= self.below or size < self.split_from:
            return (Piece(0, self.base, size),)
        return Piece(0, self.base, self.below), Piece(self.below, self.resumes, size - self.below)


I440FX = RamLayout("QEMU pc", below=3 * GIB, split_from=3 * GIB + 512 * MIB)
Q35 = RamLayout("QEMU q35", below=2 * GIB, split_from=2 * GIB + 768 * MIB)
MICROVM = RamLayout("QEMU microvm", below=3 * GIB)
ARM_VIRT = RamLayout("QEMU virt (arm)", base=GIB)
RISCV_VIRT = RamLayout("QEMU virt (riscv)", base=2 * GIB)
SBSA = RamLayout("QEMU sbsa-ref", base=1 << 40)
FROM_ZERO = RamLayout("RAM from address 0")

LAYOUTS = (
    RamLayout("VMware, Cloud Hypervisor, newer Firecracker", below=3 * GIB),
    I440FX,
    Q35,
    RamLayout("Firecracker, crosvm", below=4 * GIB - 768 * MIB),
    RamLayout("VirtualBox, QEMU pc before 2.0", below=4 * GIB - 512 * MIB),
    RamLayout("QEMU q35 before 2.0", below=2 * GIB + 768 * MIB),
    RamLayout("Xen", below=4 * GIB - 256 * MIB),
    RamLayout("Hyper-V", below=4 * GIB - 128 * MIB),
    RamLayout("Firecracker (arm), QEMU virt (riscv)", base=2 * GIB),
    RamLayout("Cloud Hypervisor (arm), QEMU virt (arm)", base=GIB),
    RamLayout("newer Cloud Hypervisor (arm)", base=GIB, below=3 * GIB - 64 * MIB),
)
"""Machines whose RAM is saved into files without any header: candidates, of which a page table proves the right one."""

QEMU_RAM = (
    ("pc.ram", "pc-q35-", Q35),
    ("pc.ram", "pc-i440fx-", I440FX),
    ("pc.ram", "", I440FX),
    ("microvm.ram", "", MICROVM),
    ("mach-virt.ram", "", ARM_VIRT),
    ("riscv_virt_board.ram", "", RISCV_VIRT),
    ("sbsa-ref.ram", "", SBSA),
    ("s390.ram", "", FROM_ZERO),
    ("ppc_spapr.ram", "", FROM_ZERO),
    ("", "pc-q35-", Q35),
    ("", "pc-i440fx-", I440FX),
    ("", "virt-", ARM_VIRT),
    ("", "s390-ccw-virtio", FROM_ZERO),
    ("", "pseries", FROM_ZERO),
    ("", "microvm", MICROVM),
)
"""QEMU's machines: the name of the RAM block, the beginning of the machine type, and the layout.

The first row that fits counts; a block with a name from the user fits by its machine alone.
"""
