"""Read numbers of seven bits a byte, the lowest first, as Snappy's blocks and xz's index have them.

Sources: format_description.txt of google/snappy ("varint"), xz-file-format.txt of tukaani-project/xz (1.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

MAX_BITS = 63
"""Number of bits of the largest number in either format."""


def varints(data: Iterable[int]) -> Iterator[int]:
    """Yield adjacent numbers, up to one that has no end or is too large."""
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value = shift = 0
        elif shift > MAX_BITS:
            return
