"""Relocations: tables that an independent writer makes, in flat images and in ELF."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kallsift.image import relocation
from tests.examples import examples
from tests.image import builders as build
from tests.image.builders import kernel
from tests.image.opened import content, unpacked, view
from tests.memory.builders import Bits, ByteOrder, Program

BASE = 0xFFFF800010000000
TYPES = {"arm64": 0x403, "riscv64": 3, "loongarch64": 3, "s390x": 12, "ppc64": 22, "x86-64": 8}


def relocated(
    size: int = 600_000,
    count: int = 3000,
    base: int = BASE,
    kind: int = 0x403,
    order: ByteOrder = "<",
    applied: float = 0.0,
    seed: int = 1,
) -> tuple[bytes, bytes]:
    """A flat image before and after the kernel relocates itself at its link address.

    Args:
        size: of the image.
        count: number of pointers in it.
        base: its link address.
        kind: type of the relocations.
        order: byte order.
        applied: share of the pointers that are in place already.
        seed: of the randomness.
    """
    chance = random.Random(seed)
    before = bytearray(chance.randbytes(size))
    after = bytearray(before)
    table_start = size // 2 // 8 * 8
    table_end = table_start + count * 24
    words = [at for at in range(64, size - 8, 8) if not table_start - 8 <= at < table_end]
    table = b""
    for place in sorted(chance.sample(words, count)):
        value = base + chance.randrange(size)
        there = value if chance.random() < applied else 0
        before[place : place + 8] = struct.pack(f"{order}Q", there)
        after[place : place + 8] = struct.pack(f"{order}Q", value)
        table += struct.pack(f"{order}QQQ", base + place, kind, value)
    for image in before, after:
        image[table_start:table_end] = table
    return bytes(before), bytes(after)


@pytest.mark.parametrize("architecture", sorted(TYPES))
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("applied", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("base", [BASE, 0x100000, 0xFFFFFFC008080000])
def test_flat_images(architecture: str, order: ByteOrder, applied: float, base: int) -> None:
    before, after = relocated(kind=TYPES[architecture], order=order, applied=applied, base=base)
    found = relocation.relocate_flat(view(before), architecture, order)
    assert found is not None
    assert found.base == base
    assert found.data.tobytes() == after
    assert found.entries == 3000
    assert not found.data.flags.writeable


def test_what_is_in_place_is_not_copied() -> None:
    before, _ = relocated(applied=1.0)
    whole = view(before)
    found = relocation.relocate_flat(whole, "arm64", "<")
    assert found is not None
    assert found.data is whole
    assert found.changed == 0


@settings(max_examples=examples(30))
@given(st.integers(0, 2**32), st.integers(100, 4000), st.integers(1, (1 << 48) - 1))
def test_any_base(seed: int, count: int, page: int) -> None:
    before, after = relocated(300_000, count, (page << 16) % (2**64 - (1 << 20)), seed=seed)
    found = relocation.relocate_flat(view(before), "arm64", "<")
    assert found is not None
    assert found.data.tobytes() == after


def test_words_that_hold_something_else_are_never_changed() -> None:
    before, _ = relocated()
    image = bytearray(before)
    place = struct.unpack_from("<Q", image, 300_000)[0] - BASE
    image[place] = 1
    assert relocation.relocate_flat(view(bytes(image)), "arm64", "<") is None


def test_no_table_and_no_architecture() -> None:
    before, _ = relocated()
    noise = random.Random(5).randbytes(600_000)
    assert relocation.relocate_flat(view(noise), "arm64", "<") is None
    assert relocation.relocate_flat(view(b""), "arm64", "<") is None
    assert relocation.relocate_flat(view(bytes(600_000)), "arm64", "<") is None
    for architecture in ("arm", "riscv64", None):
        assert relocation.relocate_flat(view(before), architecture, "<") is None


def test_a_table_that_fits_several_bases_says_nothing() -> None:
    """All places lie in a stretch of zeros, so that nothing tells where it begins."""
    table = b"".join(struct.pack("<QQQ", BASE + 0x90000 + 8 * n, 0x403, BASE + n) for n in range(100))
    assert relocation.relocate_flat(view(bytes(0x100000) + table), "arm64", "<") is None


@pytest.mark.parametrize("big", [False, True])
def test_an_image_comes_out_relocated(big: bool) -> None:
    before, after = relocated(order=">" if big else "<")

    def image(body: bytes) -> bytes:
        return build.arm64_image(body[64:], flags=0xA | big)

    memory = unpacked(COMPRESSED(image(before)))
    assert content(memory) == image(after)
    assert memory.image is not None
    assert memory.image.base == BASE


COMPRESSED = build.COMPRESS["gzip"]


@pytest.mark.parametrize(
    ("machine", "bits", "order", "kind"),
    [(183, 64, "<", 0x403), (243, 64, "<", 3), (258, 64, "<", 3), (22, 64, ">", 12), (21, 64, "<", 22),
     (21, 64, ">", 22), (20, 32, ">", 22)],
)  # fmt: skip
def test_elf_with_a_dynamic_section(machine: int, bits: Bits, order: ByteOrder, kind: int) -> None:
    base = 0xC0000000
    word = "I" if bits == 32 else "Q"
    width = bits // 8
    body = bytearray(kernel())
    places = [8 * n for n in range(200)]
    for place in places:
        body[place : place + 8] = bytes(8)
    struct.pack_into(f"{order}{word}", body, 8, 0x1234)  # holds something already, so it stays
    table = b"".join(struct.pack(f"{order}3{word}", base + place, kind, base + 7 * place + 1) for place in places)
    table += struct.pack(f"{order}3{word}", base + 3000, kind + 1, 77)  # a relocation of another kind
    table += struct.pack(f"{order}3{word}", base - 1000, kind, 77)  # a place that is not there
    table_at = base + len(body)
    dynamic = struct.pack(f"{order}8{word}", 7, table_at, 8, len(table), 9, 3 * width, 0, 0)
    whole = bytes(body) + table
    file = build.vmlinux(
        (base, whole), bits=bits, order=order, machine=machine, more=[Program(1, dynamic, 0, base + 0x100000),
                                                                     Program(2, b"", 0, base + 0x100000)]
    )  # fmt: skip
    memory = unpacked(file)
    expected = bytearray(whole)
    for place in places:
        if place != 8:
            struct.pack_into(f"{order}{word}", expected, place, base + 7 * place + 1)
    assert memory.read(base, len(whole)).tobytes() == bytes(expected)


def test_elf_without_anything_to_do_is_not_copied() -> None:
    dynamic = struct.pack("<4Q", 7, 0, 8, 0)
    file = build.vmlinux(
        (BASE, kernel()),
        machine=183,
        more=[Program(1, dynamic, 0, BASE + 0x100000), Program(2, b"", 0, BASE + 0x100000)],
    )
    whole = view(file)
    memory = unpacked(file)
    assert all(np.shares_memory(segment.read(), whole) for segment in memory.segments)
