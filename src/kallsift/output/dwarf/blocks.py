"""Place entries one behind the other, and write all of one kind at once.

A block is a run of entries, each with the entries inside of it. The size of each follows from its kind, so that all
places are known before a byte is written, and entries can name others that come later.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import distinct
from kallsift.output.dwarf.entries import (
    DW_OP_ADDR,
    LEB128,
    SHAPES,
    Attribute,
    DwarfEntry,
    DwarfTarget,
    Value,
    leb128,
    record,
)

Columns = dict[Attribute, NDArray[np.int64]]
"""The values of entries by attribute, shape (n,) each; of types their numbers; addresses modulo 2^64."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Entries in their order.

    Attributes:
        kinds: an `DwarfEntry` each, shape (n,), uint8.
        columns: their values; a kind takes those that it has.
    """

    kinds: NDArray[np.uint8]
    columns: Columns

    def __len__(self) -> int:
        return len(self.kinds)


@dataclass(frozen=True, eq=False)
class EntryBlock:
    """Entries, and those inside of them.

    Attributes:
        rows: the entries.
        inner: the entries inside of these, all of the first one first.
        owners: index in ``rows`` of the entry that each is in, ascending, shape (len(inner),).
    """

    rows: Rows
    inner: Rows
    owners: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Places:
    """Offsets of the entries of a block in the section.

    Attributes:
        rows: of each entry, shape (n,).
        inner: of each inner one.
        end: behind the last.
    """

    rows: NDArray[np.int64]
    inner: NDArray[np.int64]
    end: int


def place(block: EntryBlock, start: int, target: DwarfTarget) -> Places:
    """Return where the entries of a block lie that begins at an offset."""
    sizes, has_children = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for entry, shape in SHAPES.items():
        sizes[entry], has_children[entry] = record(entry, target).itemsize, shape.has_children
    own, inner = sizes[block.rows.kinds], sizes[block.inner.kinds]
    before = np.concatenate(([0], np.cumsum(inner)))
    firsts = np.searchsorted(block.owners, np.arange(len(own) + 1))
    # behind the inner ones stands a byte that ends them
    whole = own + before[firsts[1:]] - before[firsts[:-1]] + has_children[block.rows.kinds]
    ends = start + np.cumsum(whole)
    rows = ends - whole
    first = before[firsts[:-1]][block.owners]
    return Places(
        rows, rows[block.owners] + own[block.owners] + before[:-1] - first, int(ends[-1]) if len(ends) else start
    )


def write(
    section: NDArray[np.uint8], block: EntryBlock, places: Places, types: NDArray[np.int64], target: DwarfTarget
) -> None:
    """Write the entries of a block into their section, shape (size,), which is zero there.

    Args:
        section: where they are written.
        block: the entries.
        places: where they lie.
        types: what names each type by its number, shape (numbers,).
        target: how numbers are stored.
    """
    for rows, offsets in ((block.rows, places.rows), (block.inner, places.inner)):
        for kind in distinct(rows.kinds).tolist():
            chosen = np.flatnonzero(rows.kinds == kind)
            data = _records(DwarfEntry(kind), rows, chosen, types, target)
            section[offsets[chosen][:, None] + np.arange(data.shape[1])] = data


def _records(
    entry: DwarfEntry, rows: Rows, chosen: NDArray[np.int64], types: NDArray[np.int64], target: DwarfTarget
) -> NDArray[np.uint8]:
    """Return the bytes of the chosen entries, which are all of one kind, shape (n, size)."""
    records = np.zeros(len(chosen), record(entry, target))
    records["code"] = entry
    for attribute, value in SHAPES[entry].values.items():
        if value is Value.PRESENT:
            continue
        values, field = rows.columns[attribute][chosen], records[attribute.name]
        if value is Value.TYPE:
            field[:] = types[values]
        elif value in LEB128:
            field[:] = leb128(values.view(np.uint64) if value is Value.UNSIGNED_64 else values, LEB128[value])
        elif value is Value.ADDRESS_EXPRESSION:
            field["size"], field["operation"] = 1 + target.width, DW_OP_ADDR
            field["address"] = values.view(np.uint64)
        else:
            field[:] = values.view(np.uint64)
    return records.view(np.uint8).reshape(len(chosen), records.itemsize)
