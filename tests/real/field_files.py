"""Recover kernel files that public repositories carry, and compare each with an independent reading.

The files are no part of this repository: `field_files.toml` names them, and the command takes a folder that holds them
as ``OWNER+NAME/PATH``.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import kallsift
from tests.lab.places import lab_folder, say
from tests.real.census_table import agreement_text, map_agreement_text
from tests.real.census_truth import Reading, compare, compare_map, peer_reading

LIST = Path(__file__).with_suffix(".toml")

HEADING = """\
# Kernel files from public repositories

Kernels that somebody else built, none of them Debian's: phones, routers, cameras, boards, emulators. Written by
`python -m tests.real field FOLDER`, which recovers each file and compares it line by line with the `System.map` that
came with it, where there is one, and with `kallsyms-finder` of vmlinux-to-elf 1.4.0. None of these files is part of
this repository.

*identical* means names, types, order and addresses. Where vmlinux-to-elf reads other addresses, or none, the last
column says how the difference was judged.

| kernel | file | packaging | word, byte order | encoding | symbols | exit | compared |
|---|---|---|---|---|--:|--:|---|"""

ORDERS = {"<": "LE", ">": "BE"}


@dataclass(frozen=True)
class FieldFile:
    """A kernel file of a public repository.

    Attributes:
        repository: ``OWNER/NAME``.
        commit: the snapshot that it was taken from.
        path: inside the repository.
        map: path of the ``System.map`` that belongs to it, if there is one.
        refused: why it holds no table, checked by hand; empty if it holds one.
        judged: what was found out about a difference to another reading.
    """

    repository: str
    commit: str
    path: str
    map: str = ""
    refused: str = ""
    judged: str = ""

    def inside(self, folder: Path, path: str) -> Path:
        """Return where a file of the same repository is kept."""
        return folder / self.repository.replace("/", "+") / path


def field_files() -> list[FieldFile]:
    """Return all files of the list, in its order."""
    return [FieldFile(**entry) for entry in tomllib.loads(LIST.read_text())["file"]]


def write(folder: Path) -> int:
    """Print the table as Markdown; 1 if a file came out otherwise than the list says, else 0."""
    print(HEADING)
    failures = 0
    for entry in field_files():
        if not entry.inside(folder, entry.path).exists():
            say(f"{entry.repository}: {entry.path} is not in {folder}")
            failures += 1
            continue
        cells, good = _row(entry, folder)
        failures += not good
        print(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |", flush=True)
    return 1 if failures else 0


def _row(entry: FieldFile, folder: Path) -> tuple[list[str], bool]:
    path = entry.inside(folder, entry.path)
    name = f"`{entry.path}` of {entry.repository} at {entry.commit[:10]}"
    try:
        with kallsift.open(path) as memory:
            kernel = kallsift.recover(memory)
            packaging = memory.container if kernel.memory is memory else kernel.memory.container
            readings = list(_compared(entry, folder, kernel))
    except kallsift.KallsiftError as error:
        return ["", name, "", "", "", "", "1", entry.refused or f"**refused**: {error}"], bool(entry.refused)
    good = all(same for _, same in readings) or bool(entry.judged)
    words = "; ".join([*(text for text, _ in readings), *filter(None, [entry.judged])])
    word = f"{8 * kernel.symbols.word_size} {ORDERS[kernel.byte_order]}"
    count = f"{len(kernel.symbols):,}"
    code = "0" if kernel.proven else "3"
    return [_release(kernel), name, packaging, word, kernel.encoding, count, code, words], good and not entry.refused


def _release(kernel: kallsift.Kernel) -> str:
    words = (kernel.banner or "").split()
    release = words[2] if len(words) > 2 else "?"
    return release if kernel.architecture is None else f"{release} ({kernel.architecture})"


def _compared(entry: FieldFile, folder: Path, kernel: kallsift.Kernel) -> Iterator[tuple[str, bool]]:
    """Yield how the table compares with each other reading, and whether nothing differs."""
    if entry.map:
        linked = compare_map(kernel, Reading("System.map", entry.inside(folder, entry.map).read_bytes()))
        yield f"System.map: {map_agreement_text(asdict(linked))}", linked.found == linked.lines and not linked.letters
    path = entry.inside(folder, entry.path)
    kept = lab_folder() / "field" / f"{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.json.gz"
    kept.parent.mkdir(parents=True, exist_ok=True)
    reading = peer_reading(path, kept, run=True)
    if reading is None or not reading.text:
        yield f"vmlinux-to-elf fails ({reading.problem if reading else 'not run'})", bool(entry.map)
        return
    agreement = compare(kernel, reading)
    yield f"vmlinux-to-elf: {agreement_text(asdict(agreement), slides=False)}", agreement.identical
