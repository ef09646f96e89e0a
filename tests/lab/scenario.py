"""Scenarios: what a guest does besides, such as being traced, and the programs it needs for that.

A scenario is a folder of scenarios/: a shell script named ``scenario`` with functions that guest-init calls; C
programs, which are compiled for the guest without any C library; a folder ``modules`` of kernel modules; and a list
named ``packages`` of files that Debian's packages bring. A script that names ``/vmlinuz`` finds the guest's kernel
there; one that names ``busybox-i386`` has a program of 32-bit code.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from .apt import Suite
from .compilers import compiler_for
from .errors import LabError
from .guests import Guest
from .headers import built_modules
from .kernels import Kernel, busybox_for, extract
from .places import alone, building, lab_folder
from .tools import run
from .variants import with_variants

SCENARIOS = Path(__file__).with_name("scenarios")

PACKAGES_SUITE = "bookworm"
"""The suite of the packages that scenarios name: one for all kernels, so that their programs are the same."""

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
    if (folder / "packages").exists():
        files |= packaged_files(folder / "packages", guest)
    if b"/vmlinuz" in files["scenario"]:
        files["vmlinuz"] = kernel.image.read_bytes()
    if b"busybox-i386" in files["scenario"]:
        files["bin/busybox-i386"] = busybox_for("i386").read_bytes()
    return files


def packaged_files(listing: Path, guest: Guest) -> dict[str, bytes]:
    """The files that a list of packages names, by their paths in the guest."""
    lines = [line.split() for line in listing.read_text().splitlines() if not line.startswith("#")]
    packages = sorted({package for package, _, _ in lines})
    tree = lab_folder() / "packages" / guest.scenario
    with alone(f"packages of {guest.scenario}", "packages.lock"):
        if not tree.exists():
            with building(tree) as draft, tempfile.TemporaryDirectory() as work:
                for deb in Suite(PACKAGES_SUITE, guest.architecture).download(packages, Path(work)):
                    extract(deb, draft)
    missing = [source for _, source, _ in lines if not (tree / source).is_file()]
    if missing:
        raise LabError(f"{tree} has no {missing[0]}: mend {listing}, and remove that folder")
    return {path: (tree / source).read_bytes() for _, source, path in lines}


def _program(source: Path, architecture: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, source.stem)
        compiler = compiler_for(architecture)
        run([f"{compiler.prefix}gcc", *compiler.options, *_FREESTANDING, "-o", program, source], timeout=60)
        return program.read_bytes()
