"""tar and cpio archives: kernels and dumps in them are opened as if they were files of their own."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

import kallsift
from kallsift.errors import SourceError
from kallsift.memory.formats import archives
from kallsift.memory.memory import Memory
from tests.image import builders as build
from tests.memory.builders import lime

Files = Mapping[str, bytes]
DUMP = lime([(0x1000, b"memory" * 1000)])
IMAGE = build.arm64_image(build.kernel())


def tar(files: Files, form: int = tarfile.USTAR_FORMAT) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form) as archive:
        folder = tarfile.TarInfo("boot")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return raw.getvalue()


def newc(files: Files) -> bytes:
    archive = b""
    for name, content, mode in [
        ("boot", b"", 0o040755),
        *((n, c, 0o100644) for n, c in files.items()),
        ("TRAILER!!!", b"", 0),
    ]:
        text = name.encode() + b"\0"
        fields = (1, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(text), 0)
        archive += b"070701" + b"".join(b"%08x" % field for field in fields) + text
        archive += bytes(-len(archive) % 4) + content
        archive += bytes(-len(archive) % 4)
    return archive


def odc(files: Files) -> bytes:
    archive = b""
    for name, content, mode in [*((n, c, 0o100644) for n, c in files.items()), ("TRAILER!!!", b"", 0)]:
        text = name.encode() + b"\0"
        archive += b"070707" + b"%06o" * 7 % (0, 1, mode, 0, 0, 1, 0) + b"%011o%06o%011o" % (0, len(text), len(content))
        archive += text + content
    return archive


WRITERS: dict[str, Callable[[Files], bytes]] = {
    "tar": tar,
    "pax": lambda files: tar(files, tarfile.PAX_FORMAT),
    "GNU tar": lambda files: tar(files, tarfile.GNU_FORMAT),
    "cpio newc": newc,
    "cpio odc": odc,
}


def opened(folder: Path, content: bytes) -> Memory:
    (folder / "file").write_bytes(content)
    return kallsift.open(folder / "file")


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("packed", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_kernel_and_a_dump(tmp_path: Path, name: str, packed: Callable[[bytes], bytes]) -> None:
    write, other = WRITERS[name], random.Random(1).randbytes(9000)
    memory = opened(tmp_path, packed(write({"other": other, "x" * 120 if name != "tar" else "boot/Image": IMAGE})))
    assert memory.image is not None
    assert memory.segments[0].read().tobytes() == IMAGE
    assert any("1 other" in remark or "another file" in remark for remark in memory.notes)
    memory = opened(tmp_path, packed(write({"Image": IMAGE, "dump.lime": DUMP})))
    assert memory.image is None
    assert memory.container.startswith("LiME, ")
    assert memory.read(0x1000, 12).tobytes() == b"memorymemory"


def test_a_large_raw_file_is_the_dump(tmp_path: Path) -> None:
    memory = opened(tmp_path, tar({"note.txt": b"taken at noon", "ram": bytes(100_000) + b"end"}))
    assert memory.container == "raw, tar"
    assert memory.read(100_000, 3).tobytes() == b"end"
    assert memory.notes == ("opened ram of the tar archive, which holds another file; unpack it to open them",)


def test_archives_without_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is an empty tar archive"):
        opened(tmp_path, tar({}))


@pytest.mark.parametrize("write", [tar, newc, odc])
def test_a_damaged_archive_ends_where_it_is_damaged(write: Callable[[Files], bytes]) -> None:
    whole = write({"first": b"a" * 999, "second": b"b" * 999})
    for size in range(0, len(whole), 37):
        cut = np.frombuffer(whole[:size], np.uint8)
        if size > 512 and archives.archive_format(whole[:512]):
            found = archives.members(cut)
            assert [member.name for member in found] == ["first", "second"][: len(found)]
            assert all(member.offset + member.size <= size for member in found)


def test_names_are_escaped() -> None:
    view = np.frombuffer(newc({"a\x1b[31m": b"x"}), np.uint8)
    assert [member.name for member in archives.members(view)] == ["a\\x1b[31m"]


def test_aff4_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is an AFF4 image"):
        opened(tmp_path, b"PK\x03\x04" + bytes(9000) + b"aff4://c215ba20-5648-4209-a793-1f918c723610")
