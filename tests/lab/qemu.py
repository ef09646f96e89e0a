"""Writes QEMU's command line for a guest."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from .borrowed_qemu import firmware, program
from .guests import Guest
from .machines import Machine
from .tools import run

TCG = "tcg,thread=single"  # several guests of 2 processors crash at random with a thread for each


@dataclass(frozen=True)
class Files:
    """Where a running guest's files are, in a short-lived folder (socket paths have to be short)."""

    folder: Path

    @property
    def initramfs(self) -> Path:
        return self.folder / "initrd.gz"

    @property
    def console(self) -> Path:
        return self.folder / "console"

    @property
    def port(self) -> Path:
        """What the guest sent through its virtio port."""
        return self.folder / "port"

    @property
    def uart(self) -> Path:
        """What the guest sent through its second serial port."""
        return self.folder / "uart"

    @property
    def device_tree(self) -> Path:
        """The device tree where QEMU's own lacks something."""
        return self.folder / "dtb"

    @property
    def qmp(self) -> Path:
        return self.folder / "qmp"


def kernel_command_line(guest: Guest, machine: Machine) -> str:
    words = [
        f"console={machine.console}" if machine.console else "",
        "labport=ttyS1" if machine.second_uart else "",
        "" if guest.kaslr else "nokaslr",
        "panic=-1",
        guest.append,
    ]
    return " ".join(word for word in words if word)


def cpu_model(guest: Guest, machine: Machine, accelerator: str) -> str:
    if guest.cpu:
        return guest.cpu
    model = machine.native_cpu if accelerator.startswith("kvm") else machine.cpu
    return model.replace("la57=off", "la57=on") if guest.la57 else model


def has_vmcoreinfo(guest: Guest, machine: Machine) -> bool:
    return guest.vmcoreinfo and machine.vmcoreinfo


def command(guest: Guest, machine: Machine, kernel: Path, accelerator: str, files: Files) -> list[str]:
    """QEMU's arguments. The guest waits for nothing: no display, no disk, no way to the network."""
    virtio = "-device" if machine.virtio == "device" else f"-{machine.virtio}"
    words = [
        *program(machine),
        *firmware(machine),
        "-machine", machine.machine,
        "-accel", accelerator,
        "-cpu", cpu_model(guest, machine, accelerator),
        "-m", str(guest.memory),
        "-smp", str(min(guest.processors, machine.processors)),
        "-kernel", str(kernel),
        "-initrd", str(files.initramfs),
        "-append", kernel_command_line(guest, machine),
        "-display", "none", "-nodefaults", *([] if guest.resets else ["-no-reboot"]),
        "-qmp", f"unix:{files.qmp},server=on,wait=off",
        "-chardev", f"file,id=console,path={files.console}",
        "-device" if machine.virtio == "ccw" else "-serial",
        "sclpconsole,chardev=console" if machine.virtio == "ccw" else "chardev:console",
        "-device", f"virtio-serial{virtio}",
        "-chardev", f"file,id=port,path={files.port}",
        "-device", "virtserialport,chardev=port,name=labtruth",
        "-netdev", "user,id=net,restrict=on",
        "-device", f"virtio-net{virtio},netdev=net",
    ]  # fmt: skip
    if machine.second_uart:
        words += ["-serial", f"file:{files.uart}"]
    if has_vmcoreinfo(guest, machine):
        words += ["-device", "vmcoreinfo"]
    return words


def with_seed(words: list[str], files: Files) -> list[str]:
    """The same arguments with a device tree that has a random seed for KASLR besides what QEMU's own has."""
    dumping = list(words)
    dumping[words.index("-machine") + 1] += f",dumpdtb={files.device_tree}"
    run(dumping, timeout=60)
    halves = [secrets.token_hex(4) for _ in range(2)]
    run(["fdtput", "-t", "x", files.device_tree, "/chosen", "kaslr-seed", *halves], timeout=60)
    return [*words, "-dtb", str(files.device_tree)]
