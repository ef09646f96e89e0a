"""A kernel lies bare in a file: at its beginning, behind a header of any size, or in ELF that is not its own."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import kallsift
from kallsift.errors import SourceError
from kallsift.kernel.kernel import Kernel, State
from tests.image import builders as build
from tests.kallsyms.surroundings import Surroundings
from tests.kernel.era_images import BEFORE, BEHIND, STARTS, image
from tests.memory.builders import Program, elf, note, notes
from tests.oracle.eras import ERAS, Era
from tests.oracle.symbols import Symbol, population
from tests.oracle.writer import Blob, write

pytestmark = pytest.mark.sampled(2)

NEWEST = next(era for era in ERAS if era.name == "7.0")
BASED = next(era for era in ERAS if era.name == "5.10 arm64")


def recovered(folder: Path, content: bytes) -> Kernel:
    (folder / "file").write_bytes(content)
    return kallsift.recover(kallsift.open(folder / "file"))


def is_listed(kernel: Kernel, blob: Blob) -> bool:
    """Compare without a difference of thousands of lines, which takes pytest minutes to print."""
    return lines(kernel) == [(symbol.address, symbol.name) for symbol in blob.symbols]


def lines(kernel: Kernel) -> list[tuple[int, str]]:
    symbols = kernel.symbols
    return [(symbol.address, symbol.name) for symbol in map(symbols.symbol, range(len(symbols)))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "era", "word_size"),
    [(0, BASED, 4), (0, NEWEST, 8), (2, BASED, 8), (3, NEWEST, 4), (4, NEWEST, 8), (20, BASED, 4), (64, BASED, 8),
     (512, NEWEST, 4), (4096, BASED, 4), (4101, NEWEST, 8)],
    ids=str,
)  # fmt: skip
def test_behind_a_header_of_any_size(tmp_path: Path, era: Era, word_size: int, size: int) -> None:
    blob, data = image(era, word_size, "little", False)
    kernel = recovered(tmp_path, random.Random(size).randbytes(size) + data)
    assert is_listed(kernel, blob)
    assert (kernel.state, kernel.proven) == (State.IMAGE, True)
    assert kernel.memory.image is not None
    array = next(place for place in kernel.tables if place.name in ("offsets", "addresses"))
    named = next(name for name in blob.tables if name in ("offsets", "addresses"))
    assert array.physical + kernel.memory.image.skipped - size == len(data) - len(blob.data) - BEHIND + (
        blob.tables[named].offset
    )


def test_the_same_bytes_have_the_same_verdict(tmp_path: Path) -> None:
    """A bare image alone, and the image behind another file: a flash chip is read so."""
    blob, data = image(BASED, 4, "big", False)
    alone = recovered(tmp_path, data)
    behind = recovered(tmp_path, random.Random(1).randbytes((1 << 20) + 36) + data)
    assert alone.proven
    assert behind.proven
    assert is_listed(alone, blob)
    assert is_listed(behind, blob)


@pytest.mark.parametrize("address", [0x10000, 0xC0000000])
def test_elf_at_addresses_that_are_not_the_kernels(tmp_path: Path, address: int) -> None:
    blob, data = image(BASED, 4, "little", False)
    kernel = recovered(tmp_path, elf([Program(1, data, 0, address)], bits=32, kind=3, machine=40))
    assert is_listed(kernel, blob)
    assert kernel.proven


def test_two_kernels_in_a_flash_chip_are_both_found(tmp_path: Path) -> None:
    (one, first), (other, second) = image(BASED, 4, "big", False), image(NEWEST, 4, "big", True)
    content = b"\xff" * 0x30040 + first + b"\xff" * (3 << 20) + random.Random(2).randbytes(20) + second
    (tmp_path / "chip").write_bytes(content)
    kernels = kallsift.recover_all(kallsift.open(tmp_path / "chip"))
    assert [is_listed(kernel, blob) for kernel, blob in zip(kernels, (one, other), strict=True)] == [True, True]
    assert [kernel.proven for kernel in kernels] == [True, True]


@pytest.mark.slow
@pytest.mark.parametrize("lost", [None, 0, 1])
def test_addresses_of_another_kernel_nearby_are_not_taken(tmp_path: Path, lost: int | None) -> None:
    """Both have as many symbols, so that nothing in an array but its place tells whose it is."""
    made = [image(BASED, 4, "big", False), image(NEWEST, 4, "big", True)]
    for number, (blob, data) in enumerate(made):
        if number == lost:
            array = blob.tables["offsets"]
            start = len(data) - BEHIND - len(blob.data) + array.offset
            noise = random.Random(9).randbytes(array.size)
            made[number] = blob, data[:start] + noise + data[start + array.size :]
    (one, first), (other, second) = made
    content = b"\xff" * 0x30040 + first + b"\xff" * 0x8000 + random.Random(2).randbytes(20) + second
    (tmp_path / "chip").write_bytes(content)
    kernels = [kernel for kernel in kallsift.recover_all(kallsift.open(tmp_path / "chip")) if kernel.proven]
    left = [blob for number, blob in enumerate((one, other)) if number != lost]
    assert [is_listed(kernel, blob) for kernel, blob in zip(kernels, left, strict=True)] == [True] * len(left)


@pytest.mark.parametrize("size", [0, 64, 6])
def test_an_image_with_a_header_of_its_own_behind_another(tmp_path: Path, size: int) -> None:
    """What must be relocated is, wherever the header stands: so the architecture is known as well."""
    _, data = image(BASED, 8, "little", False)
    kernel = recovered(tmp_path, random.Random(3).randbytes(size) + build.arm64_image(data[64:]))
    assert kernel.proven
    assert kernel.architecture == "arm64"
    assert kernel.memory.image is not None
    assert kernel.memory.image.skipped == size


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "uImage": lambda data: with_checksum(build.uimage(build.COMPRESS["lzma"](data), 3)),
    "FIT": lambda data: build.fit(build.COMPRESS["lzma"](data), b"lzma"),
    "zImage": lambda data: build.arm_zimage(build.COMPRESS["xz"](data)),
    "bzImage": lambda data: build.bzimage(build.COMPRESS["gzip"](data)),
    "boot.img": lambda data: build.boot_img(build.COMPRESS["gzip"](data)),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "offset"), [("uImage", 3), ("FIT", 0x20000), ("zImage", 5), ("bzImage", 64), ("boot.img", 512)]
)
def test_packed_images_anywhere(tmp_path: Path, form: str, offset: int) -> None:
    blob, data = image(BASED, 8 if form in ("FIT", "bzImage") else 4, "little", False)
    packed = FORMS[form](data)
    kernel = recovered(tmp_path, random.Random(4).randbytes(offset) + packed)
    assert is_listed(kernel, blob)
    assert kernel.proven
    assert form in kernel.memory.container


def with_checksum(header: bytes) -> bytes:
    """A uImage with the checksum of its header, which nobody asks for at a file's beginning."""
    checksum = zlib.crc32(header[:4] + bytes(4) + header[8:64])
    return header[:4] + checksum.to_bytes(4, "big") + header[8:]


def test_a_packed_kernel_beside_another_ones_banner_is_not_proven(tmp_path: Path) -> None:
    """A machine's memory may hold a file with another kernel than its own, whose tables are gone."""
    _, data = image(BASED, 4, "little", False)
    kernel = recovered(tmp_path, b"Linux version 5.0.0\0" + bytes(4076) + build.COMPRESS["gzip"](data))
    assert not kernel.proven
    assert kernel.state is State.IMAGE


def test_user_mode_linux_and_its_core(tmp_path: Path) -> None:
    """A program with an interpreter, and the memory of its process."""
    blob, data = image(BASED, 8, "little", False)
    load = Program(1, data, 0, STARTS[8])
    program = elf([Program(3, b"/lib/ld.so\0"), load], kind=2)
    core = elf([notes(note(b"CORE", 6, bytes(16))), load, Program(1, b"heap" * 1024, 0, 0x7FFF_0000_0000)])
    for content, state in ((program, State.IMAGE), (core, State.RUNNING)):
        kernel = recovered(tmp_path, content)
        assert is_listed(kernel, blob)
        assert (kernel.state, kernel.proven) == (state, True)


def test_programs_and_their_cores_without_a_kernel_are_refused(tmp_path: Path) -> None:
    load = Program(1, b"Linux version 5.0.0\0" * 999, 0, 0x400000)
    for content in (elf([Program(3, b"/lib/ld.so\0"), load], kind=2), elf([notes(note(b"CORE", 6, bytes(16))), load])):
        with pytest.raises(SourceError, match=r"is an ELF program|is the core of a user program"):
            recovered(tmp_path, content)


@pytest.mark.parametrize("slide", [0, 0x35C0_0000, -0x80_0000], ids=hex)
@pytest.mark.parametrize("era", [BASED, NEWEST], ids=str)
@pytest.mark.parametrize(("function", "word_size", "linked"), [
    ("x86_64_start_kernel", 8, 0xFFFF_FFFF_8100_0000), ("i386_start_kernel", 4, 0xC100_0000),
])  # fmt: skip
def test_a_kernel_that_moved_is_no_file(
    tmp_path: Path, function: str, word_size: int, linked: int, era: Era, slide: int
) -> None:
    """Memory that was cut out of a machine: the addresses are right, but nothing confirms what it is."""
    blob, data = linked_at(linked + slide, function, era, word_size)
    kernel = recovered(tmp_path, data)
    assert is_listed(kernel, blob)
    assert kernel.proven is (slide <= 0)
    if slide > 0:
        assert (kernel.state, kernel.kaslr_slide) == (State.STALE, slide)
        assert "are not linked at" in kernel.evidence[-1].detail


def linked_at(
    start: int, function: str, era: Era, word_size: int = 8, jiffies: int | None = None
) -> tuple[Blob, bytes]:
    """An image whose first byte is at ``start``, with a counter of timer interrupts if one is given."""
    symbols = [Symbol(start, "T", "_text"), Symbol(start, "T", function), *population(1500, 3, start=start)]
    if jiffies is not None:
        # behind all tables, whose size one more name changes by a few bytes
        behind = BEFORE + len(write(symbols, era, address=start + BEFORE, word_size=word_size).data) + BEHIND - 4096
        counter = Symbol(start + behind - behind % 8, "D", "jiffies_64")
        symbols = sorted([*symbols, counter], key=lambda symbol: symbol.address)
    blob = write(symbols, era, address=start + BEFORE, word_size=word_size)
    size, tables = BEFORE + len(blob.data) + BEHIND, (BEFORE - 4096, BEFORE + len(blob.data) + 4096)
    around = Surroundings(random.Random(5), word_size, "little")
    data = around.image(size, start, [symbol.address for symbol in symbols], tables)
    data[BEFORE : BEFORE + len(blob.data)] = blob.data
    if jiffies is not None:
        offset = counter.address - start
        data[offset : offset + 8] = jiffies.to_bytes(8, "little")
    return blob, bytes(data)


def initial(hz: int) -> int:
    """What ``jiffies_64`` is built to be."""
    return (1 << 32) - 300 * hz


@pytest.mark.parametrize("slide", [0, 0x35C0_0000], ids=hex)
@pytest.mark.parametrize(("function", "word_size", "linked"), [
    ("x86_64_start_kernel", 8, 0xFFFF_FFFF_8100_0000), ("i386_start_kernel", 4, 0xC100_0000),
])  # fmt: skip
@pytest.mark.parametrize(("jiffies", "state"), [
    (initial(250), State.IMAGE), (initial(1000), State.IMAGE), (initial(250) + 1, State.STALE), (1 << 32, State.STALE),
    ((1 << 32) + 300 * 250, State.STALE),
])  # fmt: skip
def test_the_data_tell_whether_it_ran_wherever_it_is_linked(
    tmp_path: Path, function: str, word_size: int, linked: int, slide: int, jiffies: int, state: State
) -> None:
    """As with a CONFIG_PHYSICAL_START above the usual one; or a kernel that ran at the very address of its link."""
    blob, data = linked_at(linked + slide, function, BASED, word_size, jiffies)
    kernel = recovered(tmp_path, data)
    assert is_listed(kernel, blob)
    assert (kernel.state, kernel.proven) == (state, state is State.IMAGE)
    assert kernel.evidence[-1].name == "initial data"


@pytest.mark.parametrize("jiffies", [initial(977), 0, 0xDEAD_BEEF_DEAD_BEEF, None], ids=str)
@pytest.mark.parametrize("slide", [0, 0x35C0_0000], ids=hex)
def test_data_that_tell_nothing_leave_the_address(tmp_path: Path, slide: int, jiffies: int | None) -> None:
    """A number that may be the counter of a patched kernel, or none at all, as where data are mapped elsewhere."""
    _, data = linked_at(0xFFFF_FFFF_8100_0000 + slide, "x86_64_start_kernel", BASED, 8, jiffies)
    kernel = recovered(tmp_path, data)
    assert (kernel.state, kernel.proven) == ((State.STALE, False) if slide else (State.IMAGE, True))


@pytest.mark.parametrize(("lists", "state"), [(0, State.IMAGE), (100, State.STALE)])
def test_lists_out_of_the_image_show_that_it_ran(tmp_path: Path, lists: int, state: State) -> None:
    blob, data = linked_at(0xFFFF_8000_8000_0000, "start_kernel", BASED)
    places = np.arange(lists, dtype=np.uint64) * np.uint64(192) + np.uint64(0xFFFF_0000_1234_5000)
    heads = np.stack((places, places, np.zeros_like(places)), axis=1).astype("<u8").tobytes()
    kernel = recovered(tmp_path, build.arm64_image(data[64 : len(data) - len(heads)] + heads))
    assert is_listed(kernel, blob)
    assert (kernel.state, kernel.proven) == (state, state is State.IMAGE)


@pytest.mark.parametrize("era", [BASED, NEWEST], ids=str)
@pytest.mark.parametrize(("start", "state"), [
    (0xFFFF_8000_8000_0000, State.IMAGE), (0xFFFF_0000_0808_0000, State.IMAGE), (0xFFFF_FFC0_1008_0000, State.IMAGE),
    (0xFFFF_AA4D_72E0_0000, State.STALE), (0xFFFF_8000_8A20_0000, State.STALE),
], ids=lambda value: hex(value) if isinstance(value, int) else "")  # fmt: skip
def test_a_kernel_that_moved_is_no_arm64_image(tmp_path: Path, era: Era, start: int, state: State) -> None:
    """Text and read-only data from memory, with the header that lies at their beginning there too."""
    blob, data = linked_at(start, "start_kernel", era)
    kernel = recovered(tmp_path, build.arm64_image(data[64:]))
    assert is_listed(kernel, blob)
    assert (kernel.state, kernel.proven) == (state, state is State.IMAGE)
