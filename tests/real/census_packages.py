"""Lists every kernel image that the Debian mirror still has: packages of all suites, and the installer's kernels."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen
from tempfile import TemporaryDirectory

from tests.lab.apt import Suite
from tests.lab.errors import LabError
from tests.lab.places import lab_folder, say
from tests.lab.tools import tool

SUITES = (
    *("bullseye", "bookworm", "trixie", "sid"),
    *("bullseye-security", "bookworm-security", "trixie-security"),
    *("experimental", "trixie-backports"),
)
ARCHITECTURES = (
    *("amd64", "arm64", "armhf", "armel", "i386", "mips64el"),
    *("mipsel", "ppc64el", "s390x", "riscv64", "loong64"),
)

_PACKAGE = re.compile(r"linux-(?:image|binary)-(\d.*?)(-unsigned)?")
_IMAGE = re.compile(r"(?:\./)?(?:boot/vmlinu[xz]-.*|usr/lib/(?:modules|linux)[^/]*/.*(?:vmlinu[xz]|/Image)[^/]*)")
_INSTALLER = re.compile(r"debian-installer-\d+-netboot-(.+)")
_NETBOOT = re.compile(
    r"\./usr/lib/debian-installer/images/[^/]+/[^/]+/(.*/(?:(?:vmlinu[xz]|uImage)[^/]*|linux|kernel\.debian))"
)
_META_PACKAGE = 1_000_000  # bytes; a package below carries no kernel
_LARGEST = 256 << 20  # bytes of an image


@dataclass(frozen=True)
class Image:
    """One kernel image of the mirror.

    Attributes:
        suite: the first suite that has it.
        architecture: Debian's name.
        package: the package's name.
        version: the package's.
        release: as the kernel's folder of modules is called; empty for the installer's.
        path: where in the installer's package it lies; empty for the others.
    """

    suite: str
    architecture: str
    package: str
    version: str
    release: str = ""
    path: str = ""

    @property
    def key(self) -> str:
        """A name for files; the same image in two suites has it once."""
        words = [self.package, self.version.partition(":")[2] or self.version, self.architecture, *self.path.split()]
        return re.sub(r"[ /]", "-", "_".join(words))

    def fetch(self, target: Path) -> None:
        """Puts the image at ``target``.

        Raises:
            LabError: if the mirror does not give it, or the package holds none.
        """
        with TemporaryDirectory(dir=target.parent) as folder:
            draft = Path(folder, "image")
            if self.path:
                unpacked = _unpacked_installer(self.suite, self.architecture, self.package, self.version)
                shutil.copyfile(unpacked[self.path], draft)
            else:
                (deb,) = Suite(self.suite, self.architecture).download([self.package], Path(folder))
                for _, data in members(deb, _IMAGE):
                    draft.write_bytes(data)
                    break
                else:
                    raise LabError(f"{deb.name} holds no kernel image")
            draft.rename(target)


def listed(suites: tuple[str, ...] = SUITES, architectures: tuple[str, ...] = ARCHITECTURES) -> Iterator[Image]:
    """Every image, each once, suite by suite; of a signed and an unsigned package the signed one."""
    seen = set()
    for suite in suites:
        for architecture in architectures:
            for image in (*_packages(suite, architecture), *_installer(suite, architecture)):
                # A signed package and the unsigned one of another suite are the same image too.
                identity = (image.release or image.package, image.version.split("+b")[0], architecture, image.path)
                if identity not in seen:
                    seen.add(identity)
                    yield image


def _packages(suite: str, architecture: str) -> Iterator[Image]:
    lists = Suite(suite, architecture)
    try:
        matches = [_PACKAGE.fullmatch(name) for name in lists.packages("linux-")]
        names = [match[0] for match in matches if match and not match[0].endswith(("-dbg", "-template"))]
        records = lists.records(names)
    except LabError as error:
        say(f"{suite} for {architecture}: {error.message}")
        return
    found: dict[str, dict[str, str]] = {}
    for record in sorted(records, key=lambda record: record["Package"]):
        match = _PACKAGE.fullmatch(record["Package"])
        if match and int(record["Size"]) >= _META_PACKAGE:
            found.setdefault(match[1], record)  # linux-binary-R, then linux-image-R, then linux-image-R-unsigned
    for release, record in sorted(found.items()):
        yield Image(suite, architecture, record["Package"], record["Version"], release)


def _installer(suite: str, architecture: str) -> Iterator[Image]:
    """The kernels of the installer for booting from the network. Its packages are for all architectures."""
    lists = Suite(suite, "amd64")
    try:
        names = [name for name in lists.packages("debian-installer-") if _INSTALLER.fullmatch(name)]
        for record in lists.records([name for name in names if name.endswith(f"-netboot-{architecture}")]):
            package, version = record["Package"], record["Version"]
            for path in _unpacked_installer(suite, architecture, package, version):
                yield Image(suite, architecture, package, version, path=path)
    except LabError as error:
        say(f"the installer of {suite} for {architecture}: {error.message}")


def _unpacked_installer(suite: str, architecture: str, package: str, version: str) -> dict[str, Path]:
    """The kernels of an installer package, each once, by their paths; unpacked on first use."""
    folder = lab_folder() / "installers" / f"{package}_{version}_{architecture}"
    if not folder.exists():
        say(f"{package}: downloading")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent) as temporary:
            (deb,) = Suite(suite, "amd64").download([package], Path(temporary))
            (draft := Path(temporary, "kernels")).mkdir()
            names: dict[str, str] = {}
            for path, data in members(deb, _NETBOOT):
                name = hashlib.sha256(data).hexdigest()
                if name not in names.values():  # the graphical installer has the same kernel
                    names[path] = name
                    (draft / name).write_bytes(data)
            (draft / "names.json").write_text(json.dumps(names, indent=1))
            draft.rename(folder)
    stored: dict[str, str] = json.loads((folder / "names.json").read_text())
    return {path: folder / name for path, name in stored.items()}


def members(deb: Path, wanted: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    """Files of a package whose paths fit, as their paths (or the part of them in parentheses) and contents.

    What stands behind the last one that is asked for is not even unpacked.
    """
    with Popen([tool("dpkg-deb"), "--fsys-tarfile", deb], stdout=PIPE) as package:
        try:
            with tarfile.open(fileobj=package.stdout, mode="r|") as tree:
                for member in tree:
                    match = wanted.fullmatch(member.name) if member.isfile() and member.size <= _LARGEST else None
                    stream = tree.extractfile(member) if match else None
                    if match and stream:
                        yield match[match.lastindex or 0], stream.read()
        except tarfile.TarError as error:
            raise LabError(f"could not unpack {deb.name}: {error}") from error
        finally:
            package.kill()
