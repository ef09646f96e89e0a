"""Damages valid files of a container at random, and opens and reads them: python -m tests.fuzz CONTAINER --seconds 600.

Whatever comes must be memory or an error of kallsift's own, in one line, within `PATIENCE`, and within `ROOM`. Every
case follows from the seed and its number; one that fails is kept as a file.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import tempfile
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import cast

import numpy as np

from kallsift.errors import KallsiftError
from kallsift.memory.containers import HEADER_SIZE, Container

from .samples import SAMPLES

PATIENCE = 5.0
"""Seconds that one case may take."""
ROOM = 4 << 30
"""Bytes of address space."""
READ_AT_MOST = 1 << 20
STRETCHES = 64

HOSTILE = (0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


def damaged(random_: random.Random, content: bytes) -> bytes:
    """The content after a few accidents: words overwritten, parts left out, repeated or moved, the end missing."""
    data = bytearray(content)
    for _ in range(random_.choice((1, 1, 2, 8))):
        place = random_.randrange(len(data) or 1)
        # Headers are short, and most of what can go wrong is in them.
        if random_.random() < 0.5:
            place %= 512
        length = random_.choice((1, 4, 8, 24, 100, 4096))
        match random_.randrange(6):
            case 0 | 1:
                value = random_.choice(HOSTILE) if random_.random() < 0.7 else random_.getrandbits(64)
                width = random_.choice((1, 2, 4, 8))
                word = (value % 256**width).to_bytes(width, "little")
                data[place : place + width] = word if random_.random() < 0.5 else word[::-1]
            case 2:
                data[place : place + 1] = bytes([random_.getrandbits(8)])
            case 3:
                del data[place : place + length]
            case 4:
                part = data[place : place + length]
                other = random_.randrange(len(data) or 1)
                data[other:other] = part * random_.choice((1, 1, 50))
            case _ if random_.random() < 0.3:
                del data[place:]
            case _:
                data[place : place + length] = random_.randbytes(length)
    return bytes(data)


def attempt(module: Container, content: bytes) -> str:
    """Opens and reads; "memory", "refused" or "not recognised"."""
    if not module.probe(content[:HEADER_SIZE]):
        return "not recognised"
    try:
        with module.open("fuzz", np.frombuffer(content, np.uint8), lambda: None) as memory:
            for segment in memory.segments[:STRETCHES]:
                data = segment.read(0, READ_AT_MOST)
                assert len(data) == min(segment.size, READ_AT_MOST)
                assert len(segment.read(segment.size - 1)) == 1
    except KallsiftError as error:
        return "refused" if str(error).isprintable() else "FAILED with an error that is not one printable line"
    return "memory"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Opens damaged files for a while.")
    parser.add_argument("container", choices=sorted(SAMPLES))
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))
    module = cast(Container, import_module(f"kallsift.memory.{options.container}"))
    samples = [sample() for sample in SAMPLES[options.container]]
    counts: dict[str, int] = {}
    slowest, failures, number = 0.0, 0, 0
    end = time.monotonic() + options.seconds
    while time.monotonic() < end and failures < 10:
        number += 1
        content = damaged(random.Random(f"{options.seed} {number}"), samples[number % len(samples)])
        started = time.monotonic()
        try:
            outcome = attempt(module, content)
        except Exception:
            outcome = "FAILED"
            traceback.print_exc()
        took = time.monotonic() - started
        slowest = max(slowest, took)
        if outcome.startswith("FAILED") or took > PATIENCE:
            failures += 1
            kept = Path(tempfile.gettempdir()) / f"kallsift-fuzz-{options.container}-{options.seed}-{number}"
            kept.write_bytes(content)
            print(f"case {number} of seed {options.seed}: {outcome} after {took:.1f} s, kept as {kept}")
        counts[outcome] = counts.get(outcome, 0) + 1
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    print(f"{options.container}: {number} cases: {told}; the slowest took {slowest:.2f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
