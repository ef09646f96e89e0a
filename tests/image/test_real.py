"""Debian's own kernel images, as far as the lab has downloaded them: unpacked by kallsift and by the usual programs."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from kallsift.image import kernel_signature
from kallsift.image import open as sources
from kallsift.memory.memory import AddressSpace
from tests.components import needs
from tests.lab.places import lab_folder

PROGRAMS = {
    "gzip": ["gzip", "-dcq"],
    "xz": ["xz", "-dcq", "--single-stream"],
    "lzma": ["xz", "--format=lzma", "-dcq"],
    "bzip2": ["bzip2", "-dcq"],
    "lz4": ["lz4", "-dcq"],
    "lzo": ["lzop", "-dcq"],
    "zstd": ["zstd", "-dcq", "--memory=256MB"],
}

IMAGES = sorted(
    path
    for pattern in ("boot/vmlinu?-*", "usr/lib/modules/*/vmlinu?")
    for path in (lab_folder() / "kernels").glob(f"*/tree/{pattern}")
    if path.is_file()
)


@pytest.mark.lab
@pytest.mark.skipif(not IMAGES, reason="no kernels downloaded: python -m tests.lab")
@pytest.mark.parametrize("path", IMAGES, ids=lambda path: str(path.relative_to(lab_folder() / "kernels").parts[0]))
def test_the_bytes_are_those_that_the_usual_program_unpacks(path: Path) -> None:
    memory = sources.open(path)
    assert memory.notes == ()
    assert memory.image is not None
    assert memory.image.architecture is not None
    assert any(kernel_signature.holds_token_table(segment.read()) for segment in memory.segments)
    expected = path.read_bytes()
    codec = memory.image.packaging[-1] if memory.image.packaging else None
    if codec is not None:
        needs(PROGRAMS[codec][0])
        # it complains about the size that stands behind the stream, after it has unpacked all
        stream = expected[memory.image.offset :]
        expected = subprocess.run(PROGRAMS[codec], input=stream, capture_output=True, timeout=60).stdout
    if memory.space is AddressSpace.VIRTUAL:
        loads = [one for one in ELFFile(io.BytesIO(expected)).iter_segments("PT_LOAD") if one["p_filesz"]]
        assert len(loads) == len(memory.segments)
        for load in loads:
            assert memory.read(load["p_vaddr"], load["p_filesz"]).tobytes() == load.data()
        return
    (segment,) = memory.segments
    ours, theirs = segment.read(), np.frombuffer(expected, np.uint8)
    assert len(ours) == len(theirs)
    changed = np.flatnonzero(ours != theirs)
    # link-time values are put into nothing but zeros
    assert not theirs[changed].any()
    assert not len(changed) or memory.image.base is not None
