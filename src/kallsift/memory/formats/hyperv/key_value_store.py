"""Read Hyper-V's key-value store (HyperVStorage), the format of its saved states: find each array in the file.

Format: Microsoft's own description and writer in openvmm (the crate hvs_file); dissect.hypervisor
(descriptor/hyperv.py) agrees. All words are little-endian, nothing is padded. Tables of objects are chained to one
another and name the tables of keys; a key names its parent by the number of a table and the offset in it.
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
"""Offsets of the two copies of the header: the newer one of those that are intact counts."""
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
"""Number of sequence numbers, which wrap around."""

LOG_MAGIC = 0x01110003
LOG = np.dtype([("magic", "<u4"), ("checksum", "<u4"), ("count", "<u4")])
"""Beginning of the log of changes that are not yet made in the file itself."""

FIRST_OBJECTS = 0x2000
OBJECTS_MAGIC = 0x01110001
OBJECTS = np.dtype([("magic", "<u4"), ("count", "<u4")])
OBJECT = np.dtype([("kind", "u1"), ("checksum", "<u4"), ("offset", "<u8"), ("size", "<u4"), ("flags", "u1")])
MORE_OBJECTS, KEY_TABLE = 1, 2
"""Kinds of objects."""

KEYS_MAGIC = 2
KEYS = struct.Struct("<HHHI")
"""Beginning of a table of keys: magic number, the table's number, sequence number, checksum."""
KEY = struct.Struct("<BBIHIIIB")
"""Kind, flags, size of the whole, the parent's table and offset, checksum, order among siblings, size of the name."""
FREE, ARRAY = 1, 7
"""Kinds of keys: unused, and bytes behind their size."""
ELSEWHERE = 1
"""Flag of a key whose value stands elsewhere in the file."""
POINTER = struct.Struct("<IQ")
"""Size and file offset of such a value."""
SIZE = struct.Struct("<I")

LIMIT = 1 << 22
"""Highest number of objects: every MiB of RAM is one."""

KEY_COST = 1 << 12
"""Cost of reading a key, as the number of bytes that could be read in that time.

Keeping the key takes less memory than this.
"""
DEPTH = 16
"""Highest number of folders around a key."""


class Array(NamedTuple):
    """The file offset and size of the bytes of an array."""

    offset: int
    size: int


class Storage(NamedTuple):
    """The contents of a file.

    Attributes:
        arrays: arrays by the names of their folders and their own name, joined by slashes.
        unmade: number of changes that stand only in the file's log.
        damaged: number of tables that are not valid.
        left_out: part that was not read, because it takes too much work for a file of this size; None if all was read.
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
    """Tell whether a file that begins with ``header`` is such a store."""
    return int.from_bytes(header[:4], "little") == MAGIC


def storage(name: str, view: NDArray[np.uint8]) -> Storage:
    """Return the contents of a file.

    Args:
        name: name of the source in messages.
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
    """Return the record at a file offset; None if the file ends before its end."""
    raw = view[offset : offset + record.itemsize].tobytes()
    return np.frombuffer(raw, record)[0] if len(raw) == record.itemsize else None


def _header(name: str, view: NDArray[np.uint8]) -> Any:
    """Return the newer one of the intact headers."""
    whole = []
    for offset in HEADERS:
        header = _record(view, offset, HEADER)
        if header is not None and header["magic"] == MAGIC:
            raw = header.tobytes()
            if zlib.crc32(raw[:4] + bytes(4) + raw[8:]) == header["checksum"]:
                whole.append(header)
    if not whole:
        raise SourceError(f"{name}: both headers of the Hyper-V file are damaged; copy it again")
    later = (int(whole[-1]["sequence"]) - int(whole[0]["sequence"])) % SEQUENCES
    return whole[-1] if 0 < later < SEQUENCES // 2 else whole[0]


def _key_tables(name: str, view: NDArray[np.uint8], damaged: list[int]) -> Iterator[tuple[int, int, int]]:
    """Yield number, file offset and size of each table of keys, small ones first.

    Only the newest table of each number is used. The offsets of invalid ones are appended to ``damaged``.
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
    """Yield file offset and size of each object that is a table of keys.

    Their sizes never add up to more than the file's.
    """
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
            raise SourceError(
                f"{name}: the Hyper-V file claims {total:,} objects, more than it can hold; it is damaged, "
                "copy it again"
            )
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
                raise SourceError(
                    f"{name}: the key tables claim to be larger than the Hyper-V file; it is damaged, copy it again"
                )
            yield offset, size


def _keys(data: memoryview, offset: int, budget: WorkBudget) -> Iterator[tuple[int, _Key]]:
    """Yield the keys of a table at a file offset, each with its offset in the table.

    The walk ends when the budget is spent.
    """
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
    """Return the names from the outermost folder on.

    The path is empty if a folder is missing, or if there are too many.
    """
    names: list[str] = []
    while len(names) < DEPTH and (key := keys.get(at)):
        names.append(key.name)
        at = key.parent
        if not at[0]:
            return "/".join(reversed(names))
    return ""
