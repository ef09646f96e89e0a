"""Runs a QEMU that the system does not have: another suite's, unpacked into the lab with every library it needs."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment

from .apt import Suite
from .errors import LabError
from .kernels import extract
from .machines import Borrowed, Machine
from .places import alone, building, lab_folder, say
from .tools import run


def program(machine: Machine) -> list[str]:
    """The words that run the machine's QEMU; a borrowed one is downloaded if this is its first use.

    A borrowed program runs by its own suite's dynamic loader, since the system's C library may be too old for it.
    """
    if machine.borrowed is None:
        return [machine.qemu]
    tree = _unpacked(machine.borrowed)
    binary = tree / "usr/bin" / machine.qemu
    libraries = sorted(path for path in tree.glob("usr/lib/*-linux-gnu*") if path.is_dir())
    libraries += [path / "pulseaudio" for path in libraries if (path / "pulseaudio").is_dir()]
    return [
        str(tree / "usr" / _loader(binary).lstrip("/")),
        "--library-path", ":".join(map(str, libraries)),
        str(binary),
        "-L", str(tree / "usr/share/qemu"),
    ]  # fmt: skip


def firmware(machine: Machine) -> list[str]:
    """The words that have the machine start by firmware, which then loads the kernel; none where QEMU loads it."""
    if machine.borrowed is None:
        return []
    return ["-bios", str(_unpacked(machine.borrowed) / machine.borrowed.firmware)]


def _loader(binary: Path) -> str:
    """The dynamic loader a program names."""
    with binary.open("rb") as file:
        names = [part.get_interp_name() for part in ELFFile(file).iter_segments() if isinstance(part, InterpSegment)]
    if len(names) != 1:
        raise LabError(f"{binary} names no dynamic loader: remove {binary.parents[2]} to have it unpacked again")
    return str(names[0])


def _unpacked(borrowed: Borrowed) -> Path:
    """The tree of the packages and all that they depend on."""
    folder = lab_folder() / "qemu" / borrowed.suite
    facts = folder / "packages.json"
    with alone(f"QEMU of {borrowed.suite}", "qemu.lock"):
        if not facts.exists() or not set(borrowed.packages) <= set(json.loads(facts.read_text())["asked"]):
            with building(folder) as draft:
                _unpack(borrowed, draft)
    return folder / "tree"


def _unpack(borrowed: Borrowed, folder: Path) -> None:
    say(f"QEMU: downloading {' '.join(borrowed.packages)} of {borrowed.suite}, with what they depend on")
    host = run(["dpkg", "--print-architecture"], timeout=30).decode().strip()
    (debs := folder / "debs").mkdir()
    (tree := folder / "tree").mkdir()
    packages = {}
    for deb in Suite(borrowed.suite, host).download_all(borrowed.packages, debs):
        packages[deb.name] = hashlib.sha256(deb.read_bytes()).hexdigest()
        extract(deb, tree)
    shutil.rmtree(debs)
    facts = {"asked": borrowed.packages, "packages": packages}
    (folder / "packages.json").write_text(json.dumps(facts, indent=1) + "\n")
