"""Represent the layers of packaging and compression around a kernel image."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kallsift.arrays import Bytes
from kallsift.compression import codecs
from kallsift.compression.codecs import Codec
from kallsift.image.formats.base import KernelPayload


@dataclass(frozen=True, eq=False)
class Layer:
    """The bytes inside of some layers, and the facts that these layers tell.

    Attributes:
        view: the bytes.
        packaging: labels of the layers around, the outermost first.
        place: offset of ``view`` in the file that was opened; None once something had to be decoded.
        offset: as `ImageFacts.offset`.
        architecture: architecture by the innermost layer that tells one.
        base: link address by the layer right around.
        notes: remarks so far.
        is_named: True if one of the layers is an image format, so that the inside is a kernel and no machine's memory.
        end: end of the innermost compressed stream in the file; None where it lies in another one.
    """

    view: Bytes
    packaging: tuple[str, ...] = ()
    place: int | None = 0
    offset: int = 0
    architecture: str | None = None
    base: int | None = None
    notes: tuple[str, ...] = ()
    is_named: bool = False
    end: int | None = None

    def at(self, offset: int) -> str:
        """Return the words by which messages refer to an offset in these bytes."""
        return f"offset {offset:#x}" if self.place is None else f"file offset {self.place + offset:#x}"

    def inside(self, start: int, end: int) -> Layer:
        """Return the bytes from ``start`` to ``end``, in the same layer."""
        place = None if self.place is None else self.place + start
        return replace(self, view=self.view[start:end], place=place, offset=self.offset if place is None else place)

    def decoded(self, codec: Codec, stream: codecs.Decoded) -> Layer:
        """Return the contents of the stream that these bytes begin with."""
        notes = self.notes
        if stream.problem:
            size = f"{len(stream.data)} bytes could be unpacked"
            notes += (f"{codec.name} stream at {self.at(0)} {stream.problem}: {size}",)
        end = self.end if self.place is None else self.place + stream.used
        packaging = (*self.packaging, codec.name)
        return replace(self, view=stream.data, packaging=packaging, place=None, notes=notes, end=end)


@dataclass(frozen=True, eq=False)
class KernelImage:
    """A bare kernel, and the layers around it."""

    layer: Layer
    bare: KernelPayload
