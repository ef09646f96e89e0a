"""Damages at random what kallsift reads, and reads it: python -m tests.fuzz CONTAINER|rot|hostile|types|questions.

A container's name damages small valid files of it, and opens and reads them; a case that fails is kept as a file.
``rot`` changes single bytes in files of all packed containers: what does not unpack must be a hole, and nothing more.
``hostile`` sprays what passes for parts of kernels into a made machine's memory, and asserts what the search costs.
``types`` damages the types (BTF) of a made-up kernel, and asks all that can be asked of them.
``questions`` damages the memory of a real guest (``--guest``) where the questions to its running kernel read, and asks
all of them.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import cast

import numpy as np

from kallsift.errors import KallsiftError
from kallsift.memory.formats.registry import HEADER_SIZE, Container

from .hostile import hostile_trials
from .questions import question_trials
from .rot import rot_trials
from .samples import SAMPLES
from .trials import HOSTILE, Trials, refusal
from .types import type_trials

QUESTIONS, ROT, HOSTILE_MEMORY, TYPES = "questions", "rot", "hostile", "types"

READ_AT_MOST = 1 << 20
STRETCHES = 64
ENDS = np.array([0, (1 << 64) - 8], np.uint64)
"""The first and the last word of all addresses, which any memory can be asked for."""


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
            assert all(0 <= segment.start < segment.end <= 1 << 64 for segment in memory.segments)
            memory.words(ENDS, np.dtype("<u8"))
            for segment in memory.segments[:STRETCHES]:
                data = segment.read(0, READ_AT_MOST)
                assert len(data) == min(segment.size, READ_AT_MOST)
                assert len(segment.read(segment.size - 1)) == 1
    except KallsiftError as error:
        return refusal(error)
    return "memory"


def container_trials(container: str, seed: int) -> Trials:
    """Damaged files of a container."""
    module = cast(Container, import_module(f"kallsift.memory.formats.{container}"))
    samples = [sample() for sample in SAMPLES[container]]

    def content(number: int, chance: random.Random) -> bytes:
        return damaged(chance, samples[number % len(samples)])

    def keep(number: int) -> str:
        kept = Path(tempfile.gettempdir()) / f"kallsift-fuzz-{container}-{seed}-{number}"
        kept.write_bytes(content(number, random.Random(f"{seed} {number}")))
        return f"kept as {kept}"

    return Trials(container, lambda number, chance: attempt(module, content(number, chance)), keep)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Reads what is damaged for a while.")
    parser.add_argument("what", choices=[*sorted(SAMPLES), ROT, HOSTILE_MEMORY, TYPES, QUESTIONS])
    parser.add_argument("--guest", default="amd64-7.2", help="whose memory is damaged, for questions")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", type=int, help="try only the case of that number")
    options = parser.parse_args(arguments)
    if options.what == QUESTIONS:
        trials = question_trials(options.guest)
    elif options.what == HOSTILE_MEMORY:
        trials = hostile_trials()
    elif options.what == TYPES:
        trials = type_trials()
    elif options.what == ROT:
        trials = rot_trials(options.seed)
    else:
        trials = container_trials(options.what, options.seed)
    return trials.run(options.seed, options.seconds, options.case)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
