"""Images that lie: cut short, damaged at random, referring to themselves, or made to explode."""

from __future__ import annotations

import gzip
import struct
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kallsift.budget import MIN_WORK, WORK_RATIO, WorkBudget
from kallsift.compression import codecs
from kallsift.errors import SourceError
from kallsift.image.unpack import payloads, unwrap
from kallsift.memory.formats import raw
from tests.image import builders as build
from tests.image.builders import COMPRESS, kernel
from tests.image.opened import refusal, unpacked, view
from tests.memory.builders import Program
from tests.memory.strategies import damaged

pytestmark = pytest.mark.sampled(2)

SMALL = kernel(6000)
DYNAMIC = struct.pack("<6Q", 7, 0x80001000, 8, 240, 0, 0)
VMLINUX = build.vmlinux(
    (0x80000000, SMALL), machine=183, more=[Program(1, DYNAMIC, 0, 0x90000000), Program(2, b"", 0, 0x90000000)]
)
STREAM = COMPRESS["gzip"](SMALL)
IMAGES = {
    "ELF": VMLINUX,
    "ELF of 32 bits": build.vmlinux((0x80000000, SMALL), bits=32, order=">", machine=8),
    "wrapper": build.vmlinux((0x80000000, STREAM)),
    "bzImage": build.bzimage(COMPRESS["xz"](VMLINUX)),
    "old bzImage": build.bzimage(STREAM, 0x0203),
    "ARM zImage": build.arm_zimage(COMPRESS["lzma"](SMALL)),
    "arm64 Image": build.arm64_image(SMALL),
    "RISC-V Image": build.riscv_image(SMALL),
    "LoongArch Image": build.loongarch_image(SMALL),
    "zboot": build.zboot(COMPRESS["zstd"](build.arm64_image(SMALL)), b"zstd22"),
    "UKI": build.uki(build.bzimage(COMPRESS["lz4"](VMLINUX))),
    "uImage": build.uimage(STREAM, 1),
    "uImage of several files": build.uimage(build.multi(STREAM, b"ramdisk"), 1, kind=4),
    "boot.img v2": build.boot_img(COMPRESS["lz4"](build.arm64_image(SMALL)), 2),
    "boot.img v4": build.boot_img(COMPRESS["lzo"](build.arm64_image(SMALL)), 4),
    "FIT": build.fit(COMPRESS["bzip2"](build.arm64_image(SMALL)), b"bzip2"),
    "FIT with data behind": build.fit(COMPRESS["lzma"](build.arm64_image(SMALL)), b"lzma", external="offset"),
    "s390 image": build.s390_image(STREAM),
}


@pytest.mark.parametrize("name", sorted(IMAGES))
@given(data=st.data())
def test_damage_is_an_error_of_the_source_or_none(name: str, data: st.DataObject) -> None:
    content = data.draw(damaged(IMAGES[name]))
    try:
        memory = unwrap("image", view(content))
    except SourceError:
        return
    if memory is not None:
        assert all(0 <= segment.start < segment.end <= 2**64 for segment in memory.segments)
        assert all(remark.isprintable() for remark in memory.notes)
        assert memory.container.isprintable()


@pytest.mark.parametrize("name", sorted(IMAGES))
def test_every_header_cut_short(name: str) -> None:
    image = IMAGES[name]
    for size in [*range(0, 600, 7), *range(600, len(image), 997)]:
        try:
            memory = unwrap("image", view(image[:size]))
        except SourceError as error:
            text = str(error)
            assert text.startswith("image: ")
            assert text.isprintable()
            continue
        assert memory is None or memory.image is not None


@pytest.mark.parametrize("name", sorted(IMAGES))
def test_every_early_word_at_its_extremes(name: str) -> None:
    image = IMAGES[name]
    for place in range(0, 0x260, 4):
        for word in (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xf0\xff\xff\xff"):
            content = image[:place] + word + image[place + 4 :]
            try:
                unwrap("image", view(content))
            except SourceError as error:
                text = str(error)
                assert text.isprintable()


def test_streams_within_streams_end() -> None:
    image = kernel(6000)
    for _ in range(40):
        image = gzip.compress(image, 1)
    assert "more than 8 times" in refusal(image)


def test_uimages_within_uimages_end() -> None:
    image = STREAM
    for _ in range(40):
        image = build.uimage(image)
    assert "more than 8 times" in refusal(image)


def fit_of_itself(fan: int) -> bytes:
    """A FIT whose every kernel is the FIT itself."""
    images = {
        f"kernel-{number}": {"type": b"kernel\0", "data-position": bytes(4), "data-size": b"\0\0\x10\0"}
        for number in range(fan)
    }
    return build.device_tree({"images": images}).ljust(4096, b"\0")


@pytest.mark.parametrize("fan", [1, 8, 20])
def test_a_fit_that_refers_to_itself_ends(fan: int) -> None:
    begin = time.process_time()
    assert "FIT" in refusal(fit_of_itself(fan))
    assert time.process_time() - begin < 10


def test_a_deep_tree_ends() -> None:
    deep = struct.pack(">I", 1) + b"x\0\0\0"
    tree = bytearray(build.device_tree({"images": {}}))
    tree[56:56] = deep * 200_000
    assert unwrap("image", view(bytes(tree))) is None


def test_a_bomb_in_an_image_costs_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "CEILING", 8 << 20)
    bomb = gzip.compress(bytes(64 << 20), 1)
    tracemalloc.start()
    try:
        text = refusal(build.bzimage(bomb))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "bzImage, payload at file offset 0xabc: gzip stream expands to more than 8 MiB" in text
    assert peak < 40 << 20


def test_a_bomb_as_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "CEILING", 8 << 20)
    assert unwrap("image", view(gzip.compress(bytes(64 << 20), 1))) is None


@pytest.mark.parametrize("magic", [b"\x28\xb5\x2f\xfd", b"\x02\x21\x4c\x18", b"\x5d\0\0\0\1" + b"\xff" * 8])
def test_a_file_full_of_magics_costs_no_more_than_its_budget(magic: bytes) -> None:
    memory = raw.open("flash", view((magic + bytes(20)) * 200_000), lambda: None)
    budget = WorkBudget.of(memory.size)
    assert list(payloads(memory, budget)) == []
    assert budget.refused["compressed streams"] == 1
    assert budget.spent_work <= MIN_WORK + WORK_RATIO * memory.size


def test_a_file_full_of_bombs_costs_no_more_than_its_budget() -> None:
    bomb = gzip.compress(bytes(16 << 20), 9)
    memory = raw.open("flash", view(bomb * 500), lambda: None)
    budget = WorkBudget(1 << 30, 64 << 20)
    assert list(payloads(memory, budget)) == []
    assert budget.refused["compressed streams"]
    assert budget.spent_output <= 64 << 20


def test_segments_that_overlap_or_leave_the_address_space_are_left_out() -> None:
    file = build.vmlinux((0x80000000, SMALL), (0x80000010, b"other"), (2**64 - 2, b"over"), (0x90000000, b"fine"))
    memory = unpacked(file)
    assert [segment.start for segment in memory.segments] == [0x80000000, 0x90000000]
    assert len(memory.notes) == 2


def test_a_truncated_image_says_so_and_gives_what_is_there() -> None:
    image = build.bzimage(COMPRESS["gzip"](build.vmlinux((0x80000000, kernel(900_000)))))
    memory = unpacked(image[: len(image) * 2 // 3])
    assert memory.container == "bzImage, gzip, ELF"
    assert any("bytes could be unpacked" in remark for remark in memory.notes)
    assert any("segment at 0x80000000 is cut short" in remark for remark in memory.notes)
