"""Builds modules for a guest's kernel with the headers that Debian has for it.

The build's own programs come from the kernel's suite, whose C library may be newer than the host's: so each gets a
script in its place that starts it with the loader and the libraries of that suite.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from .apt import Suite
from .compilers import compiler_for
from .errors import LabError
from .kernels import Kernel
from .places import alone, building, lab_folder, say
from .tools import run, tool

_HOST = "amd64"
_LIBRARIES = ("libc6", "zlib1g", "libzstd1")  # and libelf, whose package changed its name
_LIBRARY_FOLDERS = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu")
_LOADER = "ld-linux-x86-64.so.2"
_WRAPPER = '#!/bin/sh\nexec {loader} --argv0 "$0" --library-path {libraries} "$0.elf" "$@"\n'

# What the kernel's compiler could do and an older one cannot; and no types of modules, which need the kernel's.
_OVERRIDDEN = ("CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=", "CONFIG_DEBUG_INFO_BTF_MODULES=")


def built_modules(kernel: Kernel, sources: Path) -> dict[str, bytes]:
    """The modules that the Kbuild file of a folder names, by their names without ``.ko``."""
    headers = _headers(kernel)
    compiler = compiler_for(kernel.architecture)
    with tempfile.TemporaryDirectory(prefix="kallsift-modules.") as name:
        folder = Path(name)
        shutil.copytree(sources, folder, dirs_exist_ok=True)
        settings = [
            f"M={folder}",
            f"ARCH={compiler.kernel}",
            f"CROSS_COMPILE={compiler.prefix}",
            f"CC={tool(f'{compiler.prefix}gcc')}",
            "KBUILD_MODPOST_WARN=1",  # modules that need what nobody has are what the loader is to refuse
            *_OVERRIDDEN,
        ]
        run(["make", "-s", "-C", headers, *settings, "modules"], timeout=900)
        built = {path.stem: path.read_bytes() for path in sorted(folder.glob("*.ko"))}
    if not built:
        raise LabError(f"no module was built of {sources}: remove {headers.parents[3]} to have the headers anew")
    return built


def _headers(kernel: Kernel) -> Path:
    """The folder that modules are built in, downloaded if this is its first use."""
    folder = lab_folder() / "headers" / kernel.release
    with alone(f"headers of {kernel.release}", "headers.lock"):
        if not (folder / "headers.json").exists():
            with building(folder) as draft:
                _unpack(kernel, draft, folder)
    return folder / "tree/usr/src" / f"linux-headers-{kernel.release}"


def _unpack(kernel: Kernel, folder: Path, target: Path) -> None:
    suite, host = Suite(kernel.suite, kernel.architecture), Suite(kernel.suite, _HOST)
    base = Suite({"experimental": "sid"}.get(kernel.suite, re.sub("-(backports|security)$", "", kernel.suite)), _HOST)
    headers = f"linux-headers-{kernel.release}"
    (record,) = suite.records([headers])
    needed = re.findall(r"linux-(?:headers|kbuild)-[^ ,]+", record["Depends"])
    kbuild = next((name for name in needed if "kbuild" in name), "")
    if not kbuild:
        raise LabError(f"{headers} needs no package of programs to build with: choose another kernel in guests.toml")
    elf = re.findall(r"libelf\w*", host.records([kbuild])[0]["Depends"])[:1]
    say(f"headers of {kernel.release}: downloading {headers} {' '.join(needed)}")
    packages = _downloaded(suite, [headers, *(name for name in needed if name != kbuild)], folder / "tree")
    packages |= _downloaded(host, [kbuild], folder / "tree")
    packages |= _downloaded(base, [*_LIBRARIES, *elf], folder / "libraries")
    makefile = folder / "tree/usr/src" / headers / "Makefile"
    makefile.write_text(makefile.read_text().replace("/usr/src/", f"{target}/tree/usr/src/"))
    libraries = [folder / "libraries" / name for name in _LIBRARY_FOLDERS]
    loader = next((path / _LOADER for path in libraries if (path / _LOADER).exists()), None)
    if loader is None:
        raise LabError(f"libc6 of {base.name} has no {_LOADER}: teach headers.py where it is")
    text = _WRAPPER.format(
        loader=target / loader.relative_to(folder),
        libraries=":".join(str(target / path.relative_to(folder)) for path in libraries),
    )
    for program in _programs(folder / "tree/usr/lib" / kbuild):
        program.rename(f"{program}.elf")
        program.write_text(text)
        program.chmod(0o755)
    (folder / "headers.json").write_text(json.dumps({"packages": packages}, indent=1) + "\n")


def _downloaded(suite: Suite, names: list[str], tree: Path) -> dict[str, str]:
    """Unpacks packages into a folder: of each file its SHA-256."""
    with tempfile.TemporaryDirectory() as work:
        debs = suite.download(names, Path(work))
        for deb in debs:
            subprocess.run([tool("dpkg-deb"), "-x", deb, tree], check=True, timeout=300)
        return {deb.name: hashlib.sha256(deb.read_bytes()).hexdigest() for deb in debs}


def _programs(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if path.stat().st_mode & 0o100 and path.read_bytes()[:4] == b"\x7fELF"]
