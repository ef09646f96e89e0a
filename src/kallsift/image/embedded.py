"""Find headers of kernel images at any offset, such as in the contents of a flash chip or in a firmware file.

A magic of four bytes occurs by chance in any large file. So the other fields of each header must also be valid by its
format. The format's own module reads what follows a header.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import Bytes
from kallsift.budget import STEP, WorkBudget
from kallsift.byte_search import occurrences
from kallsift.errors import ImageError
from kallsift.image.formats import android_boot, arm_zimage, bzimage, efi_stub, fit, s390, uimage
from kallsift.image.formats import elf as elf_image
from kallsift.image.formats.base import record, starts_with
from kallsift.memory.formats.elf_headers import MAGIC as ELF_MAGIC
from kallsift.memory.segments import BytesSegment

MAX_HEADERS = 64
"""Highest number of headers of each kind that are used."""

MAX_BARE_HEADERS = 16
BARE_REACH = 128 << 20
"""Highest distance in bytes from an image's header to the token table behind it."""


SEARCH_SPEED = 4
"""Speed of the search for one magic, relative to other work on the same bytes."""


class ImageHeader(NamedTuple):
    """The way to find a format's header: a magic, its offset in the header, and a test of the other fields."""

    magic: bytes
    offset: int
    holds: Callable[[Bytes], bool]


def _uimage(view: Bytes) -> bool:
    """Tell whether the checksum of a uImage's header is right.

    Source: include/image.h of U-Boot, ih_hcrc.
    """
    header = bytearray(view[: uimage.HEADER.itemsize].tobytes())
    stated = int.from_bytes(header[4:8], "big")
    header[4:8] = bytes(4)
    return len(header) == uimage.HEADER.itemsize and zlib.crc32(header) == stated


def _fit(view: Bytes) -> bool:
    header = record(view, 0, fit.HEADER, "device tree header")
    total, structure = int(header["total_size"]), int(header["structure_offset"])
    return int(header["compatible_version"]) == 16 and fit.HEADER.itemsize <= structure < total <= len(view)


def _boot_img(view: Bytes) -> bool:
    header = record(view, 0, android_boot.HEADER, "boot.img header")
    is_fixed = android_boot.PAGE_FIXED_SINCE <= int(header["version"]) <= android_boot.NEWEST
    return is_fixed or int(header["page_size"]) in android_boot.PAGE_SIZES


def _bzimage(view: Bytes) -> bool:
    version = int(record(view, 0, bzimage.SETUP_HEADER, "setup header")["version"])
    return bzimage.probe(view) and version >> 8 == 2


def _zboot(view: Bytes) -> bool:
    return starts_with(view, b"MZ")


def _elf(view: Bytes) -> bool:
    return elf_image.is_program(view[:64].tobytes())


PACKED_HEADERS = (
    ImageHeader(uimage.MAGIC, 0, _uimage),
    ImageHeader(fit.MAGIC, 0, _fit),
    ImageHeader(android_boot.MAGIC, 0, _boot_img),
    ImageHeader(bzimage.MAGIC, bzimage.MAGIC_PLACE, _bzimage),
    *(ImageHeader(magic, arm_zimage.MAGIC_PLACE, arm_zimage.probe) for magic in arm_zimage.MAGICS),
    ImageHeader(efi_stub.ZBOOT_MAGIC, 4, _zboot),
)
"""Headers of images that hold a kernel in one of their parts."""

BARE_HEADERS = (
    ImageHeader(efi_stub.ARM64_MAGIC, 0x38, efi_stub.probe),
    ImageHeader(efi_stub.RISCV_MAGIC, 0x38, efi_stub.probe),
    ImageHeader(efi_stub.LINUX_PE_MAGIC, 0x38, efi_stub.probe),
    ImageHeader(ELF_MAGIC, 0, _elf),
    ImageHeader(s390.MAGIC, s390.MAGIC_PLACE, s390.probe),
)
"""Headers of kernels in the form in which they will lie in memory."""


def packed_headers(view: Bytes, budget: WorkBudget) -> Iterator[int]:
    """Yield the offsets of headers of images that hold a kernel in a part, ascending."""
    found: set[int] = set()
    for header in PACKED_HEADERS:
        for number, offset in enumerate(_offsets(view, header, budget)):
            if number == MAX_HEADERS:
                break
            found.add(offset)
    yield from sorted(found)


def bare_headers(segment: BytesSegment, places: Sequence[int], budget: WorkBudget) -> NDArray[np.int64]:
    """Return the offsets of headers of bare kernels whose images can contain a place.

    Returns:
        The offsets, ascending, shape (n,).
    """
    view = segment.read()
    parts = list(_before(segment, places))
    found = {offset for header in BARE_HEADERS for part in parts for offset in _offsets(view, header, budget, part)}
    return np.array(sorted(found), np.int64)


def _before(segment: BytesSegment, places: Sequence[int]) -> Iterator[range]:
    """Yield the parts with data in reach before any place, each byte once."""
    done = 0
    for place in sorted(places):
        for low, high in segment.stored():
            part = range(max(low, done, place - BARE_REACH), min(high, place))
            if part:
                yield part
        done = max(done, place)


def nearest_before(headers: NDArray[np.int64], place: int) -> list[int]:
    """Return the headers whose images can contain offset ``place``, the nearest first."""
    low, high = np.searchsorted(headers, [place - BARE_REACH, place]).tolist()
    chosen: list[int] = headers[low:high][-MAX_BARE_HEADERS:][::-1].tolist()
    return chosen


def _offsets(view: Bytes, header: ImageHeader, budget: WorkBudget, part: range | None = None) -> Iterator[int]:
    """Yield the offsets of one kind of header whose magic is in a part.

    The default part is the whole.
    """
    part = range(len(view)) if part is None else part
    if not budget.take("MiB of the search for headers", len(part) // SEARCH_SPEED, count=len(part) >> 20):
        return
    for place in occurrences(view, header.magic, part):
        if not budget.take("headers of images", STEP):
            return
        offset = place - header.offset
        if offset >= 0 and _holds(view[offset:], header):
            yield offset


def _holds(view: Bytes, header: ImageHeader) -> bool:
    try:
        return header.holds(view)
    except ImageError:
        return False
