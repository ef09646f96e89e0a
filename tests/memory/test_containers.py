"""Opening: what is accepted, what is refused, and that every refusal is one line that says what to do."""

from __future__ import annotations

import gc
import os
import socket
from pathlib import Path

import numpy as np
import pytest

from kallsift.errors import SourceError
from kallsift.memory.formats import registry as containers
from kallsift.memory.memory import AddressSpace
from tests.memory.builders import elf, lime, load


def refusal(path: str | Path) -> str:
    """The text of the SourceError that opening ``path`` raises."""
    with pytest.raises(SourceError) as caught:
        containers.open(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.isprintable()
    return text


@pytest.mark.parametrize(
    ("content", "container"),
    [(elf([load(0x1000, b"abcd")]), "ELF core"), (lime([(0x1000, b"abcd")]), "LiME"), (b"abcd" * 2000, "raw")],
)
def test_formats_are_told_apart_by_content(tmp_path: Path, content: bytes, container: str) -> None:
    path = tmp_path / "misnamed.lime"
    path.write_bytes(content)
    with containers.open(str(path)) as memory:
        assert memory.container == container
        assert memory.source == str(path)
        assert memory.space is AddressSpace.PHYSICAL


def test_raw_is_one_segment_from_zero(tmp_path: Path) -> None:
    path = tmp_path / "raw"
    path.write_bytes(bytes(range(256)))
    (segment,) = containers.open(path).segments
    assert segment.start == 0
    assert segment.read().tobytes() == bytes(range(256))
    assert not segment.read().flags.writeable


def test_views_outlive_the_memory_and_the_file_name(tmp_path: Path) -> None:
    path = tmp_path / "raw"
    path.write_bytes(b"kernel" * 1000)
    with containers.open(path) as memory:
        path.unlink()
        view = memory.read(6, 6)
    memory.close()
    del memory
    gc.collect()
    assert view.tobytes() == b"kernel"
    assert isinstance(view.base, np.ndarray)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors by /proc")
def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "source"

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a Path would hold a descriptor of its own

    gc.collect()
    before = descriptors()
    for content in (b"raw", b"", b"\x7fELF", lime([(0, b"x")])[:20]):
        path.write_bytes(content)
        try:
            memory = containers.open(path)
        except SourceError:
            continue
        memory.close()
        del memory
    gc.collect()
    assert descriptors() == before


def test_missing(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "nothing")


def test_a_name_with_nul() -> None:
    assert "cannot be opened" in refusal("a\0b")


def test_empty_name() -> None:
    refusal("")


def test_folder(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert "is empty" in refusal(tmp_path / "empty")


def test_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "is a pipe" in refusal(tmp_path / "pipe")


def test_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert "is a socket" in refusal("socket")


def test_character_device() -> None:
    assert "is a character device" in refusal("/dev/null")


def test_link_to_itself(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert "cannot be opened" in refusal(tmp_path / "loop")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"x")
    path.chmod(0)
    assert "permission denied" in refusal(path)


def test_permission_by_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"x")

    def refuse(*arguments: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    assert "permission denied" in refusal(path)


@pytest.mark.parametrize("name", ["a\x1b[2Jb", "a\nb", "a\rb", "a\u202eb", "a\udcffb"])
def test_names_are_escaped(tmp_path: Path, name: str) -> None:
    assert "\\" in refusal(tmp_path / name)
    (tmp_path / name).write_bytes(b"raw")
    source = containers.open(tmp_path / name).source
    assert source.isprintable()
    source.encode()


@pytest.mark.parametrize("row", containers.NOT_YET, ids=lambda row: row[1])
def test_formats_that_would_pass_for_raw(tmp_path: Path, row: tuple[bytes, str, str]) -> None:
    magic, what, advice = row
    path = tmp_path / "dump"
    path.write_bytes(magic.ljust(5000, b"\0"))
    text = refusal(path)
    assert what in text
    assert advice in text
