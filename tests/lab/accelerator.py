"""Decides between KVM and TCG: KVM is only used where it has been seen to start a kernel."""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from pathlib import Path

from .boot import running
from .errors import LabError
from .guests import Guest
from .kernels import Kernel
from .machines import machine_for
from .places import lab_folder, say
from .qemu import TCG, Files, command

_PATIENCE = 20.0  # seconds until the kernel's first line


def accelerator_for(guest: Guest, kernel: Kernel) -> str:
    """What ``-accel`` is to say for this guest on this host."""
    if chosen := guest.accelerator or os.environ.get("KALLSIFT_LAB_ACCEL"):
        return chosen
    machine = machine_for(guest.architecture)
    if platform.machine() not in machine.native or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return TCG
    if guest.la57 and " la57 " not in Path("/proc/cpuinfo").read_text().replace("\n", " "):
        return TCG
    return "kvm" if _kvm_works(guest, kernel) else TCG


def _kvm_works(guest: Guest, kernel: Kernel) -> bool:
    """Whether KVM runs this architecture, tried once per boot of the host: some /dev/kvm only spin."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    path = lab_folder() / "kvm.json"
    known: dict[str, dict[str, bool]] = json.loads(path.read_text()) if path.exists() else {}
    verdicts = known.get(boot, {})
    if guest.architecture not in verdicts:
        say(f"kvm: trying it with {kernel.release} (once per boot of this host)")
        verdicts[guest.architecture] = _starts(guest, kernel)
        say(f"kvm: {'works' if verdicts[guest.architecture] else 'does not work here, using TCG'}")
        path.write_text(json.dumps({boot: verdicts}, indent=1) + "\n")
    return verdicts[guest.architecture]


def _starts(guest: Guest, kernel: Kernel) -> bool:
    machine = machine_for(guest.architecture)
    with tempfile.TemporaryDirectory(prefix="kallsift-lab.") as folder:
        files = Files(Path(folder))
        files.initramfs.write_bytes(b"")
        words = command(guest, machine, kernel.image, "kvm", files)
        words[words.index("-append") + 1] += f" earlycon earlyprintk={machine.console}"
        try:
            with running(words, Path(folder) / "log") as process:
                deadline = time.monotonic() + _PATIENCE
                while time.monotonic() < deadline and process.poll() is None:
                    if files.console.exists() and b"Linux version" in files.console.read_bytes():
                        return True
                    time.sleep(0.2)
        except LabError:
            return False
    return False
