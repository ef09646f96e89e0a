"""Every packaging: written from its published structure, opened, and held against what was put in."""

from __future__ import annotations

import lzma
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from kallsift.budget import WorkBudget
from kallsift.image import kernel_signature
from kallsift.image import unpack as unwrapping
from kallsift.image.formats import arm_zimage, bzimage
from kallsift.image.formats.base import BEHIND_LIMIT
from kallsift.kallsyms import token_scan
from kallsift.memory.formats import raw
from kallsift.memory.memory import AddressSpace
from kallsift.optional_package import optional_package
from tests.components import needs
from tests.image import builders as build
from tests.image.builders import BANNER, COMPRESS, DIGITS, kernel, with_size
from tests.image.opened import content, refusal, unpacked, view
from tests.memory.builders import Bits, ByteOrder, Program

KERNEL = kernel()
TEXT, PERCPU, DATA = 0xFFFFFFFF81000000, 0, 0xFFFFFFFF82000000
VMLINUX = build.vmlinux((TEXT, KERNEL), (DATA, b"data" * 100), (PERCPU, b"percpu"))
NAMES = sorted(COMPRESS)


def packed(name: str, data: bytes) -> bytes:
    """A stream as kernels hold it: with the size of what is in it behind."""
    return with_size(COMPRESS[name](data), data)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_vmlinux(bits: Bits, order: ByteOrder) -> None:
    base = TEXT & (1 << bits) - 1
    file = build.vmlinux((base, KERNEL), (0, b"percpu"), bits=bits, order=order, machine=8)
    memory = unpacked(file)
    assert memory.container == "ELF"
    assert memory.space is AddressSpace.VIRTUAL
    assert [segment.start for segment in memory.segments] == [0, base]
    assert memory.read(base, len(KERNEL)).tobytes() == KERNEL
    assert memory.image is not None
    assert (memory.image.packaging, memory.image.offset) == ((), 0)
    assert memory.image.architecture == {32: "mips", 64: "mips64"}[bits]
    assert memory.image.base == base


def test_vmlinux_is_mapped_and_not_copied() -> None:
    whole = view(VMLINUX)
    memory = unwrapping.unwrap("image", whole)
    assert memory is not None
    assert all(np.shares_memory(segment.read(), whole) for segment in memory.segments)


def test_what_is_promised_in_memory_only_stays_a_gap() -> None:
    memory = unpacked(build.vmlinux((TEXT, KERNEL), more=[Program(1, b"abc", 0, DATA, memory_size=1 << 40)]))
    assert memory.size == len(KERNEL) + 3


@pytest.mark.parametrize(
    ("machine", "bits", "name"),
    [(62, 64, "x86-64"), (3, 32, "x86"), (183, 64, "arm64"), (40, 32, "arm"), (22, 64, "s390x"), (21, 64, "ppc64"),
     (20, 32, "ppc"), (243, 64, "riscv64"), (258, 64, "loongarch64"), (2, 32, "sparc"), (9999, 64, None)],
)  # fmt: skip
def test_architectures_of_elf(machine: int, bits: Bits, name: str | None) -> None:
    image = unpacked(build.vmlinux((0x80000000, KERNEL), bits=bits, machine=machine)).image
    assert image is not None
    assert image.architecture == name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("version", [0x0200, 0x0207, 0x0208, 0x020C, 0x020F])
def test_bzimage(name: str, version: int) -> None:
    memory = unpacked(build.bzimage(packed(name, VMLINUX), version))
    assert memory.container == f"bzImage, {name}, ELF"
    assert memory.read(TEXT, len(KERNEL)).tobytes() == KERNEL
    assert memory.notes == ()
    assert memory.image is not None
    assert memory.image.packaging == ("bzImage", name)
    assert memory.image.offset == 4 * 512 + 700
    assert (memory.image.architecture, memory.image.base) == ("x86-64", TEXT)


def test_bzimage_with_no_count_of_setup_sectors_has_four() -> None:
    memory = unpacked(build.bzimage(packed("gzip", VMLINUX), sectors=0))
    assert memory.image is not None
    assert memory.image.offset == 5 * 512 + 700


def test_bzimage_that_is_not_compressed() -> None:
    assert unpacked(build.bzimage(VMLINUX)).container == "bzImage, ELF"


def test_old_bzimage_with_a_flat_kernel() -> None:
    memory = unpacked(build.bzimage(packed("gzip", KERNEL), 0x0203))
    assert memory.container == "bzImage, gzip, flat image"
    assert memory.space is AddressSpace.FILE
    assert content(memory) == KERNEL


def test_a_payload_elsewhere_than_the_header_says_is_found() -> None:
    image = bytearray(build.bzimage(packed("xz", VMLINUX)))
    build.put(image, 0x248, "<II", 0x7FFFFFF0, 0xFFFFFFFF)
    assert unpacked(bytes(image)).container == "bzImage, xz, ELF"


def test_bzimage_with_a_broken_payload_says_which_step() -> None:
    stream = bytearray(packed("xz", VMLINUX))
    stream[16:] = b"\xff" * (len(stream) - 16)
    text = refusal(build.bzimage(bytes(stream)))
    assert text.startswith("image: bzImage, payload at file offset 0xabc: xz stream is damaged")


def test_bzimage_without_a_payload() -> None:
    assert "bzImage, payload at file offset 0xabc: holds no kernel" in refusal(build.bzimage(bytes(5000)))


@pytest.mark.parametrize(
    "image", [build.bzimage(bytes(5000)), build.arm_zimage(bytes(5000))], ids=["bzImage", "zImage"]
)
def test_the_rest_of_a_dump_is_not_searched_for_the_payload_of_a_header_in_it(image: bytes) -> None:
    memory = view(image + bytes(BEHIND_LIMIT - 300))
    content = bzimage.read(memory) if bzimage.probe(memory) else arm_zimage.read(memory)
    assert content is not None
    assert content.parts[-1].anywhere
    assert content.parts[-1].end <= len(image) + 16


def test_a_header_with_a_wrong_size_is_searched_as_far_as_images_reach() -> None:
    image = bytearray(build.arm_zimage(bytes(5000)))
    build.put(image, 0x2C, "<I", 0xFFFFFFFF)
    content = arm_zimage.read(view(bytes(image) + bytes(2 * BEHIND_LIMIT)))
    assert content is not None
    assert content.parts[0].end == BEHIND_LIMIT


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", ["gzip", "xz", "lzma", "lzo", "lz4"])
def test_arm_zimage(name: str, order: Literal["<", ">"]) -> None:
    memory = unpacked(build.arm_zimage(packed(name, KERNEL), order))
    assert memory.container == f"ARM zImage, {name}, flat image"
    assert memory.space is AddressSpace.FILE
    assert content(memory) == KERNEL
    assert memory.image is not None
    assert (memory.image.architecture, memory.image.base, memory.image.offset) == ("arm", None, 8000)


def test_flat_images_are_mapped_and_not_copied() -> None:
    for image in (build.arm64_image(KERNEL), build.riscv_image(KERNEL), build.loongarch_image(KERNEL)):
        whole = view(image)
        memory = unwrapping.unwrap("image", whole)
        assert memory is not None
        assert memory.segments[0].start == 0
        assert memory.segments[0].read().ctypes.data == whole.ctypes.data
        assert len(memory.segments[0].read()) == len(whole)


@pytest.mark.parametrize(
    ("image", "label", "architecture"),
    [
        (build.arm64_image(KERNEL), "arm64 Image", "arm64"),
        (build.arm64_image(KERNEL, size=0), "arm64 Image", "arm64"),
        (build.riscv_image(KERNEL), "RISC-V Image", "riscv64"),
        (build.riscv_image(KERNEL, 0x400000), "RISC-V Image", "riscv32"),
        (build.loongarch_image(KERNEL), "LoongArch Image", "loongarch64"),
    ],
)
@pytest.mark.parametrize("name", [None, *NAMES])
def test_images_with_a_header(image: bytes, label: str, architecture: str, name: str | None) -> None:
    memory = unpacked(COMPRESS[name](image) if name else image)
    assert memory.container == (f"{name}, {label}" if name else label)
    assert content(memory) == image
    assert memory.image is not None
    assert memory.image.packaging == ((name,) if name else ())
    assert memory.image.architecture == architecture


def test_a_dump_that_begins_with_an_image_is_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("efi_stub", "arm_zimage"):
        monkeypatch.setattr(f"kallsift.image.formats.{module}.BEHIND_LIMIT", 1 << 20)
    for image in (build.arm64_image(KERNEL), build.arm_zimage(packed("gzip", KERNEL))):
        assert unpacked(image + bytes(1 << 19)).container
        assert unwrapping.unwrap("image", view(image + bytes((1 << 20) + 1))) is None


@pytest.mark.parametrize(("name", "word"), [("gzip", b"gzip"), ("zstd", b"zstd22"), ("xz", b"xzkern"), ("lz4", b"lz4"),
                                            ("lzma", b"lzma"), ("lzo", b"lzo")])  # fmt: skip
@pytest.mark.parametrize(
    ("inner", "machine", "architecture"),
    [(build.arm64_image(KERNEL), 0xAA64, "arm64"), (build.riscv_image(KERNEL), 0x5064, "riscv64"),
     (build.loongarch_image(KERNEL), 0x6264, "loongarch64")],
)  # fmt: skip
def test_zboot(name: str, word: bytes, inner: bytes, machine: int, architecture: str) -> None:
    memory = unpacked(build.zboot(packed(name, inner), word, machine))
    assert memory.container.startswith(f"EFI zboot, {name}, ")
    assert content(memory) == inner
    assert memory.image is not None
    assert (memory.image.architecture, memory.image.offset) == (architecture, 0x2000)


def test_unified_kernel_image() -> None:
    memory = unpacked(build.uki(build.bzimage(packed("zstd", VMLINUX))))
    assert memory.container == "UKI, bzImage, zstd, ELF"
    assert memory.read(TEXT, len(KERNEL)).tobytes() == KERNEL
    assert memory.image is not None
    assert memory.image.offset == 0xA00 + 4 * 512 + 700


def test_other_efi_programs_are_no_images() -> None:
    program = (
        bytes.fromhex("4d5a").ljust(0x3C, b"\0") + b"\x40\0\0\0" + build.pe_headers(0x8664, [(b".text", 512, 512)])
    )
    assert unwrapping.unwrap("image", view(program + bytes(4096))) is None


@pytest.mark.parametrize(
    ("number", "name"), [(1, "gzip"), (2, "bzip2"), (3, "lzma"), (4, "lzo"), (5, "lz4"), (6, "zstd")]
)
def test_uimage(number: int, name: str) -> None:
    image = build.arm64_image(KERNEL)
    memory = unpacked(build.uimage(packed(name, image), number, architecture=22))
    assert memory.container == f"uImage, {name}, arm64 Image"
    assert content(memory) == image
    assert memory.image is not None
    assert memory.image.offset == 64


def test_uimage_of_a_zimage() -> None:
    memory = unpacked(build.uimage(build.arm_zimage(packed("xz", KERNEL))))
    assert memory.container == "uImage, ARM zImage, xz, flat image"
    assert content(memory) == KERNEL


def test_uimage_of_several_files() -> None:
    files = build.multi(packed("gzip", KERNEL), b"ramdisk", b"tree")
    memory = unpacked(build.uimage(files, 1, architecture=5, kind=4, load=0x80060000))
    assert memory.container == "uImage, gzip, flat image"
    assert content(memory) == KERNEL
    assert memory.image is not None
    assert (memory.image.architecture, memory.image.base) == ("mips", 0x80060000)
    assert memory.image.offset == 64 + 16


def test_uimage_of_a_64_bit_mips_kernel() -> None:
    image = unpacked(build.uimage(packed("gzip", KERNEL), 1, architecture=6, load=0x80100000)).image
    assert image is not None
    assert image.base == 0xFFFFFFFF80100000


def test_uimage_of_a_firmware_with_a_uimage_inside() -> None:
    inner = build.uimage(packed("lzma", KERNEL), 3, architecture=5, load=0x80002000)
    memory = unpacked(build.uimage(inner, kind=5, architecture=5))
    assert memory.container == "uImage, uImage, lzma, flat image"
    assert memory.image is not None
    assert (memory.image.architecture, memory.image.base) == ("mips", 0x80002000)


def test_uimage_of_something_else() -> None:
    assert "holds a RAM disk, not a kernel" in refusal(build.uimage(b"initrd", kind=3))


def test_lzma_with_unusual_properties_is_known_by_the_header() -> None:
    filters = [{"id": lzma.FILTER_LZMA1, "lc": 0, "lp": 3, "pb": 1, "dict_size": 3 << 16}]
    stream = lzma.compress(KERNEL, lzma.FORMAT_ALONE, filters=filters)
    assert content(unpacked(build.uimage(stream, 3))) == KERNEL


@pytest.mark.parametrize("version", range(5))
@pytest.mark.parametrize("page", [2048, 16384])
@pytest.mark.parametrize("name", [None, "gzip", "lz4"])
def test_boot_img(version: int, page: int, name: str | None) -> None:
    image = build.arm64_image(KERNEL)
    tree = build.device_tree({"model": b"phone\0"})  # vendors append it to the kernel
    memory = unpacked(build.boot_img((COMPRESS[name](image) if name else image) + tree, version, page))
    assert memory.container == ", ".join([f"boot.img v{version}", *([name] if name else []), "arm64 Image"])
    assert content(memory) == (image if name else image + tree)
    assert memory.image is not None
    assert memory.image.offset == (4096 if version >= 3 else page)


def test_boot_img_of_old_with_the_size_of_a_tree_where_the_version_is_now() -> None:
    image = bytearray(build.boot_img(build.arm_zimage(packed("xz", KERNEL))))
    build.put(image, 40, "<I", 0x123456)
    assert unpacked(bytes(image)).container == "boot.img v0, ARM zImage, xz, flat image"


def test_boot_images_without_a_kernel() -> None:
    assert "holds no kernel" in refusal(build.boot_img(b"", 4))
    assert "open boot.img instead" in refusal(b"VNDRBOOT" + bytes(5000))


@pytest.mark.parametrize("external", ["", "offset", "position"])
@pytest.mark.parametrize(
    ("word", "name"), [(b"none", None), (b"gzip", "gzip"), (b"lzma", "lzma"), (b"lz4", "lz4 frame")]
)
def test_fit(word: bytes, name: str | None, external: Literal["", "offset", "position"]) -> None:
    image = build.arm64_image(KERNEL)
    memory = unpacked(build.fit(COMPRESS[name](image) if name else image, word, external=external))
    assert memory.container == ", ".join(["FIT", *([name] if name else []), "arm64 Image"])
    assert content(memory) == image


def test_a_device_tree_is_no_image() -> None:
    assert unwrapping.unwrap("image", view(build.device_tree({"model": b"board\0", "cpus": {}}) + bytes(9999))) is None


def test_fit_without_a_kernel() -> None:
    tree = build.device_tree({"images": {"fdt": {"type": b"flat_dt\0", "data": b"abc"}}})
    assert "has no image of type kernel" in refusal(tree)


@pytest.mark.parametrize("name", ["xz", "zstd", "gzip"])
def test_s390_image(name: str) -> None:
    memory = unpacked(build.s390_image(packed(name, KERNEL)))
    assert memory.container == f"s390 image, {name}, flat image"
    assert content(memory) == KERNEL
    assert memory.image is not None
    assert (memory.image.architecture, memory.image.offset) == ("s390x", 0x12000)


@pytest.mark.parametrize("pack", [build.bzimage, build.arm_zimage, build.s390_image,
                                  lambda stream: build.vmlinux((TEXT, stream)), lambda stream: stream])  # fmt: skip
def test_a_missing_package_is_named_whatever_it_is_missing_for(
    pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, module, None)
    optional_package.cache_clear()
    text = refusal(pack(packed("zstd", KERNEL)))
    assert "zstd needs the package backports.zstd; pip install 'kallsift[images]'" in text


def test_uncompressed_s390_image() -> None:
    image = build.s390_image(KERNEL)
    memory = unpacked(image)
    assert memory.container == "s390 image"
    assert content(memory) == image


@pytest.mark.parametrize(("machine", "bits", "order"), [(8, 64, "<"), (8, 32, ">"), (20, 32, ">"), (21, 64, "<")])
@pytest.mark.parametrize("name", NAMES)
def test_wrappers_in_elf(machine: int, bits: Bits, order: ByteOrder, name: str) -> None:
    stream = packed(name, KERNEL)
    memory = unpacked(build.vmlinux((0x80400000, b"\1" * 3000 + stream), bits=bits, order=order, machine=machine))
    assert memory.container == f"ELF, {name}, flat image"
    assert content(memory) == KERNEL


def test_a_kernel_which_holds_another_is_itself() -> None:
    crash_kernel = COMPRESS["xz"](kernel(seed=2))
    memory = unpacked(build.vmlinux((TEXT, KERNEL + crash_kernel)))
    assert memory.container == "ELF"


def test_a_kernel_without_tokens_is_not_left_for_what_its_archive_says() -> None:
    plain = kernel(marks=BANNER)
    archive = COMPRESS["gzip"](b"070701" + DIGITS + BANNER + bytes(9000))
    assert unpacked(build.vmlinux((TEXT, plain + archive))).container == "ELF"
    assert unpacked(build.vmlinux((TEXT, plain + COMPRESS["gzip"](KERNEL)))).container == "ELF, gzip, flat image"


@pytest.mark.parametrize(
    ("machine", "architecture"), [(3, None), (20, None), (8, "mips"), (40, "arm")], ids=["x86", "ppc", "mips", "arm"]
)
def test_a_wrapper_of_32_bits_says_little_of_the_kernel_inside(machine: int, architecture: str | None) -> None:
    image = unpacked(build.vmlinux((0x100000, COMPRESS["gzip"](KERNEL)), bits=32, machine=machine)).image
    assert image is not None
    assert image.architecture == architecture


def test_the_digits_alone_are_no_kernel() -> None:
    table_of_characters = COMPRESS["gzip"](kernel(marks=DIGITS))
    assert (
        list(unwrapping.payloads(raw.open("flash", view(table_of_characters), lambda: None), WorkBudget.of(1 << 20)))
        == []
    )
    assert (
        len(
            list(
                unwrapping.payloads(
                    raw.open("flash", view(COMPRESS["gzip"](KERNEL)), lambda: None), WorkBudget.of(1 << 20)
                )
            )
        )
        == 1
    )


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_token_table_of_either_byte_order(order: ByteOrder) -> None:
    assert kernel_signature.holds_token_table(view(kernel(marks=build.token_table(order))))
    table = bytearray(build.token_table(order))
    table[-200] ^= 1
    assert not kernel_signature.holds_token_table(view(kernel(marks=bytes(table))))


def test_a_kernel_without_tokens_is_known_by_its_banner() -> None:
    plain = kernel(marks=BANNER)
    assert unpacked(build.vmlinux((TEXT, plain))).container == "ELF"
    assert unpacked(build.arm_zimage(packed("gzip", plain))).container == "ARM zImage, gzip, flat image"
    assert unwrapping.unwrap("image", view(build.vmlinux((TEXT, kernel(marks=b"Linux version %s"))))) is None


@pytest.mark.parametrize("depth", [1, 3, 7])
def test_layer_upon_layer(depth: int) -> None:
    image = VMLINUX
    for number in range(depth):
        image = COMPRESS[NAMES[number]](image)
    assert unpacked(image).container == ", ".join([*reversed(NAMES[:depth]), "ELF"])


def test_a_compressed_flat_kernel() -> None:
    """Nothing says that it is a kernel, so that it is opened as the same bytes are that are not compressed."""
    memory = unwrapping.unwrap("image", view(COMPRESS["lzma"](KERNEL)))
    assert memory is not None
    assert (memory.container, memory.image, memory.is_headerless) == ("raw, lzma", None, True)
    assert content(memory) == KERNEL


@pytest.mark.parametrize("name", NAMES)
def test_a_compressed_file_without_a_kernel(name: str) -> None:
    stream = COMPRESS[name](bytes(100_000))
    memory = unwrapping.unwrap("image", view(stream))
    assert memory is not None
    assert (memory.container, memory.image) == (f"raw, {name}", None)
    assert f"{name} stream is cut short" in refusal(stream[:15])


def test_payloads_anywhere() -> None:
    parts = [COMPRESS[name](kernel(seed=number)) for number, name in enumerate(NAMES)]
    hay = b"".join(kernel(9000, 50 + number, b"") + part for number, part in enumerate(parts))
    empty = COMPRESS["gzip"](b"no kernel" * 99)
    memory = raw.open("flash", view(hay + empty + hay[:999]), lambda: None)
    found = list(unwrapping.payloads(memory, WorkBudget.of(memory.size)))
    assert {content(one) for one in found} == {kernel(seed=number) for number in range(len(NAMES))}
    assert len(found) == len(NAMES)
    for one in found:
        assert one.source == "flash"
        assert one.image is not None
        container, name = one.image.packaging
        assert container == "raw"
        assert hay[one.image.offset :].startswith(parts[NAMES.index(name)])


def test_the_marks_are_those_of_the_scan() -> None:
    assert kernel_signature.DIGITS == token_scan.DIGITS == DIGITS


@pytest.mark.parametrize("compression", ["none", "gzip", "lzma"])
def test_what_mkimage_writes(tmp_path: Path, compression: str) -> None:
    needs("mkimage", package="u-boot-tools")
    image = build.arm64_image(KERNEL)
    (tmp_path / "kernel").write_bytes(image if compression == "none" else COMPRESS[compression](image))
    words = f"mkimage -A arm64 -O linux -T kernel -C {compression} -a 0x80000 -e 0x80000 -n test -d kernel uImage"
    subprocess.run(words.split(), cwd=tmp_path, check=True, capture_output=True, timeout=30)
    memory = unpacked((tmp_path / "uImage").read_bytes())
    assert content(memory) == image
    assert memory.image is not None
    assert memory.image.architecture == "arm64"


@pytest.mark.parametrize("options", ["", "-E", "-E -p 0x4000"])
def test_what_mkimage_writes_as_fit(tmp_path: Path, options: str) -> None:
    needs("mkimage", package="u-boot-tools")
    needs("dtc", package="device-tree-compiler")
    image = build.arm64_image(KERNEL)
    (tmp_path / "kernel").write_bytes(COMPRESS["lzma"](image))
    (tmp_path / "image.its").write_text("""/dts-v1/; / { description = "test"; #address-cells = <1>;
        images { one { description = "kernel"; data = /incbin/("kernel"); type = "kernel"; arch = "arm64"; os = "linux";
            compression = "lzma"; load = <0x80000>; entry = <0x80000>; hash { algo = "crc32"; }; }; };
        configurations { default = "conf"; conf { kernel = "one"; }; }; };""")
    words = f"mkimage {options} -f image.its image.itb"
    subprocess.run(words.split(), cwd=tmp_path, check=True, capture_output=True, timeout=30)
    memory = unpacked((tmp_path / "image.itb").read_bytes())
    assert memory.container == "FIT, lzma, arm64 Image"
    assert content(memory) == image


@pytest.mark.parametrize("version", range(5))
def test_what_mkbootimg_writes(tmp_path: Path, version: int) -> None:
    needs("mkbootimg")
    image = build.arm64_image(KERNEL)
    for name in ("kernel", "ramdisk", "dtb"):
        (tmp_path / name).write_bytes(image if name == "kernel" else b"x" * 5000)
    words = f"mkbootimg --kernel kernel --ramdisk ramdisk --dtb dtb --header_version {version} -o boot.img"
    done = subprocess.run(words.split(), cwd=tmp_path, capture_output=True, timeout=30)
    if done.returncode:
        pytest.skip(f"this mkbootimg does not know version {version}")
    memory = unpacked((tmp_path / "boot.img").read_bytes())
    assert memory.container == f"boot.img v{version}, arm64 Image"
    assert content(memory) == image
