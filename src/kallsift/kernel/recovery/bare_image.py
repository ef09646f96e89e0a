"""Find kernel images in a file that no header explains: they can begin at any offset, even an odd one.

Bytes of a file in front of an image (a loader's header, a partition) shift it against the file's own offsets. The token
table tells the shift modulo a word, because it is aligned in every image; words that point at themselves tell it modulo
a page. Without the bytes in front of it, the image is like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from kallsift.image import kernel_signature
from kallsift.image.formats.base import FLAT_LIMIT
from kallsift.kallsyms.evidence import Check, CheckId
from kallsift.kallsyms.format.token_table import TokenTable, moved
from kallsift.kallsyms.recovered_tables import Attempt, Tables
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.kernel import Kernel, State
from kallsift.kernel.placement.distances import empty_head_distances
from kallsift.kernel.placement.placement import is_near
from kallsift.kernel.placement.pointers import AFTER, BEFORE, PAGE, Words
from kallsift.kernel.recovery.candidates import SharedWork, best_at, best_of, word_sizes
from kallsift.memory.memory import AddressSpace, ImageFacts, Memory
from kallsift.memory.segments import BytesSegment

MAX_HEADER = 1 << 16
"""Highest number of bytes in front of an image that count as its header; if there are more, they are other files."""

MAX_DISTANCES = 3
MAX_TABLES = 4

FIRST_SYMBOLS = ("_text", "_stext", "stext", "_start")
"""Names of the first byte of a flat image, or of one in its first page."""


def flat_image(memory: Memory) -> Memory | None:
    """Return a source as a kernel image in a file; None if it cannot be one.

    It can be one if it is a file without a header of its own, or a flat image that headers around it name.
    """
    if len(memory.segments) != 1 or not isinstance(memory.segments[0], BytesSegment):
        return None
    if memory.image is not None:
        return memory if memory.space is AddressSpace.FILE else None
    if not memory.is_headerless:
        return None
    facts = ImageFacts((memory.container,), 0)
    return replace(memory, space=AddressSpace.FILE, image=facts, is_headerless=False)


def is_file(memory: Memory) -> bool:
    """Tell whether a source without a header passes for a file.

    Larger sources are taken for dumps of machines.
    """
    return memory.is_headerless and memory.size <= FLAT_LIMIT


def best_in(
    memory: Memory, find: Callable[[Memory], Iterator[Tables]], attempt: Attempt, shared: SharedWork
) -> Kernel | None:
    """Return the best kernel of some tables.

    They are read as those of an image file if a machine's memory shows none.
    """
    kernel = best_of(memory, find(memory), attempt, shared)
    if not memory.is_headerless or (kernel and (kernel.proven or kernel.state is not State.IMAGE)):
        return kernel
    flat = flat_image(memory) if is_file(memory) else None
    image = best_of(flat, find(flat), Attempt(budget=attempt.budget), shared) if flat else None
    return image if image and image.proven else kernel


def unverified(kernel: Kernel, memory: Memory, is_copy: bool = False) -> Kernel:
    """Add to an image's evidence that it may be a copy in a machine's memory.

    Nothing is added if ``memory`` cannot be a machine's.

    Args:
        kernel: the image's kernel.
        memory: the source.
        is_copy: whether something in the source suggests another kernel.
    """
    if memory.image is not None or (is_file(memory) and not is_copy):
        return kernel
    detail = (
        "no running kernel was found; this image is part of the source, which can be a machine's memory with "
        "a file in it"
    )
    return replace(kernel, evidence=(*kernel.evidence, Check.that(CheckId.RUNNING_KERNEL, False, detail)))


def holds_other_banner(memory: Memory, image: Memory) -> bool:
    """Tell whether a file holds a banner outside of the image unpacked from it."""
    if not is_file(memory) or image.image is None:
        return False
    start, end = image.image.offset, image.image.end
    parts = (segment.read() for segment in memory.segments)
    return any(
        kernel_signature.holds_banner(part)
        for data in parts
        for part in (data[:start], data[len(data) if end is None else end :])
    )


def without_headers(memory: Memory) -> Memory | None:
    """Return the file behind an image's headers, as one flat image.

    None if the headers move no part of it.
    """
    if memory.image is None or memory.image.whole is None:
        return None
    facts = ImageFacts((memory.container,), memory.image.offset, memory.image.architecture)
    return replace(memory, space=AddressSpace.FILE, segments=(BytesSegment(0, memory.image.whole),), image=facts)


def image_around(memory: Memory, place: int, tokens: TokenTable, shared: SharedWork) -> Kernel | None:
    """Return the best kernel of an image around a token table; None if there is none.

    The image can begin anywhere before the token table.

    Args:
        memory: the file, from `flat_image`.
        place: address of the token table in it.
        tokens: the token table.
        shared: work on the same bytes that was done before.
    """
    if memory.segments[0].start:
        # the beginning of the image is known, because the image has an address
        return None
    best: Kernel | None = None
    for cut in _cuts(memory, place, tokens, shared):
        view = cut_before(memory, cut)
        kernel = best_at(view, *_surrounded(view, place - cut, tokens), None, shared)
        if kernel is not None and kernel.proven:
            return kernel
        best = best or kernel
    return best


def cut_before(memory: Memory, size: int) -> Memory:
    """Return a flat image without its first bytes; the next byte is at address 0."""
    segment = memory.segments[0]
    assert isinstance(segment, BytesSegment)
    assert memory.image is not None
    facts = replace(memory.image, skipped=memory.image.skipped + segment.start + size)
    if size:
        facts = replace(facts, base=None)
    return replace(memory, segments=(BytesSegment(0, segment.data[size:]),), image=facts)


def _cuts(memory: Memory, place: int, tokens: TokenTable, shared: SharedWork) -> Iterator[int]:
    """Yield the number of bytes that can stand in front of the image.

    The likeliest number comes first; each is yielded once.
    """
    given: set[int] = set()
    # tables are aligned to a word of eight bytes or of four
    phases = dict.fromkeys((place % 8, place % 4, place % 4 + 4))
    for phase in phases:
        if phase > place:
            continue
        view = cut_before(memory, phase)
        segment, there = _surrounded(view, place - phase, tokens)
        for tables in islice(shared.tables.recover(segment, there, word_sizes(view), Attempt()), MAX_TABLES):
            words = Words(tables.word_size, tables.byte_order)
            for distance, _ in empty_head_distances(shared.windows.facts(segment, words))[:MAX_DISTANCES]:
                cut = phase + _beginning(tables, distance)
                if cut not in given and cut <= place:
                    given.add(cut)
                    yield cut
    yield from (phase for phase in phases if phase not in given and phase <= place)


def _surrounded(memory: Memory, place: int, tokens: TokenTable) -> tuple[BytesSegment, TokenTable]:
    segment = memory.around(place, BEFORE, AFTER)
    return segment, moved(tokens, place - segment.start - tokens.offset)


def _beginning(tables: Tables, distance: int) -> int:
    """Return the offset of the beginning of the image that is mapped at ``distance``.

    It is rounded down to the image's own pages.
    """
    words = Words(tables.word_size, tables.byte_order)
    shift = -distance % PAGE
    virtual = tables.array_address + distance & words.mask
    addresses = words.wrap(tables.array.addresses(virtual))
    lowest = _lowest(tables, addresses[is_near(addresses, words, virtual)], addresses)
    offset = lowest - distance & words.mask
    if not shift + MAX_HEADER <= offset < tables.array_address:
        return shift
    return shift + (offset - shift) // PAGE * PAGE


def _lowest(tables: Tables, near: NDArray[np.uint64], addresses: NDArray[np.uint64]) -> int:
    """Return the address of the first byte of the image by its symbols."""
    symbols = SymbolTable(addresses, tables.characters, tables.bounds, tables.word_size, tables.known_addresses)
    named = [symbol.address for name in FIRST_SYMBOLS for symbol in symbols.all(name)]
    return min(named) if named else int(near.min()) if len(near) else 0
