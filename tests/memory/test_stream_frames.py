"""Dumps that are compressed as a whole and damaged in the middle: what is packed independently behind it is kept."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Callable
from importlib import import_module
from shutil import which
from typing import Any

import numpy as np
import pytest

from kallsift.errors import UnmappedError
from kallsift.memory.formats import registry as containers
from kallsift.memory.memory import Memory

MIB = 1 << 20
CHANCE = np.random.default_rng(2)
RAM = CHANCE.integers(0, 16, 5 * MIB + 12345, np.uint8).tobytes()
"""Packs to half its size."""


def _read(data: bytes) -> Memory:
    return containers.open_mapped("dump", np.frombuffer(data, np.uint8))


def _parts(size: int) -> list[bytes]:
    return [RAM[start : start + size] for start in range(0, len(RAM), size)]


def _zstd(content: bytes) -> bytes:
    try:
        zstd: Any = import_module("compression.zstd")
    except ImportError:
        zstd = import_module("backports.zstd")
    options = {zstd.CompressionParameter.checksum_flag: 1, zstd.CompressionParameter.content_size_flag: 1}
    packed: bytes = zstd.compress(content, options=options)
    return packed


def _lz4(content: bytes) -> bytes:
    frame: Any = import_module("lz4.frame")
    packed: bytes = frame.compress(content, block_size=4, block_linked=False, block_checksum=True)
    return packed


def _xz(content: bytes) -> bytes:
    if which("xz") is None:
        pytest.skip("needs xz, which writes several blocks")
    command = ["xz", "--compress", "--stdout", f"--block-size={MIB}", "-0", "-T1"]
    return subprocess.run(command, input=content, capture_output=True, check=True).stdout


FORMS: dict[str, tuple[Callable[[], bytes], int]] = {
    "gzip": (lambda: b"".join(gzip.compress(part, 1, mtime=0) for part in _parts(MIB)), MIB),
    "zstd": (lambda: b"".join(_zstd(part) for part in _parts(MIB)), MIB),
    "lz4": (lambda: _lz4(RAM), 1 << 16),
    "xz": (lambda: _xz(RAM), MIB),
}
"""How a dump is packed, and how much is packed independently."""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.85])
def test_what_lies_behind_damage_is_kept_where_it_belongs(form: str, share: float) -> None:
    pack, unit = FORMS[form]
    content = bytearray(pack())
    whole = _read(bytes(content))
    assert (whole.segments[0].read().tobytes(), whole.notes) == (RAM, ())
    place = int(len(content) * share)
    content[place : place + 16] = bytes(16)
    memory = _read(bytes(content))
    found = memory.segments[0].read().tobytes()
    assert len(found) == len(RAM)
    wrong = np.flatnonzero(np.frombuffer(found, np.uint8) != np.frombuffer(RAM, np.uint8))
    assert len(wrong)
    assert wrong[0] // unit == wrong[-1] // unit
    (note,) = memory.notes
    assert "is damaged" in note
    # what is lost is a hole, and so is what comes of the damaged part
    (remark,) = memory.unreadable_remarks
    assert remark.endswith("pages are not in the stream; they are read as holes")
    pages = np.unique(wrong // 4096).tolist()
    assert not any(memory.is_readable(page * 4096, 1) for page in pages)
    with pytest.raises(UnmappedError):
        memory.read(int(wrong[0]), 1)
    kept = 0 if share > 0.2 else 4 * MIB
    assert memory.read(kept, 4096).tobytes() == RAM[kept : kept + 4096]


@pytest.mark.parametrize("form", FORMS)
def test_several_damages_cost_what_they_hit(form: str) -> None:
    pack, unit = FORMS[form]
    content = bytearray(pack())
    for share in (0.2, 0.6):
        content[int(len(content) * share) :][:16] = bytes(16)
        place = int(len(content) * share)
        content[place : place + 16] = bytes(16)
    found = _read(bytes(content)).segments[0].read().tobytes()
    assert len(found) == len(RAM)
    wrong = np.flatnonzero(np.frombuffer(found, np.uint8) != np.frombuffer(RAM, np.uint8))
    assert len({place // unit for place in wrong.tolist()}) == 2


def test_one_stream_of_gzip_keeps_what_is_before_the_damage() -> None:
    content = bytearray(gzip.compress(RAM, 1))
    content[len(content) // 2 :][:16] = bytes(16)
    content[len(content) // 2 : len(content) // 2 + 16] = bytes(16)
    memory = _read(bytes(content))
    found = memory.segments[0].read().tobytes()
    assert len(RAM) // 3 < len(found)
    assert found[: len(RAM) // 3] == RAM[: len(RAM) // 3]
    assert "bytes could be unpacked" in memory.notes[0]
