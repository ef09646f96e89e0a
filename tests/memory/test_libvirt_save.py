"""libvirt's save files: each compression, both byte orders, and what is wrong with them in one line."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kallsift.memory import spool
from kallsift.memory.formats import libvirt_save
from kallsift.optional_package import optional_package
from tests.components import needs
from tests.examples import examples
from tests.memory.opened import open_bytes, ranges, read_or_refuse, refusal
from tests.memory.strategies import damaged
from tests.memory.writers.libvirt import header
from tests.memory.writers.qemu import PAGE, Page, flat, stream

PAGES = [Page("mach-virt.ram", number, struct.pack("<QQ", number, 3) * (PAGE // 16)) for number in range(300)]
STREAM = stream({"mach-virt.ram": len(PAGES) * PAGE}, [PAGES], machine="virt-7.2")
EXPECTED = {1 << 30: b"".join(page.data for page in PAGES)}


def by_tool(*command: str) -> Callable[[bytes], bytes]:
    """What a compression's own tool writes."""

    def compress(data: bytes) -> bytes:
        needs(command[0])
        return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout

    return compress


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzop": by_tool("lzop", "-c"),
    "zstd": by_tool("zstd", "-c"),
}


@pytest.mark.parametrize("compression", COMPRESS)
def test_every_compression(compression: str) -> None:
    memory = open_bytes(libvirt_save, header(compression) + COMPRESS[compression](STREAM))
    assert memory.container == f"libvirt save file ({compression})"
    assert memory.notes == ()
    assert ranges(memory) == EXPECTED


def test_both_byte_orders_and_unfinished_files() -> None:
    assert ranges(open_bytes(libvirt_save, header("raw", order=">") + STREAM)) == EXPECTED
    memory = open_bytes(libvirt_save, header("raw", magic=b"LibvirtQemudPart") + STREAM)
    assert ranges(memory) == EXPECTED
    assert memory.notes == ("libvirt never finished this save file",)


def test_a_sparse_file_is_placed_by_offsets_of_the_whole_file() -> None:
    data = b"".join(page.data for page in PAGES)
    before = header("sparse")
    before = before[:20] + struct.pack("<I", 4096 - 92) + before[24:].ljust(4096 - 24, b"\0")
    content = flat({"mach-virt.ram": data}, "virt-9.0", before)
    assert ranges(open_bytes(libvirt_save, content)) == {1 << 30: data}


def test_two_members_and_padding() -> None:
    half = len(STREAM) // 2
    packed = gzip.compress(STREAM[:half]) + gzip.compress(STREAM[half:]) + bytes(512)
    assert ranges(open_bytes(libvirt_save, header("gzip") + packed)) == EXPECTED


@pytest.mark.parametrize("compression", ["gzip", "xz", "zstd"])
def test_a_stream_that_is_cut_short_keeps_what_is_there(compression: str) -> None:
    packed = COMPRESS[compression](STREAM)
    memory = open_bytes(libvirt_save, header(compression) + packed[: len(packed) * 4 // 5])
    assert "is cut short" in memory.notes[0]
    (found,) = ranges(memory).values()
    assert next(iter(EXPECTED.values())).startswith(found)


def test_a_bomb_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "FREE", 1 << 20)
    monkeypatch.setattr(spool, "RATIO", 10)
    content = header("gzip") + gzip.compress(bytes(64 << 20))
    assert "more than any dump" in refusal(libvirt_save, content)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lzallright", None)
    optional_package.cache_clear()
    assert "needs the package lzallright; pip install 'kallsift[images]'" in refusal(
        libvirt_save, header("lzop") + STREAM
    )


def test_no_room_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=1000))
    assert "TMPDIR" in refusal(libvirt_save, header("gzip") + gzip.compress(STREAM))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    assert "TMPDIR" in refusal(libvirt_save, header("gzip") + gzip.compress(STREAM))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (header("raw")[:60], "inside its header"),
        (header("raw"), "before the machine's state"),
        (header("raw", version=9) + STREAM, "unknown version"),
        (header("raw") + b"x" + STREAM, "no QEMU migration stream at file offset"),
        (header("gzip") + STREAM, "is damaged"),
        (header("raw")[:28] + b"\x09" + header("raw")[29:] + STREAM, "unknown format 9"),
    ],
)
def test_what_is_wrong_is_told(content: bytes, reason: str) -> None:
    assert reason in refusal(libvirt_save, content)


SMALL = stream({"mach-virt.ram": 8 * PAGE}, [PAGES[:8]], machine="virt-7.2")


@settings(derandomize=True, max_examples=examples(100))
@given(st.one_of(damaged(header("raw") + SMALL), damaged(header("gzip") + gzip.compress(SMALL))))
def test_damaged_files_are_read_or_refused(content: bytes) -> None:
    read_or_refuse(libvirt_save, content)
