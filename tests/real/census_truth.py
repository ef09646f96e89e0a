"""Independent readings of a kernel's symbols, and how a recovered table compares with them.

A reading is text in the format of ``/proc/kallsyms``: a guest's own, the linker's (``System.map`` of the ``-dbg``
package), or what another tool takes out of the image.
"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.peers import TOOLS, install
from kallsift import Kernel
from tests.lab.apt import Suite
from tests.lab.errors import LabError
from tests.lab.places import captures_folder, say
from tests.real.census_packages import Image, members
from tests.real.comparison import text_of, wrong_letters

PEER = next(tool for tool in TOOLS if tool.name.startswith("kallsyms-finder"))
PEER_TIMEOUT = 180.0  # seconds
LARGE = 400 << 20  # bytes of a -dbg package, beyond which it is only looked into where the peer does not agree
LARGEST = 1200 << 20


# What the two listings that the kernel's build makes of one nm output leave out of each other.
NOT_IN_THE_TABLE = re.compile(
    rb"kallsyms_|__efistub_|__kvm_nvhe_|.*\.(?:long|plt)_branch\."
)  # scripts/kallsyms.c, 5.10 to 6.12
NO_DATA = re.compile(rb"_etext$|__start_|__stop_")  # what a table without CONFIG_KALLSYMS_ALL has for data at most
NOT_IN_THE_MAP = re.compile(rb"\.L")  # scripts/mksysmap, 5.10


@dataclass(frozen=True)
class Reading:
    """Somebody else's reading of a kernel's symbols.

    Attributes:
        source: who read it.
        text: lines ``address type name``; empty if there are none.
        problem: why there are none.
    """

    source: str
    text: bytes
    problem: str = ""


@dataclass(frozen=True)
class Agreement:
    """How a recovered table compares with a reading.

    Attributes:
        lines: lines of the reading.
        names: whether both have the same names in the same order.
        letters: number of type letters that differ.
        excused: how many of these are the ones that the guest's own kernel reads from the wrong byte.
        shifts: by how much addresses differ, and how often, most often first; at most four.
        first: the first two lines that differ in more than the address, theirs and ours.
    """

    lines: int
    names: bool
    letters: int
    excused: int
    shifts: tuple[tuple[int, int], ...]
    first: tuple[str, str] | None

    @property
    def identical(self) -> bool:
        """Whether nothing differs at all."""
        return self.names and not self.letters and all(not shift for shift, _ in self.shifts)


@dataclass(frozen=True)
class MapAgreement:
    """How a recovered table compares with the linker's ``System.map``, which has some symbols more.

    Attributes:
        lines: symbols that were recovered.
        found: how many of them the map has at the same address.
        letters: how many of those have another type letter; absolute ones do not count, for so does the kernel's
            build make per-CPU variables.
        lost: symbols of the map that were not recovered, but for those that the kernel's build leaves out.
        first: the first symbol that differs.
    """

    lines: int
    found: int
    letters: int
    lost: int
    first: str | None


def guest_reading(image: Image) -> Reading | None:
    """What a guest of the lab that ran this very package had in ``/proc/kallsyms``, if there is one."""
    deb = f"{image.package}_{image.version}_{image.architecture}.deb"
    for path in sorted(captures_folder().glob("*/manifest.json")):
        manifest = json.loads(path.read_text())
        truth = path.parent / "truth" / "kallsyms"
        if deb in manifest["kernel"].get("packages", {}) and truth.exists():
            lines = truth.read_bytes().splitlines(keepends=True)
            return Reading(f"guest {manifest['name']}", b"".join(line for line in lines if b"\t[" not in line))
    return None


def map_reading(image: Image, kept: Path, largest: int) -> Reading | None:
    """The ``System.map`` of the image's ``-dbg`` package; kept.

    Args:
        image: the image.
        kept: file for the map.
        largest: of how many bytes the package may be, if it has to be downloaded.
    """
    if not kept.exists():
        if not largest or not image.release:
            return None
        suite, package = Suite(image.suite, image.architecture), f"linux-image-{image.release}-dbg"
        known = suite.records([package] if package in suite.packages(package) else [])
        if not known or known[0]["Version"] != image.version or int(known[0]["Size"]) > largest:
            return None
        with TemporaryDirectory(dir=kept.parent) as folder:
            try:
                (deb,) = suite.download([package], Path(folder))
            except LabError as error:
                # as some packages are, which are listed
                say(f"{image.key}: without {package}: {error.message}")
                return None
            wanted = re.compile(r"\./usr/lib/debug/.*/System\.map[^/]*")  # in boot/, since 7.x in lib/modules/
            data = next((data for _, data in members(deb, wanted)), b"")
        kept.write_bytes(gzip.compress(data, 1))
    text = gzip.decompress(kept.read_bytes())
    return Reading("System.map of -dbg", text) if text else None


def peer_reading(image: Path, kept: Path, run: bool) -> Reading | None:
    """What vmlinux-to-elf's ``kallsyms-finder`` prints of the image; kept, for it takes long.

    Args:
        image: the image as it is in its package: the peer unpacks it itself.
        kept: file with its answer.
        run: whether to run it if it has not been.
    """
    if not kept.exists():
        if not run:
            return None
        install(PEER)
        try:
            done = subprocess.run(PEER.line(image, kept), capture_output=True, timeout=PEER_TIMEOUT)
            lines = [line for line in done.stdout.splitlines(keepends=True) if line[:1] in b"0123456789abcdef"]
            problem = (done.stderr.decode(errors="replace").strip().splitlines() or [""])[-1] if done.returncode else ""
        except subprocess.TimeoutExpired:
            lines, problem = [], f"no answer within {PEER_TIMEOUT:.0f} s"
        if not lines and not problem:
            problem = "no symbols"
        kept.write_bytes(gzip.compress(json.dumps([problem, b"".join(lines).decode("latin-1")]).encode(), 1))
    stored: tuple[str, str] = json.loads(gzip.decompress(kept.read_bytes()))
    problem, text = stored
    return Reading("vmlinux-to-elf", b"" if problem else text.encode("latin-1"), problem[:200])


def compare_map(kernel: Kernel, reading: Reading) -> MapAgreement:
    """Holds a recovered table against the linker's map."""
    ours, theirs = ([_parsed(line) for line in text.splitlines()] for text in (text_of(kernel), reading.text))
    found, linked = (Counter((address, name) for address, _, name in lines) for lines in (ours, theirs))
    extra = Counter({key: n for key, n in (found - linked).items() if not NOT_IN_THE_MAP.match(key[1])})
    lost = linked - found
    types = {(address, name): letter for address, letter, name in ours}
    absolute = {(address, name) for address, letter, name in theirs if letter in b"Aa"}
    text_only = not any(letter in b"BbDd" and not NO_DATA.match(name) for _, letter, name in ours)
    ranges = _text_ranges(theirs) if text_only else [(0, 1 << 64)]
    # of the symbols where a range ends only the one that says so is taken, even where another range begins
    ends = {end for _, end in ranges}
    missing = [
        (address, name)
        for address, name in lost.elements()
        if (address, name) not in absolute
        and not NOT_IN_THE_TABLE.match(name)
        and any(start <= address < end for start, end in ranges)
        and address not in ends
    ]
    letters = sum(
        types.get((address, name), letter) not in (letter, b"A") for address, letter, name in theirs if letter != b"A"
    )
    first = next((f"{address:x} {name.decode('latin-1')}" for address, name in [*extra, *missing]), None)
    return MapAgreement(len(ours), found.total() - extra.total(), letters, len(missing), first)


def _parsed(line: bytes) -> tuple[int, bytes, bytes]:
    address, letter, name = line.split(b" ", 2)
    return int(address, 16), letter, name


def _text_ranges(linked: list[tuple[int, bytes, bytes]]) -> list[tuple[int, int]]:
    """Where a symbol must be to get into a table without ``CONFIG_KALLSYMS_ALL``."""
    places = {name: address for address, _, name in linked}
    pairs = ((b"_stext", b"_etext"), (b"_sinittext", b"_einittext"))
    return [(places[start], places[end]) for start, end in pairs if start in places and end in places]


def compare(kernel: Kernel, reading: Reading) -> Agreement:
    """Holds a recovered table against a reading."""
    theirs, ours = reading.text.splitlines(), text_of(kernel).splitlines()
    names = [line.split(b" ", 2)[2:] for line in theirs] == [line.split(b" ", 2)[2:] for line in ours]
    letters = excused = 0
    first = None
    shifts: Counter[int] = Counter()
    doubtful = wrong_letters(kernel.memory, kernel) if names else {}
    for number, (their, our) in enumerate(zip(theirs, ours, strict=False)):
        (address, _, rest), (mine, _, own) = their.partition(b" "), our.partition(b" ")
        if rest != own:
            first = first or (their.decode("latin-1"), our.decode("latin-1"))
            letters += 1
            excused += number in doubtful and rest == doubtful[number] + own[1:]
        shifts[int(address, 16) - int(mine, 16)] += 1
    if not names and first is None:
        first = (f"{len(theirs)} lines", f"{len(ours)} lines")
    return Agreement(len(theirs), names, letters, excused, tuple(shifts.most_common(4)), first)
