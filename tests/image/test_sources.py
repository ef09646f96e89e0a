"""The one entry point: what is an image, what is left to the containers of memory, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import kallsift
from kallsift.errors import SourceError
from kallsift.image import open as sources
from kallsift.memory.formats import registry as containers
from kallsift.memory.memory import AddressSpace
from tests.image import builders as build
from tests.image.builders import COMPRESS, kernel
from tests.memory.builders import elf, lime, load

KERNELS_ONLY = {"lz4", "lzma"}
"""Formats that only kernels are packed in: nothing tells a dump in them from memory."""


def test_the_package_opens_by_it() -> None:
    assert kallsift.open is sources.open


@pytest.mark.parametrize(
    ("content", "container"),
    [
        (elf([load(0x1000, b"abcd")]), "ELF core"),
        (lime([(0x1000, b"abcd")]), "LiME"),
        (kernel(), "raw"),
        (b"MZ" + bytes(5000), "raw"),
        (b"x", "raw"),
    ],
)
def test_memory_is_opened_as_before(tmp_path: Path, content: bytes, container: str) -> None:
    path = tmp_path / "memory"
    path.write_bytes(content)
    with sources.open(path) as memory:
        assert memory.container == container
        assert memory.space is AddressSpace.PHYSICAL
        assert memory.image is None


def test_an_image_is_opened_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(build.boot_img(COMPRESS["gzip"](build.arm64_image(kernel())), 2))
    with sources.open(str(path)) as memory:
        assert memory.source == str(path)
        assert memory.container == "boot.img v2, gzip, arm64 Image"
        assert memory.image is not None
        assert (memory.image.packaging, memory.image.offset) == (("boot.img v2", "gzip"), 2048)


def test_an_image_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "Image"
    path.write_bytes(build.riscv_image(kernel()))
    (segment,) = sources.open(path).segments
    path.unlink()
    assert not segment.read().flags.owndata
    assert segment.read()[64:].tobytes() == kernel()


@pytest.mark.parametrize("name", sorted(COMPRESS.keys() - KERNELS_ONLY))
@pytest.mark.parametrize(
    "dump",
    [elf([load(0x1000, kernel())]), lime([(0x1000, kernel())]), bytes(200_000)],
    ids=["ELF core", "LiME", "raw"],
)
def test_compressed_dumps_are_unpacked(tmp_path: Path, name: str, dump: bytes) -> None:
    (tmp_path / "plain").write_bytes(dump)
    (tmp_path / "dump").write_bytes(COMPRESS[name](dump))
    memory, plain = sources.open(tmp_path / "dump"), sources.open(tmp_path / "plain")
    assert memory.image is None
    assert memory.container.startswith(f"{plain.container}, ")
    assert [(s.start, s.read().tobytes()) for s in memory.segments] == [
        (s.start, s.read().tobytes()) for s in plain.segments
    ]


def test_a_compressed_file_that_is_larger_than_any_flat_kernel_is_a_dump(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kallsift.image.unpack.FLAT_LIMIT", 1 << 20)
    path = tmp_path / "dump.xz"
    path.write_bytes(COMPRESS["xz"](kernel() + bytes(1 << 20)))
    memory = sources.open(path)
    assert (memory.image, memory.container) == (None, "raw, xz")


def test_what_is_compressed_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dump.gz.xz"
    path.write_bytes(COMPRESS["xz"](COMPRESS["gzip"](lime([(0x1000, kernel())]))))
    with pytest.raises(SourceError, match="compressed again"):
        containers.open(path)


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_programs_without_a_kernel_are_refused(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "program"
    path.write_bytes(elf([load(0x1000, bytes(9000))], kind=kind))
    with pytest.raises(SourceError, match="is an ELF program, not a memory dump, and holds no kernel"):
        sources.open(path)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "boot\n.img"
    path.write_bytes(build.bzimage(bytes(5000)))
    with pytest.raises(SourceError) as caught:
        sources.open(path)
    assert str(caught.value).startswith(f"{tmp_path}/boot\\n.img: bzImage, payload at file offset 0xabc: ")


def test_what_is_no_source_at_all_is_said() -> None:
    with pytest.raises(TypeError, match=r"open\(\) takes a path, or a sequence of files with addresses, not NoneType"):
        kallsift.open(None)  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="/nosuch/file: no such file"):
        kallsift.open(b"/nosuch/file")
    for recover in (kallsift.recover, kallsift.recover_all):
        with pytest.raises(TypeError, match=r"recover\(\) takes a Memory, not str: with kallsift.open\(SOURCE\)"):
            recover("memory.lime")  # type: ignore[arg-type]
