"""Read the name stream and prove it by its markers: ``markers[k]`` is the offset of entry ``256 * k`` in the stream.

An entry is a length and that many token codes. The length is one byte, or, since 6.1 (73bbb94466fd, 'kallsyms: support
"big" kernel symbols'), two bytes where the first has its top bit set: seven low bits, then eight high ones. The
equation tells which of the two rules holds, where the stream starts, how wide a marker is and how many entries there
are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.format.markers import GROUP, MAX_ENTRY, Markers
from kallsift.kallsyms.format.token_table import MAX_PADDING, TokenTable
from kallsift.lanes import LANE, lanes, writable_lanes
from kallsift.threads import in_threads

MAX_SYMBOLS = 1 << 24
"""Highest number of entries: seqs_of_names stores an index in three bytes. It is far above any kernel and bounds the
work on hostile tables."""

LIKELY_LAST_GROUP = GROUP * 129
"""Highest size in bytes of the entries behind the last marker, where lengths are one byte."""

GROUPS_TRIED = 3
"""Number of groups that must fit from a start before all are walked: some starts in a hundred fit one by chance."""

MAX_STARTS = 8
"""Highest number of starts that are followed; a true stream leaves one."""


@dataclass(frozen=True, eq=False)
class Names:
    """Entries of a name stream.

    Attributes:
        offset: offset of the first entry in the segment's data.
        starts: offset of each entry's first code in the segment's data, shape (n,), int64.
        lengths: number of codes of each entry, shape (n,), int64.
    """

    offset: int
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @property
    def end(self) -> int:
        """Offset behind the last entry."""
        return int(self.starts[-1] + self.lengths[-1])

    @property
    def size(self) -> int:
        """Size of the stream in bytes."""
        return self.end - self.offset


@dataclass(frozen=True, eq=False)
class Stream(Names):
    """A name stream that its markers prove; only the number of entries in the last group is unknown.

    Attributes:
        least: lowest number of entries that it can have; ``starts`` has the highest.
        markers: the markers that prove it.
        trimmed: whether the words behind these markers could be markers too.
    """

    least: int
    markers: Markers
    trimmed: bool

    def same_as(self, other: Stream) -> bool:
        """Tell whether both streams read the same bytes as the same entries.

        Without a long name, both rules of length give the same entries.
        """
        return self.markers.offset == other.markers.offset and np.array_equal(self.starts, other.starts)

    def counted(self, count: int) -> Names:
        """Return the stream of ``count`` entries."""
        return Names(self.offset, self.starts[:count], self.lengths[:count])

    def counts(self) -> range:
        """Return the range of the number of entries that the stream can have."""
        return range(self.least, len(self.starts) + 1)


def find_streams(
    data: NDArray[np.uint8], candidates: Sequence[Markers], low: int, high: int, least: int | None = None
) -> Iterator[Stream]:
    """Yield the streams that markers prove and that begin in ``data[low:high]``.

    A wrong candidate is dropped where its equation fails; nothing is raised.

    Args:
        data: the segment's bytes.
        candidates: marker candidates, each with two markers at least.
        low: start of the range in which the first entry can lie.
        high: end of that range.
        least: number of markers, from the first on, that must hold, where the words behind them may be something else;
            None for all.
    """
    if low >= high or not candidates:
        return
    tried = {id(markers): min(len(markers.values) - 1, GROUPS_TRIED) for markers in candidates}
    room = max(int(markers.values[tried[id(markers)]]) for markers in candidates) + MAX_ENTRY
    region = data[low : high + room]
    found: list[Stream] = []
    for two_byte_lengths in (True, False):
        walked = landing(region, two_byte_lengths)
        sizes = walked - np.arange(len(walked), dtype=walked.dtype)
        for markers in candidates:
            values, groups = markers.values, tried[id(markers)]
            room = max(0, min(high - low, len(region) - int(values[groups])))
            # the first marker is 0
            starts = np.flatnonzero(sizes[:room] == int(values[1]))
            for group in range(1, groups):
                starts = starts[walked[starts + values[group]] - starts == values[group + 1]]
            # where all entries are equal, each of them fits; then the first one is right
            for start in dict.fromkeys([*starts[::-1][:MAX_STARTS].tolist(), *starts[:MAX_STARTS].tolist()]):
                stream = _whole_stream(data, markers, low + start, two_byte_lengths, least)
                if stream and not any(stream.same_as(other) for other in found):
                    found.append(stream)
                    yield stream


def entry_sizes(region: NDArray[np.uint8], two_byte_lengths: bool) -> tuple[NDArray[np.int32] | int, NDArray[np.int32]]:
    """Return the sizes of the entry that would begin at each byte of a region.

    They are the bytes of the length, and the number of codes behind it.
    """
    length = region.astype(np.int32)
    if not two_byte_lengths:
        return 1, length
    long = region >= 0x80
    second = np.append(region[1:], 0).astype(np.int32)
    return long.astype(np.int32) + 1, np.where(long, length & 0x7F | second << 7, length)


def landing(region: NDArray[np.uint8], two_byte_lengths: bool) -> NDArray[np.int32]:
    """Return where a walk of 256 entries from each byte of a region ends.

    The result is the region's length where the walk leaves the region. Walks of 2, 4, ... 256 entries are made by
    composing each with itself, from all bytes at once.
    """
    outside = len(region)
    ends = np.arange(outside + 1, dtype=np.int32)
    head, length = entry_sizes(region, two_byte_lengths)
    step = np.where(length == 0, outside, ends[:-1] + head + length)
    ends[:-1] = np.minimum(step, outside)
    for _ in range(GROUP.bit_length() - 1):
        ends = ends[ends]
    return ends


def is_group(data: bytes, two_byte_lengths: bool) -> bool:
    """Tell whether exactly 256 entries fill ``data``.

    This does what `landing` does, but for one start, which is much less work.
    """
    place, end = 0, len(data)
    for _ in range(GROUP):
        if place >= end or not (length := data[place]):
            return False
        if two_byte_lengths and length >= 0x80:
            if place + 1 >= end or not (length := length & 0x7F | data[place + 1] << 7):
                return False
            place += 1
        place += 1 + length
    return place == end


def _whole_stream(
    data: NDArray[np.uint8], markers: Markers, offset: int, two_byte_lengths: bool, least: int | None
) -> Stream | None:
    """Return the stream from ``offset`` on if its groups end at the markers.

    Each group of 256 entries must end where the next marker says.
    """
    groups = markers.values + offset
    if groups[-1] >= len(data):
        if least is None:
            return None
        groups = groups[groups < len(data)]
    starts = np.empty((GROUP, len(groups)), np.int64)
    lengths = np.empty((GROUP, len(groups)), np.int64)
    place = groups.copy()
    last = len(data) - 2
    for entry in range(GROUP):
        inside = np.minimum(place, last)
        length = data[inside].astype(np.int64)
        head = np.ones_like(length)
        if two_byte_lengths:
            long = length >= 0x80
            length = np.where(long, length & 0x7F | data[inside + 1].astype(np.int64) << 7, length)
            head += long
        starts[entry], lengths[entry] = place + head, length
        place = place + head + length
        place[length == 0] = len(data)
    trimmed = len(groups) < len(markers.values)
    hold = place[:-1] == groups[1:]
    if not hold.all():
        proved = int(np.argmin(hold)) + 1
        if least is None or proved < least:
            return None
        markers, trimmed = replace(markers, values=markers.values[:proved]), True
        groups, starts, lengths = groups[:proved], starts[:, :proved], lengths[:, :proved]
    # the last group may hold fewer than 256 entries
    ends = (starts + lengths)[:, -1]
    valid = np.minimum.accumulate((lengths[:, -1] > 0) & (ends <= len(data)))
    before_last = (len(groups) - 1) * GROUP
    most = before_last + int(np.count_nonzero(valid))
    if most == before_last or before_last >= MAX_SYMBOLS:
        return None
    return Stream(offset, starts.T.reshape(-1)[:most], lengths.T.reshape(-1)[:most], before_last + 1, markers, trimmed)


def find_num_syms(data: NDArray[np.uint8], names: int, count: int, byte_order: str) -> int | None:
    """Return the offset of the word before the names that holds ``count``, or None.

    Only padding may lie between the word and the names. Every release puts num_syms directly before the names; its
    width (a long up to 4.19, then 32 bits) does not matter.
    """
    wanted = np.array([count], f"{byte_order}u4").tobytes()
    for offset in range(names - 4, max(-1, names - 4 - MAX_PADDING), -4):
        word = data[offset : offset + 4].tobytes()
        if word == wanted:
            return offset
        if any(word):
            break
    return None


def is_padding(data: NDArray[np.uint8], start: int, end: int) -> bool:
    """Tell whether ``data[start:end]`` can be the padding between two tables."""
    return 0 <= end - start < MAX_PADDING and not data[start:end].any()


def expand(
    data: NDArray[np.uint8], names: Names, tokens: TokenTable, chunk: int = 1 << 13
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the characters of all entries: each code is replaced by its token.

    Args:
        data: the segment's bytes.
        names: the proved stream.
        tokens: the proved token table.
        chunk: number of entries that are expanded at once; their temporary arrays stay in the processor's cache.

    Returns:
        The characters end to end, uint8, and the bounds of each entry, shape (n + 1,), int64.
    """
    lanes_of_tokens = lanes(tokens.strings)[tokens.starts[:-1]]

    def expanded(first: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        starts, lengths = names.starts[first : first + chunk], names.lengths[first : first + chunk]
        code_ends = np.cumsum(lengths)
        places = np.arange(int(code_ends[-1])) + np.repeat(starts - (code_ends - lengths), lengths)
        text, ends = _token_texts(data[places], tokens, lanes_of_tokens)
        return text, ends[code_ends - 1]

    pieces, bounds = [np.empty(0, np.uint8)], [np.zeros(1, np.int64)]
    for text, ends in in_threads(expanded, range(0, len(names.starts), chunk)):
        pieces.append(text)
        bounds.append(ends + bounds[-1][-1])
    return np.concatenate(pieces), np.concatenate(bounds)


def _token_texts(
    codes: NDArray[np.uint8], tokens: TokenTable, first_lanes: NDArray[np.uint64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the tokens of some codes end to end, and the end of each, shape (n,).

    ``first_lanes`` are the first eight bytes of each token.
    """
    indices = codes.astype(np.intp)
    sizes = tokens.lengths.take(indices)
    ends = np.cumsum(sizes)
    places = ends - sizes
    text = np.empty(int(ends[-1]) + LANE, np.uint8)
    written = writable_lanes(text)
    every_lane = lanes(tokens.strings)
    # a lane writes beyond its token; later writes correct that: deep lanes come first, then tokens in their order
    for depth in range((int(tokens.lengths.max()) - 1) // LANE * LANE, 0, -LANE):
        deep = np.flatnonzero(sizes > depth)
        written[places[deep] + depth] = every_lane[tokens.starts[indices[deep]] + depth]
    written[places] = first_lanes.take(indices)
    return text[:-LANE], ends
