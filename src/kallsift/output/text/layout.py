"""Write a kernel's layout, and the ranges that its page table maps, as lines.

A range ends with the address of its last byte, as in ``/proc/iomem``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kallsift.analysis.address_space.layout import Layout, Region
from kallsift.arch.page_table_ranges import MappedRanges
from kallsift.arch.paging import EXECUTE, USER, WRITE
from kallsift.kallsyms.evidence import Outcome
from kallsift.memory.memory import printable

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")

STATES = {Outcome.PASSED: "proven", Outcome.FAILED: "WRONG", Outcome.ABSENT: "-"}

UNKNOWN = "(unknown)"
"""Name of mapped memory outside of all known regions."""


def size_text(size: int) -> str:
    """Return a size in the largest unit that it has at least one of, e.g. ``512 MiB``."""
    unit = min(max(0, size.bit_length() - 1) // 10, len(UNITS) - 1)
    amount = size / (1 << 10 * unit)
    return f"{amount:.0f} {UNITS[unit]}" if amount == int(amount) else f"{amount:.1f} {UNITS[unit]}"


def layout_lines(layout: Layout, word_size: int) -> Iterator[str]:
    """Yield a line for each region.

    The line has addresses, size, physical address, whether it is proven, name, source of the bounds, and the reason.
    """
    digits = 2 * word_size
    places = max((len(f"{region.physical or 0:x}") for region in layout.regions), default=1)
    names = max((2 * region.depth + len(region.name or UNKNOWN) for region in layout.regions), default=1)
    for region in layout.regions:
        place = "-" if region.physical is None else f"{region.physical:x}"
        name = "  " * region.depth + (region.name or UNKNOWN)
        yield (
            f"{region.start:0{digits}x}-{region.end - 1:0{digits}x} {size_text(region.size):>10}  {place:>{places}}"
            f"  {STATES[region.check.outcome]:<6}  {name:<{names}}  {printable(region.basis)}: {region.check.detail}"
        )


def layout_document(layout: Layout) -> dict[str, Any]:
    """Return a layout as values that JSON can express.

    Addresses are strings like ``"0xffff…"``.
    """
    offset = layout.page_table.offset if layout.page_table else None
    return {
        "direct_map_offset": None if offset is None else f"{offset:#x}",
        "regions": [_document(region) for region in layout.regions],
    }


def _document(region: Region) -> dict[str, Any]:
    return {
        "name": region.name,
        "start": f"{region.start:#x}",
        "size": region.size,
        "depth": region.depth,
        "physical": None if region.physical is None else f"{region.physical:#x}",
        "mapped": region.mapped,
        "bounds": region.basis,
        "outcome": region.check.outcome.value,
        "detail": region.check.detail,
    }


def page_table_lines(ranges: MappedRanges, layout: Layout, word_size: int) -> Iterator[str]:
    """Yield a line for each stretch of pages of one size with equal permissions.

    The line has addresses, size, page size, permissions, physical address (if the stretch is contiguous), and region.
    """
    digits = 2 * word_size
    listed = ranges.merged(contiguous=False)
    # only a stretch that is physically contiguous is also one of ``ranges``, with the same size
    whole = np.isin(listed.sizes, ranges.sizes) & (
        ranges.sizes[np.searchsorted(ranges.starts, listed.starts)] == listed.sizes
    )
    names = _outermost(listed, layout)
    columns = (listed.starts, listed.sizes, listed.physical, listed.page_bits, listed.grants, whole)
    rows = zip(*(column.tolist() for column in columns), names, strict=True)
    for start, size, physical, bits, grants, one, name in rows:
        place = f"{physical:x}" if one else "-"
        flags = "".join(
            letter if grants & flag else "-" for letter, flag in (("w", WRITE), ("x", EXECUTE), ("u", USER))
        )
        yield (
            f"{start:0{digits}x}-{start + size - 1:0{digits}x} {size_text(size):>10}"
            f"  {size_text(1 << bits):>7}  r{flags}  {place:>{digits}}  {name}"
        )


def _outermost(listed: MappedRanges, layout: Layout) -> list[str]:
    """Return the name of the outermost region that each range begins in."""
    outer: list[Region] = []
    for region in layout.regions:
        if not outer or region.start >= outer[-1].end:
            outer.append(region)
    starts = np.array([region.start for region in outer], np.uint64)
    owners = np.searchsorted(starts, listed.starts, side="right") - 1
    return [
        outer[owner].name or UNKNOWN if owner >= 0 and start < outer[owner].end else UNKNOWN
        for owner, start in zip(owners.tolist(), listed.starts.tolist(), strict=True)
    ]
