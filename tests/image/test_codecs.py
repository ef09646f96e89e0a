"""Streams of every compression: whole, followed by garbage, cut short, damaged, and made to explode."""

from __future__ import annotations

import importlib
import io
import random
import subprocess
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from kallsift import optional_package
from kallsift.arrays import Bytes
from kallsift.budget import WorkBudget
from kallsift.compression import codecs
from kallsift.compression.codecs import BY_NAME, CODECS, Codec, CodecError, Decoded, MissingCodecError
from tests.components import needs
from tests.image.builders import COMPRESS, kernel, lzop, with_size
from tests.image.opened import view
from tests.memory.strategies import damaged

NAMES = sorted(COMPRESS)
DATA = kernel(300_000)


def decode(codec: Codec, packed: Bytes, output: int = 1 << 30) -> Decoded:
    """As `codecs.decode`, to so many bytes at most."""
    return codecs.decode(codec, packed, WorkBudget(1 << 40, output))


def test_every_compression_of_the_kernel_is_there() -> None:
    assert sorted(BY_NAME) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 1 << 16, (1 << 20) - 1, 1 << 20, 3_000_001])
def test_whole_streams(name: str, size: int) -> None:
    data = kernel(size) if size > 1000 else b"x"
    stream = COMPRESS[name](data)
    decoded = decode(BY_NAME[name], view(stream))
    assert decoded.data.tobytes() == data
    assert decoded.used == len(stream)
    assert decoded.problem is None
    assert not decoded.data.flags.writeable


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("behind", [b"\0", b"1234567", b"\xff" * 100_000, "size"])
def test_what_is_behind_a_stream_does_not_matter(name: str, behind: bytes | str) -> None:
    stream = COMPRESS[name](DATA)
    extended = with_size(stream, DATA) if isinstance(behind, str) else stream + behind
    decoded = decode(BY_NAME[name], view(extended))
    assert decoded.data.tobytes() == DATA
    assert decoded.used == len(stream)
    assert decoded.problem is None


@pytest.mark.parametrize("name", NAMES)
def test_streams_are_recognised_by_their_first_bytes(name: str) -> None:
    found = codecs.recognise(view(COMPRESS[name](DATA)))
    assert found is not None
    assert found.name == name


def test_bytes_that_are_no_stream_are_not_recognised() -> None:
    assert codecs.recognise(view(b"")) is None
    assert codecs.recognise(view(DATA)) is None
    assert codecs.recognise(view(b"\x1f\x8b\x08\xff" + bytes(50))) is None


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_that_is_cut_short_gives_what_there_is(name: str) -> None:
    data = random.Random(3).randbytes(20_000_000 if name == "lz4" else 1_500_000)  # blocks of 8 MiB
    stream = COMPRESS[name](data)
    decoded = decode(BY_NAME[name], view(stream[: len(stream) * 2 // 3]))
    got = decoded.data.tobytes()
    assert decoded.problem is not None
    assert "cut short" in decoded.problem
    assert data.startswith(got)
    assert len(got) > 500_000


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_of_which_nothing_is_left_is_an_error(name: str) -> None:
    stream = COMPRESS[name](random.Random(3).randbytes(100_000))
    with pytest.raises(CodecError, match=f"^{name} stream "):
        decode(BY_NAME[name], view(stream[:9]))


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_damage_gives_fewer_bytes_or_an_error(name: str, data: st.DataObject) -> None:
    stream = data.draw(damaged(COMPRESS[name](kernel(5000))))
    try:
        decoded = decode(BY_NAME[name], view(stream), 1 << 20)
    except CodecError:
        return
    assert len(decoded.data) > 0
    assert decoded.used <= len(stream)


def bomb(name: str, size: int) -> bytes:
    """A stream of ``size`` zeros."""
    if name == "zstd":
        out = io.BytesIO()
        with zstd.open(out, "wb") as stream:
            for _ in range(size >> 20):
                stream.write(bytes(1 << 20))
        return out.getvalue()
    return COMPRESS[name](bytes(size))


@pytest.mark.parametrize("name", NAMES)
def test_a_bomb_costs_no_more_than_the_ceiling(name: str) -> None:
    stream = bomb(name, 48 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(CodecError, match="the limit of work for a file of this size"):
            decode(BY_NAME[name], view(stream), 4 << 20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20


def test_the_ratio_bounds_a_bomb_far_below_the_ceiling() -> None:
    stream = bomb("gzip", codecs.RATIO_FREE + (2 << 20))
    with pytest.raises(CodecError, match=f"more than {codecs.RATIO_FREE >> 20} MiB"):
        decode(BY_NAME["gzip"], view(stream))


@pytest.mark.parametrize("flags", [0, 1, 2, 3, 0x100, 0x300, 0x303])
@pytest.mark.parametrize("version", [0x0900, 0x0940, 0x1040])
def test_lzop_headers_of_all_kinds(flags: int, version: int) -> None:
    data = kernel(600_000)
    stream = lzop(data, flags, version, b"vmlinux.bin")
    decoded = decode(BY_NAME["lzo"], view(stream + b"behind"))
    assert decoded.data.tobytes() == data
    assert decoded.used == len(stream)


def test_a_large_window_is_refused() -> None:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 28, zstd.CompressionParameter.compression_level: 1}
    compressor = zstd.ZstdCompressor(options=options)
    stream = compressor.compress(bytes(100)) + compressor.flush()
    assert decode(BY_NAME["zstd"], view(zstd.compress(bytes(1000)))).problem is None
    with pytest.raises(CodecError, match="zstd stream is damaged"):
        decode(BY_NAME["zstd"], view(stream))


@pytest.mark.parametrize(
    ("name", "package"),
    [("zstd", "backports.zstd"), ("lz4", "lz4"), ("lz4 frame", "lz4"), ("lzo", "lzallright")],
)
def test_a_missing_package_is_named(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = importlib.import_module

    def without(module: str, *rest: Any) -> Any:
        if module.split(".")[0] in ("compression", "backports", "lz4", "lzallright"):
            raise ImportError(module)
        return genuine(module, *rest)

    stream = COMPRESS[name](DATA)
    optional_package.optional_package.cache_clear()
    monkeypatch.setattr(optional_package, "import_module", without)
    with pytest.raises(MissingCodecError) as caught:
        decode(BY_NAME[name], view(stream))
    assert f"needs the package {package}; pip install 'kallsift[images]'" in str(caught.value)


COMMANDS = {
    "gzip": ["gzip", "-9nc"],
    "xz": ["xz", "--check=crc32", "--x86", "--lzma2=dict=32MiB", "-c"],
    "lzma": ["xz", "--format=lzma", "-9c"],
    "bzip2": ["bzip2", "-9c"],
    "lz4": ["lz4", "-l", "-9", "-c"],
    "lz4 frame": ["lz4", "-9", "-c"],
    "zstd": ["zstd", "-22", "--ultra", "-c"],
    "lzo": ["lzop", "-9", "-c"],
}
"""The commands by which the kernel's own build packs (scripts/Makefile.lib)."""


@pytest.mark.parametrize("name", NAMES)
def test_what_the_genuine_program_writes(name: str, tmp_path: Path) -> None:
    command = COMMANDS[name]
    needs(command[0])
    data = kernel(9_000_000 if name == "lz4" else 2_000_000)  # more than one of its blocks
    (tmp_path / "data").write_bytes(data)
    with (tmp_path / "data").open("rb") as source:
        stream = subprocess.run(command, stdin=source, capture_output=True, check=True, timeout=60).stdout
    found = codecs.recognise(view(stream))
    assert found is BY_NAME[name]
    decoded = decode(found, view(with_size(stream, data)))
    assert decoded.data.tobytes() == data
    assert decoded.used == len(stream)


def test_patterns_match_within_the_header() -> None:
    for codec in CODECS:
        stream = COMPRESS[codec.name](DATA)
        ends = [match.end() for pattern in codec.patterns if (match := pattern.match(stream))]
        assert ends
        assert max(ends) <= codecs.HEADER_SIZE


def test_streams_of_either_properties_are_found_in_their_order() -> None:
    streams = [bytes((properties,)) + COMPRESS["lzma"](DATA)[1:] for properties in (0x6D, 0x5D, 0x6D)]
    joined = b"".join(streams)
    found = set(BY_NAME["lzma"].offsets(view(joined)))
    assert {0, len(streams[0]), 2 * len(streams[0])} <= found
    assert list(BY_NAME["lzma"].offsets(view(joined))) == sorted(found)
