"""Reads any suite and architecture of the system's Debian mirror, in apt state of the lab's own."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError
from .places import alone, lab_folder, say
from .tools import run

_KEYRINGS = [Path(f"/usr/share/keyrings/debian-archive-keyring.{end}") for end in ("gpg", "pgp")]
_FRESH = 86400.0  # seconds for which downloaded lists are good


@dataclass(frozen=True)
class Source:
    """One address of the system's apt configuration with a suite it serves."""

    uri: str
    suite: str
    components: tuple[str, ...]


def read_one_line(text: str) -> list[Source]:
    """The entries of a sources.list."""
    found = []
    for line in text.splitlines():
        words = re.sub(r"\[[^\]]*\]", " ", line.partition("#")[0]).split()
        if len(words) >= 4 and words[0] == "deb":
            found.append(Source(words[1], words[2], tuple(words[3:])))
    return found


def read_deb822(text: str) -> list[Source]:
    """The entries of a .sources file."""
    found = []
    bare = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", bare):
        fields = {
            key.lower(): value.split()
            for key, value in re.findall(r"^([\w-]+):((?:.*)(?:\n[ \t].*)*)", stanza, re.MULTILINE)
        }
        if "deb" in fields.get("types", []) and fields.get("enabled") != ["no"]:
            components = tuple(fields.get("components", []))
            pairs = itertools.product(fields.get("uris", []), fields.get("suites", []))
            found += [Source(uri, suite, components) for uri, suite in pairs]
    return found


def system_sources(etc: Path = Path("/etc/apt")) -> list[Source]:
    """Every binary source the system's apt is set up with."""
    found = []
    for path in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]:
        if path.is_file() and path.suffix == ".list":
            found += read_one_line(path.read_text())
        elif path.is_file() and path.suffix == ".sources":
            found += read_deb822(path.read_text())
    return found


def mirrors(suite: str) -> list[tuple[str, str]]:
    """(address, suite) pairs that may hold ``suite``, best first, from the system's own apt sources."""
    main = [s for s in system_sources() if "main" in s.components]
    archive = [s.uri for s in main if "-security" not in s.suite and "/" not in s.suite]
    archive.sort(key=lambda uri: not uri.rstrip("/").endswith("/debian"))
    security = [s.uri for s in main if s.suite.endswith("-security")]
    if chosen := os.environ.get("KALLSIFT_LAB_MIRROR"):
        archive = [chosen]
    if not archive:
        raise LabError("no Debian archive in /etc/apt: set KALLSIFT_LAB_MIRROR to the address of one")
    if suite.endswith("-security"):
        return [(uri, suite) for uri in security[:1]] or [(archive[0], suite)]
    return [(archive[0], suite), *((uri, f"{suite}-security") for uri in security[:1])]


@dataclass(frozen=True)
class Suite:
    """One suite of the archive, for one architecture."""

    name: str
    architecture: str

    @property
    def _folder(self) -> Path:
        return lab_folder() / "apt" / f"{self.name}-{self.architecture}"

    def _apt(self, *words: str, timeout: float, folder: Path | None = None) -> str:
        here = self._folder
        settings = {
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Acquire::Check-Valid-Until": "false",
            "Dir::State": here,
            "Dir::State::Lists": here / "lists",
            "Dir::State::status": here / "status",
            "Dir::Cache": here / "cache",
            "Dir::Etc::SourceList": here / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
        }
        options = [f"-o{key}={value}" for key, value in settings.items()]
        with alone(f"apt of {self.name}", f"apt.{self.name}-{self.architecture}.lock"):
            return run([words[0], *options, *words[1:]], timeout=timeout, folder=folder).decode()

    def update(self) -> None:
        """Downloads the package lists anew, from the first mirror which has the suite."""
        here, failures = self._folder, []
        for folder in (here / "lists/partial", here / "cache/archives/partial"):
            folder.mkdir(parents=True, exist_ok=True)
        (here / "status").touch()
        keyring = next((path for path in _KEYRINGS if path.exists()), None)
        if keyring is None:
            raise LabError("no Debian keyring: install it with: apt-get install debian-archive-keyring")
        for uri, suite in mirrors(self.name):
            (here / "sources.list").write_text(f"deb [signed-by={keyring}] {uri} {suite} main\n")
            say(f"apt: lists of {suite} for {self.architecture}")
            try:
                self._apt("apt-get", "-qq", "update", timeout=600)
            except LabError as error:
                failures.append(error.detail)
            else:
                (here / "updated").touch()
                return
        raise LabError(
            f"the mirror has no {self.name} for {self.architecture}: set KALLSIFT_LAB_MIRROR to one that has",
            "\n".join(failures),
        )

    def _refresh(self) -> None:
        stamp = self._folder / "updated"
        if not stamp.exists() or time.time() - stamp.stat().st_mtime > _FRESH:
            self.update()

    def packages(self, prefix: str) -> list[str]:
        """The names of all packages which begin with ``prefix``."""
        self._refresh()
        return self._apt("apt-cache", "pkgnames", prefix, timeout=120).split()

    def records(self, packages: list[str]) -> list[dict[str, str]]:
        """What the lists say of packages: one line of each field of the newest version, by its name."""
        self._refresh()
        text = self._apt("apt-cache", "show", "--no-all-versions", *packages, timeout=120) if packages else ""
        return [
            dict(re.findall(r"^([\w-]+): (.*)$", stanza, re.MULTILINE))
            for stanza in text.split("\n\n")
            if stanza.strip()
        ]

    def download(self, packages: list[str], folder: Path) -> list[Path]:
        """The packages' files, downloaded into ``folder``."""
        self._refresh()
        command = ["apt-get", "-qq", "download", *packages]
        try:
            self._apt(*command, timeout=1800, folder=folder)
        except LabError:  # most often the archive has moved on since the lists were read
            self.update()
            self._apt(*command, timeout=1800, folder=folder)
        return sorted(folder.glob("*.deb"))

    def download_all(self, packages: Sequence[str], folder: Path) -> list[Path]:
        """The files of the packages and of all that they depend on, downloaded into ``folder``."""
        (folder / "partial").mkdir()
        words = ["--yes", "--no-install-recommends", "--download-only", f"-oDir::Cache::archives={folder}/", *packages]
        self.update()
        self._apt("apt-get", "-qq", "install", *words, timeout=1800)
        return sorted(folder.glob("*.deb"))
