"""Scenarios: what a guest does besides, such as being traced, and the programs it needs for that.

A scenario is a folder of scenarios/: a shell script named ``scenario`` with functions that guest-init calls; C
programs, which are compiled for the guest without any C library; and a folder ``modules`` of kernel modules. A script
that names ``/vmlinuz`` finds the guest's kernel there.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from .compilers import compiler_for
from .errors import LabError
from .guests import Guest
from .headers import built_modules
from .kernels import Kernel
from .tools import run
from .variants import with_variants

SCENARIOS = Path(__file__).with_name("scenarios")

_FREESTANDING = ("-O1", "-ffreestanding", "-fno-stack-protector", "-fno-pie", "-no-pie", "-nostdlib", "-static")


def files_of(guest: Guest, kernel: Kernel) -> dict[str, bytes]:
    """What the guest's scenario adds to its initramfs, by paths there; nothing without a scenario."""
    if not guest.scenario:
        return {}
    folder = SCENARIOS / guest.scenario
    if not (folder / "scenario").exists():
        there = ", ".join(sorted(path.name for path in SCENARIOS.iterdir()))
        raise LabError(f"no scenario named {guest.scenario}: there are {there}")
    files = {"scenario": (folder / "scenario").read_bytes()}
    for source in sorted(folder.glob("*.c")):
        files[f"bin/{source.stem}"] = _program(source, guest.architecture)
    if (folder / "modules").is_dir():
        modules = with_variants(built_modules(kernel, folder / "modules"))
        files |= {f"ko/{name}.ko": data for name, data in modules.items()}
    if b"/vmlinuz" in files["scenario"]:
        files["vmlinuz"] = kernel.image.read_bytes()
    return files


def _program(source: Path, architecture: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, source.stem)
        compiler = compiler_for(architecture)
        run([f"{compiler.prefix}gcc", *compiler.options, *_FREESTANDING, "-o", program, source], timeout=60)
        return program.read_bytes()
