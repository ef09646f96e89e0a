"""What modules for image formats take and give: places inside of a packed image, or a kernel that lies bare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kallsift.arrays import Bytes
from kallsift.errors import ImageError
from kallsift.memory.memory import AddressSpace, Segment

BEHIND_LIMIT = 64 << 20
"""Bytes that may stand behind an image (device trees, padding of a partition). With more, it is no image but a dump
of memory at whose very start a kernel was loaded."""


FLAT_LIMIT = 128 << 20
"""Bytes of a file without a header up to which it passes for a kernel; above, it is the dump of a machine."""


@dataclass(frozen=True)
class Part:
    """A place in a packed image where a kernel lies, or what holds one.

    Attributes:
        start: offset of the first byte.
        end: offset behind the last byte; may lie behind the image's end, where the image is cut short.
        codec: name of its compression as a header gives it; None where the bytes tell.
        anywhere: whether a compressed kernel lies somewhere between ``start`` and ``end``, to be found by its magic.
    """

    start: int
    end: int
    codec: str | None = None
    anywhere: bool = False


@dataclass(frozen=True)
class Packed:
    """An image that holds a kernel in one of its parts.

    Attributes:
        label: name of the format, e.g. ``"boot.img v2"``.
        parts: the most likely first.
        architecture: as `ImageFacts.architecture`.
        base: as `ImageFacts.base`.
    """

    label: str
    parts: tuple[Part, ...]
    architecture: str | None = None
    base: int | None = None


@dataclass(frozen=True, eq=False)
class Bare:
    """A kernel as it will lie in memory.

    Attributes:
        label: name of the format, e.g. ``"arm64 Image"``.
        space: VIRTUAL where headers give link addresses, FILE where the image is flat.
        segments: as `Memory.segments`.
        architecture: as `ImageFacts.architecture`.
        base: as `ImageFacts.base`.
        big_endian: byte order of the kernel's words; None where no header tells.
        unpacker: whether programs of this format may also be some that unpack a kernel from inside of themselves.
        certain: whether the format is one of kernels alone, so that nothing inside needs to speak for one.
        is_program: whether it is linked as programs of users are, as user-mode Linux is: only a token table tells.
        is_headerless: whether nothing in the bytes themselves says that they are a kernel.
        notes: as `Memory.notes`.
        whole: as `ImageFacts.whole`.
    """

    label: str
    space: AddressSpace
    segments: tuple[Segment, ...]
    architecture: str | None = None
    base: int | None = None
    big_endian: bool | None = None
    unpacker: bool = False
    certain: bool = True
    is_program: bool = False
    is_headerless: bool = False
    notes: tuple[str, ...] = ()
    whole: Bytes | None = None


class ImageFormat(Protocol):
    """What a module for one image format (or a family of small ones) offers."""

    def probe(self, view: Bytes) -> bool:
        """Whether ``view`` begins as an image of this format does; must not look at more than a few kilobytes."""
        ...

    def read(self, view: Bytes) -> Packed | Bare | None:
        """What the image holds; None if a second look shows that it is none of this format.

        Raises:
            ImageError: if it is one, but broken.
        """
        ...


def record(view: Bytes, offset: int, layout: np.dtype[np.void], what: str) -> np.void:
    """One record of an image, bounds checked.

    Raises:
        ImageError: if the image ends before it does; the text names ``what``.
    """
    found = view[offset : offset + layout.itemsize]
    if len(found) < layout.itemsize:
        raise ImageError(f"the {what} at offset {offset:#x} runs past the end; copy the image again")
    result: np.void = found.view(layout)[0]
    return result


def starts_with(view: Bytes, magic: bytes, offset: int = 0) -> bool:
    """Whether ``magic`` stands at ``offset``."""
    return view[offset : offset + len(magic)].tobytes() == magic


def flat(view: Bytes) -> tuple[Segment, ...]:
    """A whole image as one segment that starts at 0, for the space FILE."""
    return (Segment(0, view),) if len(view) else ()
