"""Debian's own ``scripts/kallsyms`` programs, out of the kernels' kbuild packages, each with its C library."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .apt import Suite
from .errors import LabError
from .places import alone, building, lab_folder, say
from .tools import tool

SUITES = ("bullseye", "bookworm", "bookworm-backports", "trixie", "trixie-backports", "sid", "experimental")

_ARCHITECTURE = "amd64"
_PACKAGE = re.compile(r"linux-kbuild-((\d+\.\d+)\S*)")
_LIBRARY = "libc6"
_LOADER = "ld-linux-x86-64.so.2"
_KEPT = {"kallsyms": "kallsyms", "libc.so.6": "lib/libc.so.6", _LOADER: f"lib/{_LOADER}"}


@dataclass(frozen=True)
class Program:
    """One release's program."""

    series: str  # such as 6.12
    package: str  # its file's name, which tells the whole version
    folder: Path

    def __str__(self) -> str:
        return self.folder.name

    def run(self, options: list[str], listing: bytes) -> str:
        """The assembler text for a listing such as nm prints, which the program reads from a file or from its input."""
        with tempfile.NamedTemporaryFile(suffix=".map") as file:
            file.write(listing)
            file.flush()
            library = self.folder / "lib"
            command = [str(library / _LOADER), "--library-path", str(library), str(self.folder / "kallsyms"), *options]
            if _numbers(self.series) >= [6]:  # earlier ones know no file
                command.append(file.name)
            done = subprocess.run(command, input=listing, capture_output=True, timeout=120)
        if done.returncode:
            raise LabError(f"kallsyms of {self} failed ({done.returncode})", done.stderr.decode(errors="replace"))
        return done.stdout.decode("latin-1")


def _folder() -> Path:
    return lab_folder() / "kbuild"


def programs() -> list[Program]:
    """Those that have been fetched, by their version."""
    found = [
        Program(facts["series"], facts["package"], path.parent)
        for path in _folder().glob("[0-9]*/kbuild.json")
        for facts in [json.loads(path.read_text())]
    ]
    return sorted(found, key=lambda program: _numbers(program.folder.name))


def fetch() -> list[Program]:
    """Downloads the newest program of each series and suite, unless that has been done."""
    with alone("kbuild", "kbuild.lock"):  # no guest is booted
        for name in SUITES:
            suite = Suite(name, _ARCHITECTURE)
            try:
                packages = suite.packages("linux-kbuild-")
            except LabError as error:
                say(f"kbuild: {error.message}")
                continue
            for package in _newest(packages):
                folder = _folder() / f"{package.removeprefix('linux-kbuild-')}-{name}"
                if not (folder / "kbuild.json").exists():
                    with building(folder) as draft:
                        _unpack(suite, package, draft)
    return programs()


def _newest(packages: list[str]) -> list[str]:
    """The newest package of each series."""
    series: dict[str, str] = {}
    for package in sorted(packages, key=_numbers):
        if match := _PACKAGE.fullmatch(package):
            series[match[2]] = package
    return list(series.values())


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def _unpack(suite: Suite, package: str, folder: Path) -> None:
    say(f"kbuild: downloading {package} of {suite.name}")
    (folder / "lib").mkdir()
    with tempfile.TemporaryDirectory(dir=folder) as work:
        # suites that only add to another one
        base = {"experimental": "sid"}.get(suite.name, suite.name.removesuffix("-backports"))
        suite.download([package], Path(work))
        debs = Suite(base, _ARCHITECTURE).download([_LIBRARY], Path(work))
        for deb in debs:
            subprocess.run([tool("dpkg-deb"), "-x", deb, f"{work}/tree"], check=True, timeout=120)
        for name, kept in _KEPT.items():
            tree = Path(work, "tree").resolve()
            # some links lead out of the tree
            found = [path.resolve() for path in tree.glob(f"**/{name}") if path.resolve().is_relative_to(tree)]
            files = [path for path in found if path.is_file()]
            if not files:
                raise LabError(f"{package} of {suite.name} has no {name}: leave the suite out of kbuild.py")
            shutil.copy2(files[0], folder / kept)
        facts = {
            "series": _PACKAGE.fullmatch(package)[2],  # type: ignore[index]
            "package": next(deb.name for deb in debs if deb.name.startswith(package)),
            "packages": {deb.name: hashlib.sha256(deb.read_bytes()).hexdigest() for deb in debs},
        }
    (folder / "kbuild.json").write_text(json.dumps(facts, indent=1) + "\n")
