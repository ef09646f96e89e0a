"""Hyper-V's key-value store (HyperVStorage), which its saved states are kept in: where the file has each array.

Format: Microsoft's own description and writer in openvmm (the crate hvs_file); dissect.hypervisor
(descriptor/hyperv.py) agrees. All words are little-endian, nothing is padded. Tables of objects, chained to one
another, name the tables of keys; a key names its parent by the number of a table and the offset in it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kallsift.budget import WorkBudget
from kallsift.errors import SourceError
from kallsift.memory.file_mapping import stored_size

MAGIC = 0x01282014
HEADERS = (0, 0x1000)
"""Where the two copies of the header stand: the newer one of those that are whole counts."""
HEADER = np.dtype(
    [
        ("magic", "<u4"),
        ("checksum", "<u4"),
        ("sequence", "<u2"),
        ("version", "<u4"),
        ("data_version", "<u4"),
        ("flags", "<u4"),
        ("alignment", "<u4"),
        ("log", "<u8"),
        ("log_size", "<u8"),
        ("log_header_size", "<u4"),
    ]
)
SEQUENCES = 1 << 16
"""Sequence numbers, which begin anew behind the last."""

LOG_MAGIC = 0x01110003
LOG = np.dtype([("magic", "<u4"), ("checksum", "<u4"), ("count", "<u4")])
"""Begins the log of changes that are not yet made in the file itself."""

FIRST_OBJECTS = 0x2000
OBJECTS_MAGIC = 0x01110001
OBJECTS = np.dtype([("magic", "<u4"), ("count", "<u4")])
OBJECT = np.dtype([("kind", "u1"), ("checksum", "<u4"), ("offset", "<u8"), ("size", "<u4"), ("flags", "u1")])
MORE_OBJECTS, KEY_TABLE = 1, 2
"""Kinds of objects."""

KEYS_MAGIC = 2
KEYS = struct.Struct("<HHHI")
"""Begins a table of keys: magic number, the table's number, sequence number, checksum."""
KEY = struct.Struct("<BBIHIIIB")
"""Kind, flags, size of the whole, the parent's table and offset, checksum, place among siblings, size of the name."""
FREE, ARRAY = 1, 7
"""Kinds of keys: none at all, and bytes behind their size."""
ELSEWHERE = 1
"""The flag of a key whose value stands elsewhere in the file."""
POINTER = struct.Struct("<IQ")
"""Size and file offset of such a value."""
SIZE = struct.Struct("<I")

LIMIT = 1 << 22
"""Of objects: every MiB of RAM is one."""

KEY_COST = 1 << 12
"""Bytes that could be passed over while a key is read, and more than it takes to keep it."""
DEPTH = 16
"""Folders that a key is in."""


class Array(NamedTuple):
    """Where the bytes of an array stand in the file."""

    offset: int
    size: int


class Storage(NamedTuple):
    """What a file holds.

    Attributes:
        arrays: by the names of their folders and their own, joined by slashes.
        unmade: changes that stand in the file's log alone.
        damaged: tables that are none where one should be.
        left_out: what was not read, for a file of its size is not worth it; None if all was.
    """

    arrays: dict[str, Array]
    unmade: int
    damaged: int
    left_out: str | None


class _Key(NamedTuple):
    """A key: its name, its parent's table and offset, and its value if that is an array."""

    name: str
    parent: tuple[int, int]
    array: Array | None


def probe(header: bytes) -> bool:
    """Whether a file that begins with ``header`` is such a store."""
    return int.from_bytes(header[:4], "little") == MAGIC


def storage(name: str, view: NDArray[np.uint8]) -> Storage:
    """What a file holds.

    Args:
        name: the source as messages call it.
        view: the whole file, shape (size,), uint8.

    Raises:
        SourceError: if it is damaged.
    """
    header = _header(name, view)
    log = _record(view, int(header["log"]), LOG)
    unmade = int(log["count"]) if log is not None and log["magic"] == LOG_MAGIC else 0
    keys: dict[tuple[int, int], _Key] = {}
    damaged: list[int] = []
    budget = WorkBudget.of(stored_size(view))
    for number, offset, size in _key_tables(name, view, damaged):
        for place, key in _keys(view[offset : offset + size].data, offset, budget):
            keys[number, place] = key
    arrays = {path: key.array for at, key in keys.items() if key.array and (path := _path(keys, at))}
    return Storage(arrays, unmade, len(damaged), budget.left_out)


def _record(view: NDArray[np.uint8], offset: int, record: np.dtype[np.void]) -> Any | None:
    """The record at a file offset; None where the file ends before."""
    raw = view[offset : offset + record.itemsize].tobytes()
    return np.frombuffer(raw, record)[0] if len(raw) == record.itemsize else None


def _header(name: str, view: NDArray[np.uint8]) -> Any:
    """The newer one of the two headers that are whole."""
    whole = []
    for offset in HEADERS:
        header = _record(view, offset, HEADER)
        if header is not None and header["magic"] == MAGIC:
            raw = header.tobytes()
            if zlib.crc32(raw[:4] + bytes(4) + raw[8:]) == header["checksum"]:
                whole.append(header)
    if not whole:
        raise SourceError(f"{name}: neither header of the Hyper-V file is whole; copy it again")
    later = (int(whole[-1]["sequence"]) - int(whole[0]["sequence"])) % SEQUENCES
    return whole[-1] if 0 < later < SEQUENCES // 2 else whole[0]


def _key_tables(name: str, view: NDArray[np.uint8], damaged: list[int]) -> Iterator[tuple[int, int, int]]:
    """Number, file offset and size of each table of keys, the newest of each number, the small ones first.

    ``damaged`` gets the offsets of those that are none.
    """
    newest: dict[int, tuple[int, int, int]] = {}
    for offset, size in _objects(name, view, damaged):
        head = view[offset : offset + min(size, KEYS.size)].tobytes()
        magic, number, sequence, _ = KEYS.unpack_from(head.ljust(KEYS.size, b"\0"))
        if magic != KEYS_MAGIC:
            damaged.append(offset)
        elif number not in newest or newest[number][0] < sequence:
            newest[number] = sequence, offset, size
    for number, (_, offset, size) in sorted(newest.items(), key=lambda item: item[1][2]):
        yield number, offset, size


def _objects(name: str, view: NDArray[np.uint8], damaged: list[int]) -> Iterator[tuple[int, int]]:
    """File offset and size of each object that is a table of keys; never more bytes in all than the file has."""
    ahead, seen, total, left = [FIRST_OBJECTS], {FIRST_OBJECTS}, 0, len(view)
    while ahead:
        place = ahead.pop()
        table = _record(view, place, OBJECTS)
        if table is None or table["magic"] != OBJECTS_MAGIC:
            if place == FIRST_OBJECTS:
                raise SourceError(f"{name}: no table of objects at {place:#x} of the Hyper-V file; copy it again")
            damaged.append(place)
            continue
        start, count = place + OBJECTS.itemsize, int(table["count"])
        total += count
        if total > LIMIT or start + count * OBJECT.itemsize > len(view):
            raise SourceError(f"{name}: {total:,} objects are more than the Hyper-V file holds; it is damaged")
        objects = view[start : start + count * OBJECT.itemsize].view(OBJECT)
        for further in objects["offset"][objects["kind"] == MORE_OBJECTS].tolist():
            if further not in seen:
                seen.add(further)
                ahead.append(further)
        tables = objects[objects["kind"] == KEY_TABLE]
        for offset, size in zip(tables["offset"].tolist(), tables["size"].tolist(), strict=True):
            if offset + size > len(view):
                damaged.append(offset)
                continue
            left -= size
            if left < 0:
                raise SourceError(f"{name}: tables of keys are larger than the Hyper-V file; it is damaged")
            yield offset, size


def _keys(data: memoryview, offset: int, budget: WorkBudget) -> Iterator[tuple[int, _Key]]:
    """The keys of a table at a file offset, each with its own offset in the table, as many as the budget allows."""
    place = KEYS.size
    while place + KEY.size < len(data):
        if not budget.take("bytes of keys", KEY_COST, KEY_COST, count=len(data) - place):
            return
        kind, flags, size, table, parent, _, _, named = KEY.unpack_from(data, place)
        if size < KEY.size + named or place + size > len(data):
            return
        begin = place + KEY.size + named
        if kind != FREE:
            array = None
            if kind == ARRAY and flags & ELSEWHERE and size >= KEY.size + named + POINTER.size:
                length, far = POINTER.unpack_from(data, begin)
                array = Array(far, length)
            elif kind == ARRAY and size >= KEY.size + named + SIZE.size:
                (length,) = SIZE.unpack_from(data, begin)
                array = Array(offset + begin + SIZE.size, min(length, place + size - begin - SIZE.size))
            name = bytes(data[place + KEY.size : begin]).rstrip(b"\0").decode("utf-8", "replace")
            yield place, _Key(name, (table, parent), array)
        place += size


def _path(keys: dict[tuple[int, int], _Key], at: tuple[int, int]) -> str:
    """The names from the outermost folder on; empty if a folder is missing, or if there are too many."""
    names: list[str] = []
    while len(names) < DEPTH and (key := keys.get(at)):
        names.append(key.name)
        at = key.parent
        if not at[0]:
            return "/".join(reversed(names))
    return ""
