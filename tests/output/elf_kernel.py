"""A kernel with an image for ELF files, and what others read in the file that is written of it."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from elftools.elf.elffile import ELFFile

from kallsift.addresses import PhysicalAddress, VirtualAddress
from kallsift.kernel.kernel import Kernel, TableLocation
from kallsift.memory.memory import AddressSpace, Hints, ImageFacts, Memory
from kallsift.memory.segments import BytesSegment
from kallsift.output.elf.writer import ElfFile
from tests.components import needs
from tests.output.sample import Row, kernel

BASE = 0xFFFFFFFF9FA00000
SOURCE = 0x5E00000
SIZE = 0x9000
SLIDE = 0x1EA00000
CONTENT = np.random.default_rng(3).integers(1, 256, SIZE, np.uint8)
ROWS: tuple[Row, ...] = (
    (0x0, "A", "fixed_percpu_data"),
    (0x1000, "a", "cpu_debug_store"),
    (BASE, "T", "_text"),
    (BASE, "T", "_stext"),
    (BASE + 0x40, "t", "init"),
    (BASE + 0x100, "W", "arch_weak"),
    (BASE + 0x123, "T", "last_function"),
    (BASE + 0x2000, "T", "_etext"),
    (BASE + 0x2000, "D", "__start_rodata"),
    (BASE + 0x2008, "r", "constant"),
    (BASE + 0x2010, "V", "weak_object"),
    (BASE + 0x2800, "R", "__start_notes"),
    (BASE + 0x2880, "R", "__stop_notes"),
    (BASE + 0x4000, "D", "__end_rodata"),
    (BASE + 0x4000, "D", "_sdata"),
    (BASE + 0x4100, "d", "datum"),
    (BASE + 0x5000, "?", "__nosave_begin"),
    (BASE + 0x5000, "R", "_edata"),
    (BASE + 0x6000, "B", "__bss_start"),
    (BASE + 0x6000, "b", "zeroed"),
    (BASE + 0x8000, "B", "__bss_stop"),
    (BASE + 0x9000, "B", "_end"),
    (BASE + 0x200000, "D", "scratch"),
)


def built(
    rows: Sequence[Row] = ROWS,
    content: np.ndarray[Any, np.dtype[np.uint8]] = CONTENT,
    *,
    gaps: Sequence[tuple[int, int]] = (),
    hints: Hints | None = None,
    space: AddressSpace = AddressSpace.PHYSICAL,
    image: ImageFacts | None = None,
    base: int = BASE,
    **changes: Any,
) -> Kernel:
    """Make a kernel whose image is ``content``, without the gaps (offsets, ascending)."""
    bounds = [0, *(at for gap in gaps for at in gap), len(content)]
    parts = [(a, b) for a, b in zip(bounds[::2], bounds[1::2], strict=True) if a < b]
    segments = tuple(BytesSegment(SOURCE + a, content[a:b]) for a, b in parts)
    found = Memory("dump", "raw", space, segments, hints or Hints(), image=image)
    place = TableLocation("names", PhysicalAddress(SOURCE + 0x2100), VirtualAddress(base + 0x2100), 0x100)
    return kernel(rows, memory=found, tables=(place,), distance=base - SOURCE & (1 << 64) - 1, **changes)


def written(file: ElfFile) -> bytes:
    return b"".join(bytes(chunk) for chunk in file.chunks)


def read(data: bytes) -> Any:
    """Read a file with pyelftools, whose types say too little."""
    return ELFFile(io.BytesIO(data))


def output_of(data: bytes, folder: Path, *command: str) -> tuple[str, str]:
    """Return what a program of binutils prints of a file, and what it complains of."""
    needs(command[0], package="binutils")
    path = folder / "vmlinux.elf"
    path.write_bytes(data)
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
    return done.stdout, done.stderr
