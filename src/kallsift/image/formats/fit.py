"""Read FIT: a flattened device tree whose nodes under /images are files, one of which is the kernel.

Formats: Devicetree Specification 0.4, chapter 5; Flat Image Tree specification (U-Boot, doc/usage/fit).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from kallsift.arrays import Bytes
from kallsift.errors import ImageError
from kallsift.image.formats.base import Payload, WrappedImage, record, starts_with
from kallsift.image.formats.machine_ids import FIT_ARCHITECTURES

MAGIC = b"\xd0\x0d\xfe\xed"
HEADER = np.dtype(
    [
        (name, ">u4")
        for name in (
            "magic",
            "total_size",
            "structure_offset",
            "strings_offset",
            "reserved_offset",
            "version",
            "compatible_version",
            "boot_cpu",
            "strings_size",
            "structure_size",
        )
    ]
)
BEGIN_NODE, END_NODE, PROPERTY, NOP, END = 1, 2, 3, 4, 9
TOKEN_LIMIT = 1 << 14
"""Highest number of tokens that are read; a FIT has dozens, and a board's device tree is one of its files."""
DEPTH_LIMIT = 16
NAME_LIMIT = 256
KERNEL_TYPES = (b"kernel", b"kernel_noload")
PART_LIMIT = 8
CODECS: dict[bytes, str | None] = {
    b"gzip": "gzip",
    b"bzip2": "bzip2",
    b"lzma": "lzma",
    b"lzo": "lzo",
    b"lz4": "lz4 frame",
    b"zstd": "zstd",
}
"""Codecs by the property ``compression``."""


@dataclass
class _Node:
    """The properties of a node, each as the offset and size of its value."""

    properties: dict[bytes, tuple[int, int]] = field(default_factory=dict)


def probe(view: Bytes) -> bool:
    """Tell whether this is a device tree; `read` distinguishes those with images."""
    return starts_with(view, MAGIC)


def read(view: Bytes) -> WrappedImage | None:
    """Return the kernels under /images, that of the default configuration first.

    The result is None for a device tree without images; a board's device tree lies at the very start of some machines'
    memory.
    """
    nodes = dict(_nodes(view))
    images = {path: node for path, node in nodes.items() if len(path) == 2 and path[0] == b"images"}
    if not images:
        return None
    configurations = nodes.get((b"configurations",), _Node())
    default = nodes.get((b"configurations", _text(view, configurations, b"default")), _Node())
    preferred = _text(view, default, b"kernel")
    kernels = [path for path, node in images.items() if _text(view, node, b"type") in KERNEL_TYPES]
    kernels.sort(key=lambda path: path[1] != preferred)
    parts = [(path, part) for path in kernels if (part := _data(view, images[path]))]
    if not parts:
        raise ImageError("FIT: has no image of type kernel with its data; open the file that holds the data")
    chosen = images[parts[0][0]]
    architecture = FIT_ARCHITECTURES.get(_text(view, chosen, b"arch").decode("ascii", "replace"))
    return WrappedImage("FIT", tuple(part for _, part in parts[:PART_LIMIT]), architecture)


def _nodes(view: Bytes) -> Iterator[tuple[tuple[bytes, ...], _Node]]:
    """Yield every node by the names on the way to it, as far as the tree can be read."""
    header = record(view, 0, HEADER, "device tree header")
    strings = int(header["strings_offset"])
    position = int(header["structure_offset"])
    path: list[tuple[bytes, _Node]] = []
    for _ in range(TOKEN_LIMIT):
        token = _word(view, position)
        position += 4
        if token == BEGIN_NODE:
            name = _string(view, position)
            position += len(name) + 4 - len(name) % 4
            path.append((name, _Node()))
            if len(path) > DEPTH_LIMIT:
                return
            yield tuple(name for name, _ in path[1:]), path[-1][1]
        elif token == END_NODE and path:
            path.pop()
        elif token == PROPERTY and path:
            size = _word(view, position)
            name = _string(view, strings + _word(view, position + 4))
            path[-1][1].properties.setdefault(name, (position + 8, size))
            position += 8 + size + -size % 4
        elif token != NOP:
            return


def _data(view: Bytes, node: _Node) -> Payload | None:
    """Return the part with an image's data, which lie in the tree or behind it."""
    codec = CODECS.get(_text(view, node, b"compression"))
    place = node.properties.get(b"data")
    if place is None:
        size = _number(view, node.properties, b"data-size")
        position = _number(view, node.properties, b"data-position")
        offset = _number(view, node.properties, b"data-offset")
        if size is None or (position is None and offset is None):
            return None
        total = int(record(view, 0, HEADER, "device tree header")["total_size"])
        place = position if position is not None else (total + 3) // 4 * 4 + (offset or 0), size
    start, size = place
    return Payload(start, start + size, codec) if size and start < len(view) else None


def _text(view: Bytes, node: _Node, name: bytes) -> bytes:
    start, size = node.properties.get(name, (0, 0))
    return view[start : start + min(size, NAME_LIMIT)].tobytes().split(b"\0")[0]


def _number(view: Bytes, properties: Mapping[bytes, tuple[int, int]], name: bytes) -> int | None:
    start, size = properties.get(name, (0, 0))
    return _word(view, start) if size == 4 else None


def _word(view: Bytes, position: int) -> int:
    """Return the word at ``position``; END behind the end of the tree.

    So reading stops there.
    """
    word = view[position : position + 4].tobytes()
    return int.from_bytes(word, "big") if len(word) == 4 else END


def _string(view: Bytes, position: int) -> bytes:
    return view[position : position + NAME_LIMIT].tobytes().split(b"\0")[0]
