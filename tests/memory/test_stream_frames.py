"""Dumps that are compressed as a whole and damaged in the middle: what is packed independently behind it is kept."""

from __future__ import annotations

import bz2
import gzip
import subprocess
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from shutil import which
from typing import Any

import numpy as np
import pytest

from kallsift.budget import WorkBudget
from kallsift.compression.bzip2_rest import bzip2_rest
from kallsift.compression.stream_frames import Break, StreamDamage
from kallsift.errors import UnmappedError
from kallsift.memory.formats import registry as containers
from kallsift.memory.memory import Memory
from tests.image.builders import lzop
from tests.memory.builders import elf, lime, load

pytestmark = pytest.mark.sampled(2)

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
    "lzop": (lambda: lzop(RAM), 1 << 18),
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


BLOCK = 100_000
"""What a block of bzip2 -1 unpacks to, but for 19 bytes, where hardly any byte repeats."""


def _marks(packed: bytes | bytearray) -> list[int]:
    """The bits at which blocks of bzip2 begin."""
    bits = "".join(f"{byte:08b}" for byte in packed)
    mark = f"{0x314159265359:048b}"
    found = [bits.find(mark)]
    while found[-1] >= 0:
        found.append(bits.find(mark, found[-1] + 1))
    return found[:-1]


def _number(offset: np.int64) -> int:
    """The number of the block that holds an offset in a source in which few bytes repeat."""
    return int(offset + BLOCK // 50) // BLOCK


CONTAINED: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda ram: ram,
    "elf": lambda ram: elf([load(0x1000, ram[: MIB // 2]), load(1 << 32, ram[MIB // 2 :])]),
    "lime": lambda ram: lime([(0x1000, ram[: MIB // 2]), (1 << 32, ram[MIB // 2 :])]),
}


@pytest.mark.parametrize("container", CONTAINED)
@pytest.mark.parametrize("number", [0, 3, 8])
@pytest.mark.parametrize("streams", [1, 3])
def test_a_lost_block_of_bzip2_is_a_hole(container: str, number: int, streams: int) -> None:
    content = CONTAINED[container](RAM[: 2 * MIB])
    step = -(-len(content) // streams)
    packed = bytearray(b"".join(bz2.compress(content[low : low + step], 1) for low in range(0, len(content), step)))
    marks = _marks(packed)
    place = (marks[number] + marks[number + 1]) // 16
    packed[place : place + 16] = bytes(16)
    if number == 0 and container != "raw":
        pytest.skip("the first block holds the headers")
    memory = _read(bytes(packed))
    whole = _read(content)
    assert [(one.start, one.size) for one in memory.segments] == [(one.start, one.size) for one in whole.segments]
    lost = 0
    for found, expected in zip(memory.segments, whole.segments, strict=True):
        wrong = np.flatnonzero(found.read() != expected.read())
        assert not len(wrong) or wrong[-1] - wrong[0] < BLOCK + 1000
        assert not any(
            memory.is_readable(found.start + offset, 1) for offset in np.unique(wrong // 4096 * 4096).tolist()
        )
        lost += len(wrong)
    assert lost > BLOCK // 2
    (note,) = memory.notes
    assert "bytes in the middle of it are lost" in note


def test_of_two_lost_blocks_of_bzip2_what_is_between_is_lost_too() -> None:
    packed = bytearray(bz2.compress(RAM[: 2 * MIB], 1))
    marks = _marks(packed)
    for number in (3, 6):
        place = (marks[number] + marks[number + 1]) // 16
        packed[place : place + 16] = bytes(16)
    memory = _read(bytes(packed))
    found = memory.segments[0].read()
    wrong = np.flatnonzero(found != np.frombuffer(RAM[: 2 * MIB], np.uint8))
    assert (_number(wrong[0]), wrong[-1] // BLOCK) == (3, 6)
    assert memory.read(180 << 12, 4096).tobytes() == RAM[180 << 12 : 181 << 12]


def test_a_lost_mark_of_bzip2_costs_two_blocks() -> None:
    packed = bytearray(bz2.compress(RAM[: 2 * MIB], 1))
    place = _marks(packed)[4] // 8
    packed[place : place + 6] = bytes(6)
    memory = _read(bytes(packed))
    wrong = np.flatnonzero(memory.segments[0].read() != np.frombuffer(RAM[: 2 * MIB], np.uint8))
    assert (_number(wrong[0]), wrong[-1] // BLOCK) == (3, 4)


def _with_blank_pages(pages: int) -> bytes:
    """Memory of which four of five pages are blank, so that one block of bzip2 holds some MiB of it."""
    filled = iter(_parts(4096))
    return b"".join(next(filled) if number % 5 == 0 else bytes(4096) for number in range(pages))


def _damaged_blocks(content: bytes, numbers: tuple[int, ...]) -> bytes:
    """Content that is packed with bzip2, with a damaged bit near the end of some blocks."""
    packed = bytearray(bz2.compress(content, 9))
    marks = [*_marks(packed), 8 * len(packed) - 80]
    for begin, end in (tuple(pairwise(marks))[number] for number in numbers):
        packed[(begin + 9 * end) // 80] ^= 0x10
    return bytes(packed)


@pytest.mark.parametrize("container", ["raw", "elf"])
@pytest.mark.parametrize("numbers", [(1,), (2,), (-1,), (1, 2), (1, -1)])
def test_of_a_damaged_block_of_bzip2_that_is_larger_than_a_piece_nothing_is_kept(
    container: str, numbers: tuple[int, ...]
) -> None:
    ram = _with_blank_pages(4096)
    content = ram if container == "raw" else elf([load(0, ram)])
    memory = _read(_damaged_blocks(content, numbers))
    expected = np.frombuffer(ram, np.uint8)
    (segment,) = memory.segments
    readable = [
        start for start in range(0, segment.size, 4096) if memory.is_readable(start, min(4096, segment.size - start))
    ]
    for start in readable:
        found = memory.read(start, min(4096, segment.size - start))
        assert np.array_equal(found, expected[start : start + len(found)])
    if numbers[-1] > 0:
        # the end is where it belongs
        assert readable[-1] == len(ram) - 4096
    else:
        assert segment.size < len(ram) - 4096


def test_padding_behind_a_damaged_file_of_bzip2_is_no_lost_block() -> None:
    ram = _with_blank_pages(4096)
    memory = _read(_damaged_blocks(ram, (1,)) + bytes(1 << 12))
    assert memory.segments[0].size == len(ram)


def test_blocks_of_bzip2_whose_checksums_are_wrong_are_not_all_decompressed() -> None:
    block = bytearray(bz2.compress(bytes(40 * MIB), 9))
    block[10] ^= 1
    budget = WorkBudget(1 << 30, 0)
    (found,) = bzip2_rest(StreamDamage(memoryview(bytes(block) * 100), 0, 0, budget))
    assert isinstance(found, Break)
    assert found.least < 10 * 900_000
    assert budget.work < MIB


def test_a_lost_size_that_is_only_likely_is_told() -> None:
    ram = _with_blank_pages(4096)
    for content, is_guess in ((ram, True), (elf([load(0, ram)]), False)):
        (note,) = _read(_damaged_blocks(content, (1,))).notes
        assert "bytes in the middle of it are lost" in note
        assert ("addresses after them may be wrong" in note) == is_guess


def test_several_lost_parts_of_lzop_of_which_one_is_the_end() -> None:
    packed = lzop(elf([load(0, RAM)]))
    offsets = _block_offsets(packed)
    memory = _read(packed[: offsets[5] + 9] + packed[offsets[8] - 100 : offsets[12] + 50])
    # what lies between is left out, because nothing tells where it ends
    assert memory.segments[0].read().tobytes() == RAM[: memory.segments[0].size]
    assert memory.segments[0].size > 5 * 250_000


def _block_offsets(packed: bytes | bytearray) -> list[int]:
    """Where the headers of lzop's full blocks stand."""
    offsets = [packed.find((1 << 18).to_bytes(4, "big"))]
    while (following := offsets[-1] + 12 + int.from_bytes(packed[offsets[-1] + 4 :][:4], "big")) < len(packed) - 4:
        offsets.append(following)
    return offsets


@pytest.mark.parametrize(("low", "high", "is_lost"), [(0, 4, False), (4, 8, False), (0, 8, False), (0, 12, True)])
def test_a_block_of_lzop_with_a_damaged_header_is_found_by_the_next_one(low: int, high: int, is_lost: bool) -> None:
    packed = bytearray(lzop(RAM))
    offset = _block_offsets(packed)[7]
    packed[offset + low : offset + high] = b"\xff" * (high - low)
    memory = _read(bytes(packed))
    found = memory.segments[0].read().tobytes()
    expected = RAM[: 7 << 18] + bytes(1 << 18) + RAM[8 << 18 :] if is_lost else RAM
    assert found == expected


def test_lzop_of_which_blocks_are_missing_keeps_the_end() -> None:
    packed = lzop(RAM[: 4 * MIB])
    offsets = _block_offsets(packed)
    memory = _read(packed[: offsets[5] + 9] + packed[offsets[8] - 100 :])
    found = memory.segments[0].read().tobytes()
    assert found == RAM[: 5 << 18] + bytes(3 << 18) + RAM[8 << 18 : 4 * MIB]
    assert not memory.is_readable(6 << 18, 1)


def test_checksums_of_lzop_tell_of_a_block_that_unpacks_to_something_else() -> None:
    packed = bytearray(lzop(RAM[:MIB]))
    packed[_block_offsets(packed)[1] + 8] ^= 1
    memory = _read(bytes(packed))
    assert not memory.is_readable(1 << 18, 1)
    assert memory.is_readable(0, 1 << 18)
    assert memory.is_readable(2 << 18, 1 << 18)


@pytest.mark.parametrize("number", [0, 7, 18])
def test_a_size_of_lzop_that_becomes_the_end_mark_does_not_end_the_dump(number: int) -> None:
    packed = bytearray(lzop(RAM))
    packed[_block_offsets(packed)[number] + 1] ^= 4
    memory = _read(bytes(packed))
    assert memory.segments[0].read().tobytes() == RAM
    assert "is damaged" in memory.notes[0]


def test_padding_behind_the_end_mark_of_lzop_is_no_damage() -> None:
    for tail in (bytes(1 << 14), b"signature"):
        memory = _read(lzop(RAM) + tail)
        assert (memory.segments[0].read().tobytes(), memory.notes) == (RAM, ())


def test_two_streams_of_lzop_are_one_dump() -> None:
    memory = _read(lzop(RAM[:MIB]) + lzop(RAM[MIB:]))
    assert (memory.segments[0].read().tobytes(), memory.notes) == (RAM, ())


def test_a_damaged_block_of_lzop_with_a_damaged_size_keeps_the_offsets_behind_it() -> None:
    packed = bytearray(lzop(RAM))
    offset = _block_offsets(packed)[3]
    packed[offset : offset + 4] = (250_000).to_bytes(4, "big")
    packed[offset + 20 : offset + 40] = bytes(20)
    memory = _read(bytes(packed))
    assert memory.segments[0].size == len(RAM)
    assert not memory.is_readable(3 << 18, 1 << 18)
    assert memory.read(4 << 18, MIB).tobytes() == RAM[4 << 18 :][:MIB]


def test_a_hole_at_the_very_end_behind_missing_blocks_of_lzop() -> None:
    packed = lzop(RAM[: 4 * MIB])
    offsets = _block_offsets(packed)
    content = bytearray(packed[: offsets[5] + 9] + packed[offsets[8] - 100 :])
    content[-200:-100] = bytes(100)
    memory = _read(bytes(content))
    assert memory.segments[0].size == 4 * MIB
    assert not memory.is_readable(15 << 18, 1)
    assert memory.read(14 << 18, 4096).tobytes() == RAM[14 << 18 :][:4096]
