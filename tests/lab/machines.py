"""The QEMU recipe of every architecture the lab knows, as one table."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import LabError


@dataclass(frozen=True)
class Borrowed:
    """A QEMU of another suite, for machines that older ones do not run."""

    suite: str
    packages: tuple[str, ...]  # with all that they depend on
    firmware: str  # what the machine starts, by its path in the packages; it loads the kernel


@dataclass(frozen=True)
class Machine:
    """How to run one Debian architecture under QEMU."""

    qemu: str  # the program
    machine: str  # -machine
    cpu: str  # -cpu under TCG
    console: str  # console= on the kernel's command line ("" where the kernel finds it itself)
    unmoved: str  # regular expression: where _stext or _text lies without KASLR
    virtio: str = "pci"  # how virtio devices attach: "pci", "device" (MMIO) or "ccw"
    second_uart: bool = False  # a second serial port, should the kernel have no virtio console
    processors: int = 8  # the most it takes
    vmcoreinfo: bool = False  # has QEMU's vmcoreinfo device
    seedless: bool = False  # QEMU 7.2's device tree gives the kernel no seed for KASLR
    elf_machine: int = 0  # e_machine of a core, where QEMU does not write one itself
    borrowed: Borrowed | None = None  # instead of the system's QEMU
    native: tuple[str, ...] = ()  # hosts (uname -m) which can run it with KVM
    native_cpu: str = "host"  # -cpu under KVM


MACHINES = {
    "amd64": Machine(
        qemu="qemu-system-x86_64", machine="q35", cpu="max,la57=off", console="ttyS0",
        unmoved="ffffffff81000000", second_uart=True, vmcoreinfo=True,
        native=("x86_64",), native_cpu="host,arch-capabilities=off,la57=off",
    ),
    "arm64": Machine(
        qemu="qemu-system-aarch64", machine="virt,gic-version=3", cpu="max,pauth-impdef=on",
        console="ttyAMA0", unmoved="ffff8000.*", vmcoreinfo=True, native=("aarch64",),
    ),
    "armhf": Machine(
        qemu="qemu-system-arm", machine="virt,highmem=off", cpu="cortex-a15", console="ttyAMA0",
        unmoved="c0[234]00000", virtio="device", vmcoreinfo=True,
    ),
    "i386": Machine(
        qemu="qemu-system-i386", machine="q35", cpu="max", console="ttyS0",
        unmoved="c1000000", second_uart=True, vmcoreinfo=True, native=("x86_64", "i686"),
        native_cpu="host,arch-capabilities=off",
    ),
    "riscv64": Machine(
        qemu="qemu-system-riscv64", machine="virt", cpu="rv64", console="ttyS0",
        unmoved="ffffffff8000[02]000", seedless=True, native=("riscv64",),
    ),
    "s390x": Machine(
        qemu="qemu-system-s390x", machine="s390-ccw-virtio", cpu="max", console="",
        unmoved="0000000000100000|000003ffe0000000", virtio="ccw", native=("s390x",),
    ),
    "ppc64el": Machine(
        qemu="qemu-system-ppc64", cpu="power9", console="hvc0",
        machine="pseries,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off",
        unmoved="c000000000000000", native=("ppc64le",),
    ),
    "mips64el": Machine(
        qemu="qemu-system-mips64el", machine="malta", cpu="5KEc", console="ttyS0",
        unmoved="ffffffff80100[04]00", second_uart=True, processors=1, elf_machine=8,
    ),
    "mipsel": Machine(
        qemu="qemu-system-mipsel", machine="malta", cpu="24Kf", console="ttyS0",
        unmoved="80100[04]00", second_uart=True, processors=1, elf_machine=8,
    ),
    "loong64": Machine(
        qemu="qemu-system-loongarch64", machine="virt", cpu="la464", console="ttyS0",
        unmoved="9000000000220000", elf_machine=258,
        borrowed=Borrowed(
            "trixie", ("qemu-system-misc", "qemu-efi-loongarch64"), "usr/share/qemu-efi-loongarch64/QEMU_EFI.fd"
        ),
    ),
}  # fmt: skip


def machine_for(architecture: str) -> Machine:
    try:
        return MACHINES[architecture]
    except KeyError:
        raise LabError(f"no QEMU recipe for {architecture}: the lab knows {', '.join(MACHINES)}") from None
