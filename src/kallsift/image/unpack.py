"""Remove packaging and compression, layer by layer, until the bare kernel is left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import Bytes
from kallsift.budget import WorkBudget
from kallsift.compression import codecs
from kallsift.compression.codecs import Codec, MissingCodecError
from kallsift.errors import ImageError, SourceError
from kallsift.image import kernel_signature, relocation
from kallsift.image.embedded import nearest_before, packed_headers
from kallsift.image.formats import elf as elf_image
from kallsift.image.formats.base import BEHIND_LIMIT, FLAT_LIMIT, KernelPayload, Payload, WrappedImage, flat
from kallsift.image.formats.registry import FORMATS
from kallsift.image.layers import KernelImage, Layer
from kallsift.image.payload_search import Budget, streams
from kallsift.memory.file_mapping import stored_size
from kallsift.memory.formats import archives, raw
from kallsift.memory.formats import registry as containers
from kallsift.memory.memory import AddressSpace, ImageFacts, Memory, cut_short
from kallsift.memory.segments import BytesSegment

DEPTH_LIMIT = 8
"""Highest number of layers around a kernel: a firmware's FIT with a gzip'ed EFI zboot image has four."""
UNPACKS_WIDER = ("x86", "ppc")
"""Architectures whose 32-bit programs also unpack 64-bit kernels: x86 did at first, arch/powerpc/boot still does."""


def unwrap(name: str, view: Bytes) -> Memory | None:
    """Return the kernel in a file; None if the file is no kernel image.

    Args:
        name: name of the source in messages.
        view: the whole file.

    Raises:
        SourceError: if it is an image whose kernel cannot be unpacked; the text names the layer and the reason.
    """
    layer = Layer(view)
    codec = codecs.recognise(view)
    try:
        budget = Budget(WorkBudget.of(stored_size(view)))
        kernel = _compressed(layer, codec, budget) if codec else _kernel(layer, budget)
    except ImageError as error:
        raise SourceError(f"{name}: {error}") from error
    return _memory(name, kernel) if kernel else None


def payloads(memory: Memory, work: WorkBudget) -> Iterator[Memory]:
    """Yield compressed kernels at any offset in a memory that is no kernel itself.

    Such a memory is the contents of a firmware file or a flash chip. Each kernel is unpacked on demand. Contents
    without a token table and a kernel's banner are left out. The search ends when the budget for ``work`` is spent.
    """
    budget = Budget(work)
    outer = (*memory.image.packaging, memory.container) if memory.image else (memory.container,)
    for segment in memory.segments:
        if not isinstance(segment, BytesSegment):
            continue  # a dump that decodes its pages on demand: reading all of it at once takes too much memory
        layer = Layer(segment.read(), outer, segment.start, segment.start)
        for low, high in segment.stored():
            for kernel in _payloads_between(layer, low, high, budget):
                yield _memory(memory.source, kernel)


def _payloads_between(layer: Layer, low: int, high: int, budget: Budget) -> Iterator[KernelImage]:
    """Yield the kernels that begin between two offsets, in packed images or streams."""
    taken: list[range] = []
    for place in packed_headers(layer.view[low:high], budget.work):
        if any(place in span for span in taken):
            continue
        try:
            # an image that begins here may continue behind a hole of a sparse file
            kernel = _kernel(layer.inside(low + place, len(layer.view)), budget)
        except ImageError:
            continue
        if kernel and any(kernel_signature.holds_kernel(one.data) for one in kernel.bare.segments):
            end = kernel.layer.end
            stop = place + len(kernel.layer.view) if end is None else end - (layer.place or 0) - low
            taken.append(range(place, stop))
            yield kernel
    yield from _searched(layer.inside(low, high), budget, taken)


def bare_at(memory: Memory, place: int, headers: NDArray[np.int64], budget: WorkBudget) -> Iterator[Memory]:
    """Yield the kernels with own headers before a place in a file, the nearest first.

    Args:
        memory: a file without a header, or with a misleading one.
        place: offset of something that the kernel must contain.
        headers: offsets of headers in the file, as `embedded.bare_headers` returns them.
        budget: budget for reading the headers.
    """
    (segment,) = memory.segments
    view = segment.read()
    outer = (memory.container,)
    for offset in nearest_before(headers, place):
        if not budget.take("kernels behind headers of their own", BEHIND_LIMIT):
            return
        layer = Layer(view[offset : offset + BEHIND_LIMIT], outer, offset, offset)
        try:
            kernel = _kernel(layer, Budget(budget))
        except ImageError:
            continue
        is_bare = kernel is not None and kernel.layer.place == offset
        if (
            kernel
            and is_bare
            and any(kernel_signature.holds_token_table(segment.data) for segment in kernel.bare.segments)
        ):
            yield _memory(memory.source, kernel, offset)


def _compressed(layer: Layer, codec: Codec, budget: Budget) -> KernelImage | None:
    """Return the kernel in a file that is compressed as a whole.

    The result is None if it holds no kernel, as with a compressed dump.
    """
    beginning = codecs.beginning(codec, layer.view)
    if containers.is_dump(beginning) and not elf_image.is_program(beginning):
        return None
    try:
        inner = layer.decoded(codec, budget.decode(codec, layer.view))
    except codecs.CodecError as error:
        if error.expanded:
            return None  # more than any kernel
        raise
    kernel = _kernel(inner, budget)
    header = inner.view[: containers.HEADER_SIZE].tobytes()
    if kernel or len(inner.view) > FLAT_LIMIT or codecs.recognise(inner.view) or archives.probe(header):
        return kernel
    return None if elf_image.probe(inner.view) else _flat(inner)


def _kernel(layer: Layer, budget: Budget) -> KernelImage | None:
    """Return the kernel in bytes that begin with an image, a stream or an archive.

    The result is None if they begin with none of these.
    """
    if len(layer.packaging) > DEPTH_LIMIT:
        raise ImageError(f"is packed more than {DEPTH_LIMIT} times; unpack it by hand")
    codec = codecs.recognise(layer.view)
    if codec:
        inner = layer.decoded(codec, budget.decode(codec, layer.view))
        return _kernel(inner, budget) or _speaking(inner)
    for image_format in FORMATS:
        content = image_format.read(layer.view) if image_format.probe(layer.view) else None
        if isinstance(content, WrappedImage):
            return _packed(layer, content, budget)
        if content:
            return _bare(layer, content, budget)
    return _archived(layer, budget)


def _archived(layer: Layer, budget: Budget) -> KernelImage | None:
    """Return the kernel in a file of an archive.

    The result is None if there is no kernel, or if one of the files is a memory dump.
    """
    form = archives.archive_format(layer.view[: archives.TAR_BLOCK].tobytes())
    found = archives.members(layer.view) if form else []
    if form is None or archives.dump_in(layer.view, found):
        return None
    budget.packings -= 1
    for member in sorted(found, key=lambda member: -member.size)[: max(0, budget.packings)]:
        inner = replace(
            layer.inside(member.offset, member.offset + member.size),
            packaging=(*layer.packaging, form),
            notes=(*layer.notes, *archives.chosen_note(form, found, member)),
        )
        try:
            kernel = _kernel(inner, budget) or _speaking(inner, tables_only=True)
        except ImageError:
            continue  # another file may be one
        if kernel and any(kernel_signature.holds_kernel(segment.data) for segment in kernel.bare.segments):
            return kernel
    return None


def _bare(layer: Layer, bare: KernelPayload, budget: Budget) -> KernelImage | None:
    """Return the kernel itself, or the one that it unpacks from inside when it boots."""
    table = kernel_signature.token_table(layer.view)
    if table is not None and not (bare.unpacker and layer.place is not None and _is_packed(layer, table, budget)):
        return KernelImage(layer, bare)
    if bare.is_program:
        return None
    architecture = None if bare.architecture in UNPACKS_WIDER else bare.architecture
    around = replace(layer, packaging=(*layer.packaging, bare.label), architecture=architecture, is_named=True)
    speaks = any(kernel_signature.holds_banner(segment.data) for segment in bare.segments)
    for inner in _searched(around, budget):
        # a kernel without a token table may hold an archive of early user space, with the text of a banner in a program
        if not speaks or any(kernel_signature.holds_token_table(segment.data) for segment in inner.bare.segments):
            return inner
    if bare.unpacker and budget.missing:
        raise MissingCodecError(f"{bare.label}: {budget.missing}")
    return KernelImage(layer, bare) if bare.certain or speaks or layer.notes else None


def _is_packed(layer: Layer, place: int, budget: Budget) -> bool:
    """Tell whether ``place`` is in a compressed stream.

    Data that does not repeat shows in such a stream as it is.
    """
    found = streams(layer.view, budget, codecs.TRANSPARENT)
    return any(not one.decoded.problem and one.offset < place < one.offset + one.decoded.used for one in found)


def _packed(layer: Layer, packed: WrappedImage, budget: Budget) -> KernelImage:
    """Return the kernel in the first part of an image that holds one."""
    budget.packings -= 1
    if budget.packings < 0:
        raise ImageError(f"{packed.label}: refers to itself, or has more parts than any image")
    around = replace(
        layer,
        packaging=(*layer.packaging, packed.label),
        architecture=packed.architecture or layer.architecture,
        base=packed.base,
        is_named=True,
    )
    reasons: list[ImageError] = []
    for part in packed.parts:
        try:
            kernel = _in_part(around, part, budget)
        except MissingCodecError as error:
            raise MissingCodecError(f"{packed.label}, payload at {layer.at(part.start)}: {error}") from error
        except ImageError as error:
            reasons.append(ImageError(f"{packed.label}, payload at {layer.at(part.start)}: {error}"))
            continue
        if kernel:
            return kernel
        what = "holds no kernel, bare or compressed; copy the image again"
        reasons.append(ImageError(f"{packed.label}, payload at {layer.at(part.start)}: {what}"))
    if budget.missing:
        raise MissingCodecError(f"{packed.label}: {budget.missing}")
    raise reasons[0]


def _in_part(layer: Layer, part: Payload, budget: Budget) -> KernelImage | None:
    inner = layer.inside(part.start, part.end)
    if part.anywhere:
        return next(_searched(inner, budget), None)
    if not len(inner.view):
        raise ImageError("begins beyond the end of the image; copy the image again")
    if len(inner.view) < part.end - part.start:
        remark = cut_short(f"payload at {layer.at(part.start)}", len(inner.view), part.end - part.start)
        inner = replace(inner, notes=(*inner.notes, remark))
    codec = codecs.recognise(inner.view) or codecs.BY_NAME.get(part.codec or "")
    if codec:
        inner = inner.decoded(codec, budget.decode(codec, inner.view))
    kernel = _kernel(inner, budget) or _speaking(inner, tables_only=True)
    kernel = kernel or next(_searched(inner, budget), None) or _speaking(inner)
    if kernel is None and inner.notes:
        return _flat(inner)  # cut short or damaged, so that the part that shows a kernel may be missing
    return kernel


def _searched(layer: Layer, budget: Budget, taken: Sequence[range] = ()) -> Iterator[KernelImage]:
    """Yield kernels in streams at any offset, except for those in ``taken`` parts."""
    for found in streams(layer.view, budget, taken=taken):
        here = replace(layer.inside(found.offset, len(layer.view)), base=None, is_named=True)
        inner = here.decoded(found.codec, found.decoded)
        try:
            kernel = _kernel(inner, budget) or _speaking(inner)
        except ImageError:
            continue
        if kernel and any(kernel_signature.holds_kernel(segment.data) for segment in kernel.bare.segments):
            yield kernel


def _speaking(layer: Layer, tables_only: bool = False) -> KernelImage | None:
    """Return bytes without a header as a flat image, if they show a kernel.

    They must contain a token table or, unless ``tables_only``, a banner.
    """
    holds = kernel_signature.holds_token_table if tables_only else kernel_signature.holds_kernel
    return _flat(layer) if holds(layer.view) else None


def _flat(layer: Layer) -> KernelImage:
    bare = KernelPayload(
        "flat image", AddressSpace.FILE, flat(layer.view), layer.architecture, layer.base, is_headerless=True
    )
    return KernelImage(layer, bare)


def _headerless(name: str, layer: Layer) -> Memory:
    """Return decompressed bytes without a header as memory.

    Nothing tells whether they are a machine's memory or a bare kernel.
    """
    container = ", ".join((raw.CONTAINER, *reversed(layer.packaging)))
    segments, notes = (BytesSegment(0, layer.view),), layer.notes
    return Memory(name, container, AddressSpace.PHYSICAL, segments, notes=notes, is_headerless=True)


def _memory(name: str, kernel: KernelImage, skipped: int = 0) -> Memory:
    """Return a bare kernel as memory, with link-time values if it has relocations."""
    layer, bare = kernel.layer, kernel.bare
    if bare.is_headerless and not layer.is_named:
        return _headerless(name, layer)
    architecture = bare.architecture or layer.architecture
    segments, base = bare.segments, bare.base
    if bare.space is AddressSpace.FILE and segments:
        orders: dict[bool | None, tuple[relocation.ByteOrder, ...]] = {True: (">",), False: ("<",), None: ("<", ">")}
        for order in orders[bare.big_endian]:
            relocated = relocation.relocate_flat(segments[0].data, architecture, order)
            if relocated:
                segments, base = (BytesSegment(0, relocated.data),), relocated.base
                break
    facts = ImageFacts(layer.packaging, layer.offset, architecture, base, skipped, layer.end, bare.whole)
    return Memory(
        source=name,
        container=", ".join((*layer.packaging, bare.label)),
        space=bare.space,
        segments=segments,
        notes=(*layer.notes, *bare.notes),
        image=facts,
    )
