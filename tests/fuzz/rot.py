"""Bit rot in every packed container: a damaged byte costs what is packed together with it, and that is a hole.

Bytes of a valid file are changed behind its headers. All memory is read then, and each page must be what it was, or a
hole that is told; where the packing has a checksum there is nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import gettempdir

import numpy as np

from kallsift.errors import KallsiftError
from kallsift.memory.formats import avml, makedumpfile_flat
from kallsift.memory.formats.hyperv import saved_state
from kallsift.memory.formats.kdump import reader as kdump
from kallsift.memory.formats.qemu import migration_stream
from kallsift.memory.formats.registry import Container
from kallsift.memory.memory import Memory
from tests.memory.writers import avml as avml_writer
from tests.memory.writers import hyperv as hyperv_writer
from tests.memory.writers import kdump as kdump_writer
from tests.memory.writers import qemu

from .trials import FAILED, Trials

PAGE = 4096
START = 16 * PAGE
MAX_ROTTEN = 16


@dataclass(frozen=True)
class Sample:
    """A packed file.

    Attributes:
        module: what reads it.
        content: the file.
        begin: where its headers end, and what is packed begins.
        cost: pages that one damaged byte costs at most.
        is_checked: whether a checksum tells what is damaged.
        may_be_refused: whether what stands between the packed pages, if it is damaged, costs the file.
    """

    module: Container
    content: bytes
    begin: int
    cost: int
    is_checked: bool
    may_be_refused: bool = False


@cache
def ram() -> bytes:
    """192 pages: no two alike, some that shrink, some that do not."""
    chance = np.random.default_rng(11)
    shrinking = np.repeat(chance.integers(0, 256, 96 * PAGE // 8, np.uint8), 8)
    noise = chance.integers(0, 256, 32 * PAGE, np.uint8)
    words = chance.integers(0, 1 << 12, 64 * PAGE // 4, np.uint32).view(np.uint8)
    return np.concatenate([shrinking, noise, words]).tobytes()


def _pages() -> dict[int, bytes]:
    first = START // PAGE
    return {first + number: ram()[number * PAGE :][:PAGE] for number in range(len(ram()) // PAGE)}


def _kdump(packing: str) -> Sample:
    # pages that do not shrink are stored as they are, and have no checksum
    noisy = range(START // PAGE + 96, START // PAGE + 128)
    pages = {number: page for number, page in _pages().items() if packing != "zlib" or number not in noisy}
    content = kdump_writer.kdump(pages, kdump_writer.Kdump(packing=packing))
    first = int.from_bytes(content[4 * PAGE :][:8], "little")
    return Sample(kdump, content, first, 1, packing == "zlib")


def _flattened() -> Sample:
    inner = _kdump("zlib")
    content = kdump_writer.flattened(kdump_writer.cut(inner.content, 1 << 14))
    # a piece's header may be hit, and a piece has many packed pages
    return Sample(makedumpfile_flat, content, inner.begin + PAGE + (1 << 14), 64, True, True)


def _avml() -> Sample:
    # a chunk's header may be hit: then the one before it counts, too
    return Sample(avml, avml_writer.avml([(START, ram())]), 42, 32, True)


def _hyperv() -> Sample:
    content = hyperv_writer.saved_state(bytes(START) + ram() + bytes((64 << 12) - START), [(256, 0, 0)])
    begin = content.index(hyperv_writer.packed_page(ram()[:PAGE]))
    return Sample(saved_state, content[:], begin, 256, False, True)


def _qemu() -> Sample:
    name = "pc.ram"
    pages = [qemu.Page(name, number, page, "compressed") for number, page in _pages().items()]
    content = qemu.stream({name: START + len(ram())}, [pages], machine="pc-i440fx-7.2")
    return Sample(migration_stream, content, content.index(b"\x78\x9c"), 1, True, True)


SAMPLES: dict[str, Callable[[], Sample]] = {
    **{f"kdump, {packing}": partial(_kdump, packing) for packing in ("zlib", "lzo", "snappy", "zstd")},
    "flattened kdump": _flattened,
    "AVML": _avml,
    "Hyper-V": _hyperv,
    "QEMU, compressed": _qemu,
}
"""By name; whoever adds a packed container adds its row."""


@cache
def sample(name: str) -> Sample:
    """A file of `SAMPLES`, made once."""
    return SAMPLES[name]()


def rotten(name: str, chance: random.Random) -> tuple[bytes, int]:
    """A file with some bytes changed, and how many."""
    one = sample(name)
    data, count = bytearray(one.content), chance.choice((1, 1, 1, 2, 4, MAX_ROTTEN))
    for _ in range(count):
        data[chance.randrange(one.begin, len(data))] ^= chance.randrange(1, 256)
    return bytes(data), count


def judged(name: str, memory: Memory, count: int) -> str:
    """What came of a file with so many changed bytes."""
    one, holes, changed = sample(name), 0, 0
    found = np.zeros(len(ram()), np.uint8)
    for segment in memory.segments:
        low, high = max(segment.start, START), min(segment.end, START + len(ram()))
        if low < high:
            found[low - START : high - START] = segment.read(low - segment.start, high - segment.start)
    for page, number in enumerate(sorted(_pages())):
        ours, true = found[page * PAGE :][:PAGE].tobytes(), ram()[page * PAGE :][:PAGE]
        is_listed = memory.segment_at(number * PAGE) is not None
        holes += ours != true and not any(ours) and (is_listed or one.cost > 1)
        changed += ours != true and any(ours)
    if changed and one.is_checked:
        return f"{FAILED}: {changed} pages of {name} are wrong, and no holes"
    if holes + changed > count * one.cost:
        return f"{FAILED}: {count} damaged bytes of {name} cost {holes + changed} pages"
    if holes and not memory.remarks:
        return f"{FAILED}: holes of {name} are not told"
    return f"{name}: {'holes' if holes else 'changed' if changed else 'whole'}"


def attempt(number: int, chance: random.Random) -> str:
    """Damages a file and reads it."""
    name = list(SAMPLES)[number % len(SAMPLES)]
    content, count = rotten(name, chance)
    try:
        with sample(name).module.open("fuzz", np.frombuffer(content, np.uint8), lambda: None) as memory:
            return judged(name, memory, count)
    except KallsiftError as error:
        if not sample(name).may_be_refused or not str(error).isprintable():
            return f"{FAILED}: {name} is refused: {error}"
        return f"{name}: refused"


def rot_trials(seed: int) -> Trials:
    """Bit rot in all packed containers, one after the other."""

    def keep(number: int) -> str:
        name = list(SAMPLES)[number % len(SAMPLES)]
        kept = Path(gettempdir()) / f"kallsift-fuzz-rot-{seed}-{number}"
        kept.write_bytes(rotten(name, random.Random(f"{seed} {number}"))[0])
        return f"{name} kept as {kept}"

    return Trials("rot", attempt, keep)
