"""Takes captures (a guest's memory with the truth about it) and gives them to whoever tests with them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from . import dumps
from .accelerator import accelerator_for
from .boot import Paused, paused
from .borrowed_qemu import program
from .errors import LabError
from .guests import Guest
from .kernels import Kernel, kernel_for
from .machines import Machine, machine_for
from .manifest import describe
from .places import alone, building, captures_folder, containers_folder, qemu_slot, say
from .tools import tool

_DUMP_TIMEOUT = 900.0


@dataclass(frozen=True)
class Capture:
    """One guest's memory, its registers and the truth, in a folder of the lab."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """How the capture was made and what it has: kernel, packages, QEMU, KASLR, counts."""
        facts: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text())
        return facts

    def truth(self, name: str) -> bytes:
        """What the guest said of itself: "kallsyms", "modules", "iomem", "dmesg", ..."""
        path = self.folder / "truth" / name
        if not path.is_file():
            there = ", ".join(sorted(path.name for path in path.parent.iterdir()))
            raise LabError(f"{self.name} has no truth named {name}: there are {there}")
        return path.read_bytes()

    def core_kallsyms(self) -> bytes:
        """The kernel's own lines of /proc/kallsyms, byte for byte: those without a module's name."""
        lines = self.truth("kallsyms").splitlines(keepends=True)
        return b"".join(line for line in lines if b"\t[" not in line)

    def dump(self, format: str) -> Path:
        """The memory as "elf", "raw" or "lime"; the latter two are made on first use."""
        core = self.folder / "memory.elf"
        if format == "elf":
            return core
        if format not in dumps.WRITERS:
            raise LabError(f"no dump format {format}: there are elf, {', '.join(sorted(dumps.WRITERS))}")
        path = self.folder / f"memory.{format}"
        if not path.exists():
            draft = self.folder / f".memory.{format}.{os.getpid()}"
            try:
                dumps.WRITERS[format](core, draft, self.manifest["guest"]["architecture"])
                draft.rename(path)
            finally:
                draft.unlink(missing_ok=True)
        return path

    @property
    def kernel_image(self) -> Path:
        """The vmlinuz that was booted."""
        return self.folder / "vmlinuz"

    @property
    def registers(self) -> str:
        """The processors' registers, as QEMU's monitor prints them."""
        return (self.folder / "registers.txt").read_text()


def cached(guest: Guest, folder: Path | None = None) -> Capture | None:
    """The guest's capture if it has been taken with these settings; among the captures, or in another ``folder``."""
    found = Capture((folder or captures_folder()) / guest.name)
    if not (found.folder / "manifest.json").exists() or found.manifest["guest"] != guest.settings():
        return None
    return found


def oldest(guests: list[Guest]) -> Guest:
    """Return the guest whose capture is the oldest, or that has none, so that each gets its turn."""

    def taken_at(guest: Guest) -> float:
        found = cached(guest)
        return (found.folder / "manifest.json").stat().st_mtime if found else 0.0

    return min(guests, key=taken_at)


def forget() -> None:
    """Remove all captures, those in many containers too; kernels and packages that were downloaded stay."""
    with alone("removing all captures"):
        for folder in (captures_folder(), containers_folder()):
            shutil.rmtree(folder, ignore_errors=True)


Save = Callable[[Paused, Path], None]
"""Saves more of a paused guest into the folder of its capture."""


def capture(guest: Guest, again: bool = False, folder: Path | None = None, more: Save | None = None) -> Capture:
    """The guest's capture; the guest is booted if there is none yet, or ``again``.

    Args:
        guest: what to boot.
        again: even if there is one.
        folder: where captures are kept that have ``more`` than others.
        more: saves that.
    """
    folder = folder or captures_folder()
    if not again and (found := cached(guest, folder)):
        return found
    with alone(guest.name, shared=True), alone(guest.name, f"{guest.name}.lock"):
        if not again and (found := cached(guest, folder)):  # another run has just taken it
            return found
        tool(program(machine_for(guest.architecture))[0])  # or say right away what to install
        kernel, accelerator = prepared(guest)
        with qemu_slot(guest.name):
            try:
                return _take(guest, kernel, accelerator, folder / guest.name, more)
            except LabError as error:
                say(f"{guest.name}: {error.message}: trying once more")
                return _take(guest, kernel, accelerator, folder / guest.name, more)


def prepared(guest: Guest) -> tuple[Kernel, str]:
    """The guest's kernel, downloaded if this is its first use, and the accelerator that boots it."""
    with alone(guest.name, "kernels.lock"):
        kernel = kernel_for(guest)
        return kernel, accelerator_for(guest, kernel)


def _take(guest: Guest, kernel: Kernel, accelerator: str, target: Path, more: Save | None) -> Capture:
    say(f"{guest.name}: booting {kernel.release} with {accelerator}")
    with building(target) as draft:
        with paused(guest, kernel, accelerator) as stopped:
            say(f"{guest.name}: ready after {stopped.seconds:.0f} s, dumping {guest.memory} MiB")
            _save(stopped, draft, machine_for(guest.architecture))
            if more:
                more(stopped, draft)
        (draft / "memory.elf").chmod(0o644)
        dumps.make_sparse(draft / "memory.elf")
        shutil.copyfile(kernel.image, draft / "vmlinuz")
        facts = describe(guest, kernel, accelerator, stopped, draft / "memory.elf")
        (draft / "manifest.json").write_text(json.dumps(facts, indent=1) + "\n")
    counts = facts["counts"]
    moved = "moved by KASLR" if facts["kaslr_seen"] else "not moved"
    say(f"{guest.name}: done: {counts['core_symbols']} symbols, {counts['modules']} modules, {moved}")
    return Capture(target)


def _save(stopped: Paused, folder: Path, machine: Machine) -> None:
    """Everything that has to be read while QEMU still runs."""
    (folder / "console.log").write_bytes(stopped.console)
    (folder / "truth").mkdir()
    for name, data in stopped.truth.items():
        (folder / "truth" / name).write_bytes(data)
    for path, data in stopped.added.items():
        if path.startswith("ko/"):
            (folder / "ko").mkdir(exist_ok=True)
            (folder / path).write_bytes(data)
    (folder / "registers.txt").write_text(stopped.qmp.monitor("info registers -a"))
    if machine.elf_machine:
        _save_ranges(stopped, folder, machine.elf_machine)
        return
    how = {"paging": False, "protocol": f"file:{folder}/memory.elf", "format": "elf"}
    stopped.qmp.do("dump-guest-memory", how, _DUMP_TIMEOUT)
    if not dumps.segments(folder / "memory.elf"):
        raise LabError("QEMU puts no memory into ELF dumps of this architecture: give it an elf_machine in machines.py")


def _save_ranges(stopped: Paused, folder: Path, elf_machine: int) -> None:
    """An ELF core out of what QEMU says is RAM, range by range."""
    parts = []
    for number, memory in enumerate(dumps.ram_ranges(stopped.qmp.monitor("info mtree -f"))):
        path = folder / f".range{number}"
        where = {"val": memory.start, "size": len(memory), "filename": str(path)}
        stopped.qmp.do("pmemsave", where, _DUMP_TIMEOUT)
        parts.append((memory.start, path))
    dumps.write_core(parts, folder / "memory.elf", elf_machine)
    for _, path in parts:
        path.unlink()
