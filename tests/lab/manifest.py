"""Judges a fresh capture's truth and sums it up in the manifest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from . import dumps
from .boot import Paused
from .borrowed_qemu import program
from .errors import LabError
from .guests import Guest
from .kernels import Kernel
from .machines import machine_for
from .qemu import cpu_model, kernel_command_line
from .tools import run

_LANDMARKS = {
    b"_text", b"_stext", b"linux_banner", b"init_task", b"entry_SYSCALL_64", b"vectors", b"swapper_pg_dir",
    b"init_top_pgt",
}  # fmt: skip
_FEWEST_SYMBOLS = 10_000


def landmarks(kallsyms: bytes) -> dict[str, str]:
    """Addresses of a few symbols a reader of the manifest wants to see."""
    found: dict[str, str] = {}
    for line in kallsyms.splitlines():
        words = line.split()
        if len(words) == 3 and words[2] in _LANDMARKS:
            found.setdefault(words[2].decode(), words[0].decode())
    return found


def kaslr_seen(architecture: str, places: dict[str, str]) -> bool | None:
    """Whether the kernel moved: what was asked for and what happened can differ. None: no way to tell."""
    start = places.get("_stext") or places.get("_text")
    return not re.fullmatch(machine_for(architecture).unmoved, start) if start else None


def system_call_entries(msr: bytes) -> list[str]:
    """The processors' LSTAR registers, from the guest's view of them (low half first)."""
    values = {high + low for low, high in re.findall(rb"LSTAR ([0-9a-f]{8}) ([0-9a-f]{8})", msr)}
    return sorted(value.decode() for value in values if int(value, 16))


def counts(truth: dict[str, bytes]) -> dict[str, int]:
    """How much the truth has; raises where it cannot be the whole truth."""
    lines = truth.get("kallsyms", b"").splitlines()
    core = [line for line in lines if b"\t[" not in line]
    if len(core) < _FEWEST_SYMBOLS:
        raise LabError(f"the guest sent only {len(core)} kernel symbols: try again")
    zero = sum(line.startswith((b"0000000000000000 ", b"00000000 ")) for line in core)
    if zero > len(core) // 4:
        raise LabError("the guest hid its kernel addresses: check kptr_restrict in guest-init")
    return {
        "core_symbols": len(core),
        "module_symbols": len(lines) - len(core),
        "zero_addresses": zero,
        "modules": len(truth.get("modules", b"").splitlines()),
    }


def describe(guest: Guest, kernel: Kernel, accelerator: str, stopped: Paused, core: Path) -> dict[str, Any]:
    """The manifest."""
    machine = machine_for(guest.architecture)
    places = landmarks(stopped.truth["kallsyms"])
    version = run([*program(machine), "--version"], timeout=30).decode().splitlines()[0]
    return {
        "name": guest.name,
        "guest": guest.settings(),
        "kernel": {"release": kernel.release, "suite": kernel.suite, "packages": kernel.packages},
        "qemu": {
            "version": version,
            "machine": machine.machine,
            "cpu": cpu_model(guest, machine, accelerator),
            "accelerator": accelerator,
            "command": stopped.command,
        },
        "command_line": kernel_command_line(guest, machine),
        "kaslr_seen": kaslr_seen(guest.architecture, places),
        "vmcoreinfo_note": dumps.has_vmcoreinfo(core),
        "memory": [[hex(part.address), hex(part.size)] for part in dumps.memory(core, guest.architecture)],
        "counts": counts(stopped.truth),
        "landmarks": places,
        "lstar": system_call_entries(stopped.truth.get("msr", b"")),
        "truth": sorted(stopped.truth),
        "seconds_to_ready": round(stopped.seconds, 1),
    }
