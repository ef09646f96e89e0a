"""Define the interface of modules for image formats: parts of a packed image, or a bare kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kallsift.arrays import Bytes
from kallsift.errors import ImageError
from kallsift.memory.memory import AddressSpace
from kallsift.memory.segments import BytesSegment

BEHIND_LIMIT = 64 << 20
"""Highest number of bytes behind an image (device trees, padding of a partition).

With more, the file is no image but a memory dump at whose very start a kernel was loaded.
"""


FLAT_LIMIT = 128 << 20
"""Highest size in bytes of a file without a header that may be a kernel; a larger one is a machine's dump."""


@dataclass(frozen=True)
class Payload:
    """A part of a packed image with a kernel, or with something that holds one.

    Attributes:
        start: offset of the first byte.
        end: offset behind the last byte; may lie behind the image's end, where the image is cut short.
        codec: name of its compression by the header; None where the bytes tell.
        anywhere: True if a compressed kernel lies somewhere between ``start`` and ``end``, to be found by its magic.
    """

    start: int
    end: int
    codec: str | None = None
    anywhere: bool = False


@dataclass(frozen=True)
class WrappedImage:
    """An image that holds a kernel in one of its parts.

    Attributes:
        label: name of the format, e.g. ``"boot.img v2"``.
        parts: the parts, the most likely first.
        architecture: as `ImageFacts.architecture`.
        base: as `ImageFacts.base`.
    """

    label: str
    parts: tuple[Payload, ...]
    architecture: str | None = None
    base: int | None = None


@dataclass(frozen=True, eq=False)
class KernelPayload:
    """A kernel in the form in which it will lie in memory.

    Attributes:
        label: name of the format, e.g. ``"arm64 Image"``.
        space: VIRTUAL where headers give link addresses, FILE where the image is flat.
        segments: as `Memory.segments`.
        architecture: as `ImageFacts.architecture`.
        base: as `ImageFacts.base`.
        big_endian: byte order of the kernel's words; None where no header tells.
        unpacker: True if a program of this format may also unpack a kernel from inside of itself.
        certain: True if only kernels have this format, so that nothing inside needs to show a kernel.
        is_program: True if it is linked like a user's program, as user-mode Linux is; then only a token table shows
            that it is a kernel.
        is_headerless: True if nothing in the bytes themselves says that they are a kernel.
        notes: as `Memory.notes`.
        whole: as `ImageFacts.whole`.
    """

    label: str
    space: AddressSpace
    segments: tuple[BytesSegment, ...]
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
    """The interface of a module for one image format (or a family of small ones)."""

    def probe(self, view: Bytes) -> bool:
        """Tell whether ``view`` begins like an image of this format.

        It must not read more than a few kilobytes.
        """
        ...

    def read(self, view: Bytes) -> WrappedImage | KernelPayload | None:
        """Return the contents of the image.

        The result is None if a closer look shows that it does not have this format.

        Raises:
            ImageError: if it has this format but is broken.
        """
        ...


def record(view: Bytes, offset: int, layout: np.dtype[np.void], what: str) -> np.void:
    """Return one record of an image, with a check of the bounds.

    Raises:
        ImageError: if the image ends before the record does; the text names ``what``.
    """
    found = view[offset : offset + layout.itemsize]
    if len(found) < layout.itemsize:
        raise ImageError(f"the {what} at offset {offset:#x} runs past the end; copy the image again")
    result: np.void = found.view(layout)[0]
    return result


def starts_with(view: Bytes, magic: bytes, offset: int = 0) -> bool:
    """Tell whether ``magic`` stands at ``offset``."""
    return view[offset : offset + len(magic)].tobytes() == magic


def flat(view: Bytes) -> tuple[BytesSegment, ...]:
    """Return a whole image as one segment at offset 0, for the space FILE."""
    return (BytesSegment(0, view),) if len(view) else ()
