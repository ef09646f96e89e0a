"""Layouts that no kernel has had: the tables in any order, any distance apart, among anything.

A layout is an image of about a megabyte around the tables of one made-up kernel. What makes the image a kernel's is
there as well: empty list heads, pointers to symbols, exports to modules, a banner, and symbols that name the banner
and the tables.

Without exports, and without symbols that name what can be seen, tables among anything can be read in two ways: nothing
tells names that are one entry away from their addresses where zeros stand before those. A kernel that loads modules has
exports.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeVar, get_args

from hypothesis import strategies as st

from tests.kallsyms.surroundings import EXPORTS, Surroundings
from tests.oracle.eras import Encoding, Era
from tests.oracle.names import join, prefixed
from tests.oracle.symbols import TEXT, Symbol, population
from tests.oracle.tokens import compress
from tests.oracle.writer import GROUP, Blob, ByteOrder, Place, fixed_tables, offsets_table

BaseAdjacent = Literal["behind", "before", "apart"]
"""Where relative_base lies: next to the offsets on one side, padded to its alignment, or anywhere."""

POPULATIONS = 20
"""Different ones: to compress names takes longer than all else."""

ALIGNMENTS = (4, 8, 16, 256)
GAP = 4096
"""Bytes between two tables at most, but for another kernel's token table."""

IMAGE_BEFORE, IMAGE_BEHIND = 3 << 18, 1 << 18
"""Bytes of the image before and behind the tables."""

STARTS = {
    8: (0xFFFF_FFFF_8100_0000, 0xFFFF_8000_8000_0000, 0xFFFF_FFC0_0808_0000, 0xFFFF_FFFF_8010_0000),
    4: (0xC000_8000, 0x8010_0000, 0xC100_0000, 0x8000_8000),
}
"""Where images can be mapped, by the word size."""

PHYSICAL = 0x100_0000
BANNER = b"Linux version 6.99.0-made-up (someone@somewhere) (gcc 13.2.0) #1 SMP PREEMPT_DYNAMIC\n\0"
BANNER_SYMBOL = "linux_banner"
TEXT_SYMBOL = "_text"
TABLES = (
    "num_syms", "names", "markers", "token_table", "token_index", "offsets", "addresses", "relative_base",
    "seqs_of_names",
)  # fmt: skip

JOINED = (frozenset(("offsets", "relative_base")), frozenset(("token_table", "token_index")))
"""Neighbours with nothing but padding between them."""

_ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
_BYTE_ORDERS: tuple[ByteOrder, ...] = get_args(ByteOrder)
_BASES: tuple[BaseAdjacent, ...] = ("behind", "behind", "behind", "before")

_Choice = TypeVar("_Choice")


@dataclass(frozen=True)
class Layout:
    """Tables in an image.

    Attributes:
        seed: what it was made from.
        blob: the tables; ``blob.data`` is the whole image, ``blob.era`` a row that describes the tables.
        address: where the image's first byte is mapped.
        physical: where it lies in physical memory.
        word_size: bytes of an address.
        byte_order: of the image.
        relative_base: what the offsets are relative to; None where no base is stored.
        base_adjacent: where that lies.
        closed: whether symbols name the tables and the banner.
        banner: offset of the banner in the image.
    """

    seed: int
    blob: Blob
    address: int
    physical: int
    word_size: int
    byte_order: ByteOrder
    relative_base: int | None
    base_adjacent: BaseAdjacent
    closed: bool
    banner: int

    @property
    def data(self) -> bytes:
        """The image."""
        return self.blob.data

    @property
    def symbols(self) -> tuple[Symbol, ...]:
        """What the tables say."""
        return self.blob.symbols

    @property
    def distance(self) -> int:
        """From physical to virtual addresses, modulo 2^64."""
        return self.address - self.physical & (1 << 64) - 1

    def table(self, name: str) -> slice:
        """Where a table lies in the image."""
        place = self.blob.tables[name]
        return slice(place.offset, place.end)


@dataclass(frozen=True)
class _Population:
    """Symbols that a layout gives their places.

    Attributes:
        symbols: mapped from ``TEXT`` on.
        tokens: the 256 tokens.
        codes: of each letter and name, those of ``TABLES`` and the banner among them.
        long_names: whether some entries need lengths of two bytes.
        text_only: whether it lists text alone.
    """

    symbols: tuple[Symbol, ...]
    tokens: tuple[bytes, ...]
    codes: Mapping[str, bytes]
    long_names: bool
    text_only: bool


def layout(
    seed: int,
    *,
    word_size: int | None = None,
    byte_order: ByteOrder | None = None,
    encoding: Encoding | None = None,
    sequence_size: int | None = None,
    base_adjacent: BaseAdjacent | None = None,
    closed: bool | None = None,
    start: int | None = None,
    index_adjacent: bool = False,
    exports: bool = True,
) -> Layout:
    """The layout of a seed.

    Args:
        seed: of everything that is not given.
        word_size: bytes of an address.
        byte_order: of the image.
        encoding: of the addresses; ``percpu`` for words of eight bytes only.
        sequence_size: bytes of an entry of seqs_of_names; 0 for none.
        base_adjacent: where relative_base lies; ``apart`` never by chance.
        closed: whether symbols name the tables and the banner, which text-only populations never have.
        start: where the image is mapped.
        index_adjacent: whether token_index must follow token_table, padded to its alignment, as it always has.
        exports: whether the image exports symbols, as all kernels that load modules do.
    """
    chance = random.Random(seed)
    word_size = _chosen(chance, word_size, (4, 8))
    order = _chosen(chance, byte_order, _BYTE_ORDERS)
    coding = _chosen(chance, encoding, [one for one in _ENCODINGS if word_size == 8 or one != "percpu"])
    sequence_size = _chosen(chance, sequence_size, (0, 3, 4))
    side = _chosen(chance, base_adjacent, _BASES)
    closed = _chosen(chance, closed, (True, False))
    start = _chosen(chance, start, [place + 4096 * chance.randrange(256) for place in STARTS[word_size]])
    own = _population(chance.randrange(POPULATIONS), closed)
    era = _era(chance, seed, own, word_size, coding, sequence_size, side, index_adjacent)

    surroundings = Surroundings(chance, word_size, order)
    named = {*era.order} if closed and not own.text_only else set()
    sizes = _sizes(own, era, word_size, named)
    joined = JOINED[: 1 + index_adjacent]
    places, gaps, end = _arranged(chance, surroundings, era, sizes, word_size, start, joined)
    banner = places.pop(BANNER_SYMBOL).offset
    landmarks = {f"kallsyms_{name}": start + places[name].offset for name in named}
    symbols = _addressed(own, coding, start, landmarks | {BANNER_SYMBOL: start + banner} if named else {})
    base = _base(chance, symbols, coding, start)
    names = join([prefixed(own.codes[s.letter + s.name], era.long_names) for s in symbols], own.tokens)
    contents = fixed_tables(symbols, era, names, word_size, order, base or 0)
    if "offsets" in places:
        contents["offsets"] = offsets_table(symbols, era, order, base or 0, start + places["offsets"].offset)

    mapped = [symbol.address for symbol in symbols if symbol.address >= start]
    exported = _exported(chance, [symbol for symbol in symbols if symbol.address >= start]) if exports else ()
    image = surroundings.image(end + IMAGE_BEHIND, start, mapped, (IMAGE_BEFORE, end), exported)
    for offset, gap in gaps:
        image[offset : offset + len(gap)] = gap
    array = places["offsets"] if "offsets" in places else places["addresses"]
    # noise that happens to go on in the array's order would leave open where it begins and ends
    image[array.offset - word_size : array.offset] = bytes(word_size)
    image[array.end : array.end + word_size] = bytes(word_size)
    # so would noise that happens to be one more name
    image[places["names"].end] = 0
    for name, place in places.items():
        if len(contents[name]) != place.size:
            raise AssertionError(f"{name} takes {len(contents[name])} bytes, not {place.size}")
        image[place.offset : place.end] = contents[name]
    image[banner : banner + len(BANNER)] = BANNER
    head = places["names"].offset
    blob = Blob(era, symbols, bytes(image), places, tuple(head + offset for offset in names.heads), names.tokens)
    physical = PHYSICAL + 4096 * chance.randrange(1024) + start % 4096
    return Layout(seed, blob, start, physical, word_size, order, base, side, bool(named), banner)


def layouts() -> st.SearchStrategy[Layout]:
    """Any layout."""
    return st.integers(0, (1 << 32) - 1).map(layout)


def _chosen(chance: random.Random, given: _Choice | None, among: Sequence[_Choice]) -> _Choice:
    """What is given; chance moves on either way, so that the rest of the layout stays as it is."""
    choice = chance.choice(among)
    return choice if given is None else given


@lru_cache(maxsize=2 * POPULATIONS)
def _population(number: int, closed: bool) -> _Population:
    text_only, long_names = number % 4 == 3, number % 3 == 0
    symbols = population(1500 + 125 * number, number, text_only=text_only, long_names=long_names)
    texts = [symbol.letter + symbol.name for symbol in symbols]
    if closed:
        texts += [f"D{name}" for name in (TEXT_SYMBOL, BANNER_SYMBOL, *(f"kallsyms_{name}" for name in TABLES))]
    tokens, codes = compress(tuple(text.encode("latin-1") for text in texts))
    return _Population(symbols, tokens, dict(zip(texts, codes, strict=True)), long_names, text_only)


def _era(
    chance: random.Random,
    seed: int,
    own: _Population,
    word_size: int,
    encoding: Encoding,
    sequence_size: int,
    base_adjacent: BaseAdjacent,
    index_adjacent: bool,
) -> Era:
    """A row that describes the tables, in a random order."""
    wide = encoding == "absolute" and (word_size == 8 or chance.random() < 0.5)
    array = "addresses" if wide else "offsets"
    order = ["num_syms", "names", "markers", "token_table", "token_index", array]
    order += ["seqs_of_names"] if sequence_size else []
    based = encoding in ("offset", "percpu")
    order += ["relative_base"] if based and base_adjacent == "apart" else []
    chance.shuffle(order)
    if based and base_adjacent != "apart":
        order.insert(order.index(array) + (base_adjacent == "behind"), "relative_base")
    if index_adjacent:
        order.remove("token_index")
        order.insert(order.index("token_table") + 1, "token_index")
    sizes = [size for size in (4, 8) if size <= word_size]
    long_names = own.long_names or chance.random() < 0.5
    return Era(
        f"layout {seed}", tuple(order), encoding, chance.choice(sizes), chance.choice(sizes), sequence_size, long_names
    )


def _sizes(own: _Population, era: Era, word_size: int, named: set[str]) -> dict[str, tuple[int, int]]:
    """Bytes of each table and of its elements; where symbols lie decides neither."""
    texts = [symbol.letter + symbol.name for symbol in own.symbols]
    texts += [f"D{BANNER_SYMBOL}", f"D{TEXT_SYMBOL}", *(f"Dkallsyms_{name}" for name in named)] if named else []
    count = len(texts)
    return {
        "num_syms": (era.count_size, era.count_size),
        "names": (sum(len(prefixed(own.codes[text], era.long_names)) for text in texts), 1),
        "markers": (-(-count // GROUP) * era.marker_size, era.marker_size),
        "token_table": (sum(len(token) + 1 for token in own.tokens), 1),
        "token_index": (512, 2),
        "offsets": (4 * count, 4),
        "addresses": (word_size * count, word_size),
        "relative_base": (word_size, word_size),
        "seqs_of_names": (era.sequence_size * count, 1 if era.sequence_size == 3 else 4),
        BANNER_SYMBOL: (len(BANNER), 8),
    }


def _arranged(
    chance: random.Random,
    surroundings: Surroundings,
    era: Era,
    sizes: Mapping[str, tuple[int, int]],
    word_size: int,
    start: int,
    joined: Sequence[frozenset[str]],
) -> tuple[dict[str, Place], list[tuple[int, bytes]], int]:
    """Places of all tables and of the banner, what fills the gaps between them, and where the last gap ends."""
    order = list(era.order)
    order.insert(chance.randrange(len(order) + 1), BANNER_SYMBOL)
    at = order.index(BANNER_SYMBOL)
    if {*order[at - 1 : at], *order[at + 1 : at + 2]} in joined:
        order.insert(0, order.pop(at))
    decoy = chance.choice(order) if chance.random() < 0.25 else None
    places: dict[str, Place] = {}
    gaps: list[tuple[int, bytes]] = []
    position = IMAGE_BEFORE
    before = ""
    for name in order:
        size, width = sizes[name]
        alignment = chance.choice([one for one in ALIGNMENTS if one >= width])
        gap = b""
        if {before, name} in joined:
            alignment = word_size if name == "relative_base" else width
        elif name == decoy:
            gap = surroundings.token_table()
        elif chance.random() < 0.75:
            gap = surroundings.gap(chance.choice((chance.randrange(64), chance.randrange(GAP - alignment))))
        gaps.append((position, gap))
        position += len(gap)
        position += -(start + position) % alignment
        places[name] = Place(position, size)
        position += size
        before = name
    gap = surroundings.gap(GAP)
    gaps.append((position, gap))
    return places, gaps, position + len(gap)


def _addressed(own: _Population, encoding: Encoding, start: int, landmarks: Mapping[str, int]) -> tuple[Symbol, ...]:
    """The population mapped at ``start``, a twentieth of it in the per-CPU area where the encoding has one."""
    small = len(own.symbols) // 20 if encoding == "percpu" and not own.text_only else 0
    first = own.symbols[small].address
    symbols = [
        s._replace(address=s.address - TEXT if index < small else start + s.address - first)
        for index, s in enumerate(own.symbols)
    ]
    if landmarks:
        symbols.append(Symbol(start, "D", TEXT_SYMBOL))
        symbols += [Symbol(address, "D", name) for name, address in landmarks.items()]
    return tuple(sorted(symbols, key=lambda symbol: symbol.address))


def _exported(chance: random.Random, symbols: Sequence[Symbol]) -> list[tuple[str, int]]:
    """Names and addresses of some symbols that C can name, in the order of their names."""
    named = [(one.name, one.address) for one in symbols if one.name.isascii() and one.name.isidentifier()]
    return sorted(chance.sample(named, min(EXPORTS, len(named))))


def _base(chance: random.Random, symbols: Sequence[Symbol], encoding: Encoding, start: int) -> int | None:
    """relative_base; sometimes one below every symbol, as kernels up to 5.5 had it."""
    if encoding not in ("offset", "percpu"):
        return None
    below = chance.randrange(0, 1 << 16, 16) if chance.random() < 0.25 else 0
    return next(symbol.address for symbol in symbols if symbol.address >= start) - below
