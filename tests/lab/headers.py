"""Builds modules for a guest's kernel with the headers that Debian has for it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from .apt import Suite
from .errors import LabError
from .kernels import Kernel
from .places import building, lab_folder, say
from .tools import run, tool

_SERIES = re.compile(r"\d+\.\d+")
_FLAVOUR = re.compile(r"-[a-z]\w*$")


def built_modules(kernel: Kernel, sources: Path) -> dict[str, bytes]:
    """The modules that the Kbuild file of a folder names, by their names without ``.ko``."""
    headers = _headers(kernel)
    with tempfile.TemporaryDirectory(prefix="kallsift-modules.") as name:
        folder = Path(name)
        shutil.copytree(sources, folder, dirs_exist_ok=True)
        # modules that need what nobody has are what the loader is to refuse
        run(["make", "-s", "-C", headers, f"M={folder}", "KBUILD_MODPOST_WARN=1", "modules"], timeout=300)
        return {path.stem: path.read_bytes() for path in sorted(folder.glob("*.ko"))}


def _headers(kernel: Kernel) -> Path:
    """The folder that modules are built in, downloaded if this is its first use."""
    folder = lab_folder() / "headers" / kernel.release
    if not (folder / "headers.json").exists():
        with building(folder) as draft:
            _unpack(kernel, draft)
    return folder / "tree/usr/src" / f"linux-headers-{kernel.release}"


def _unpack(kernel: Kernel, folder: Path) -> None:
    suite = Suite(kernel.suite, kernel.architecture)
    series = _SERIES.match(kernel.release)
    if not series:
        raise LabError(f"kernel {kernel.release}: its release does not tell which kbuild it needs")
    common = _FLAVOUR.sub("-common", kernel.release)
    names = [f"linux-headers-{kernel.release}", f"linux-headers-{common}", f"linux-kbuild-{series[0]}"]
    say(f"headers of {kernel.release}: downloading {' '.join(names)}")
    packages = {}
    with tempfile.TemporaryDirectory(dir=folder) as work:
        for deb in suite.download(names, Path(work)):
            packages[deb.name] = hashlib.sha256(deb.read_bytes()).hexdigest()
            subprocess.run([tool("dpkg-deb"), "-x", deb, folder / "tree"], check=True, timeout=300)
    makefile = folder / "tree/usr/src" / names[0] / "Makefile"
    makefile.write_text(makefile.read_text().replace("/usr/src/", "../"))
    (folder / "headers.json").write_text(json.dumps({"packages": packages}, indent=1) + "\n")
