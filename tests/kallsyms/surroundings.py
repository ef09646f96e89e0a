"""What lies around a kernel's tables: noise, zeros, strings, other arrays, pointers, lists, exports, and decoys."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tests.oracle.symbols import population
from tests.oracle.tokens import compress
from tests.oracle.writer import ByteOrder

PAGE = 4096

HEADS = 64
"""Empty list heads in a piece of data; an image has two such pieces at least."""

POINTERS = 300
"""Distinct pointers to symbols in a piece of data; an image has two such pieces at least."""

EXPORTS = 120
"""Symbols at most that an image exports to modules; real ones export some thousands."""

_DECOY_SYMBOLS = 400
_DECOYS = 4
_DIGITS = b"".join(b"%d\0" % digit for digit in range(10))
_MESSAGES = (
    "\x016%s: registered as %d", "out of memory", "invalid argument %d for %s", "/proc/%d/maps", "kallsyms_",
    "0123456789", "drivers/base/core.c", "include/linux/mm.h", "T", "tTdDbB", "eth%d",
    "usb %s: device descriptor read/%s, error %d",
)  # fmt: skip


_Maker = Callable[[int, int, NDArray[np.uint64]], bytes]
"""Makes a piece of so many bytes at an address, given the symbols' addresses."""


class Surroundings:
    """Makes pieces of an image; all of them follow from ``chance``."""

    def __init__(self, chance: random.Random, word_size: int, byte_order: ByteOrder) -> None:
        self._chance = chance
        self._generator = np.random.default_rng(chance.getrandbits(64))
        self._half = np.dtype(f"{'<' if byte_order == 'little' else '>'}u4")
        self._word = np.dtype(f"{'<' if byte_order == 'little' else '>'}u{word_size}")
        self._byte_order = byte_order

    def gap(self, size: int) -> bytes:
        """What can stand between two tables."""
        makers = (self.zeros, self.noise, self.strings, self.numbers, self.digits)
        return self._chance.choice(makers)(size)

    def zeros(self, size: int) -> bytes:
        return bytes(size)

    def noise(self, size: int) -> bytes:
        return self._generator.bytes(size)

    def strings(self, size: int) -> bytes:
        """Messages with their NULs."""
        text = b""
        while len(text) < size:
            text += "\0".join(self._chance.sample(_MESSAGES, len(_MESSAGES))).encode() + b"\0"
        return text[:size]

    def numbers(self, size: int) -> bytes:
        """A sorted table of 32-bit numbers: hash chains, exception tables and unwind tables look so."""
        values = np.sort(self._generator.integers(0, 1 << self._chance.choice((16, 24, 31)), size // 4 + 1))
        return values.astype(self._half).tobytes()[:size]

    def digits(self, size: int) -> bytes:
        """The twenty bytes of the digits' tokens, among strings and without a token table."""
        text = self.strings(size)
        at = self._chance.randrange(size + 1)
        return (text[:at] + _DIGITS + text[at:])[:size]

    def token_table(self) -> bytes:
        """The token table and index of some other kernel, whose names are not here."""
        tokens, _ = compress(_decoy_texts(self._chance.randrange(_DECOYS)))
        table = b"".join(token + b"\0" for token in tokens)
        starts = np.cumsum([0, *(len(token) + 1 for token in tokens[:-1])])
        return table + bytes(-len(table) % 8) + starts.astype(self._half.str.replace("4", "2")).tobytes()

    def image(
        self,
        size: int,
        address: int,
        symbols: Sequence[int],
        taken: tuple[int, int],
        exported: Sequence[tuple[str, int]] = (),
    ) -> bytearray:
        """An image of pieces of data, but for a range of bytes.

        Args:
            size: bytes.
            address: where the first byte is mapped.
            symbols: addresses of symbols in the image or behind it.
            taken: offsets of the range that is left zero.
            exported: names and addresses of the symbols that it exports, if any.
        """
        image = bytearray(size)
        targets = np.unique(np.array(symbols, np.uint64))
        makers: list[_Maker] = [self._lists, self._pointers] * 2
        if exported:
            makers.append(lambda length, at, _: self._exports(length, at, exported))
        for low, high in ((0, taken[0]), (taken[1], size)):
            place = low
            while place < high:
                length = min(PAGE * self._chance.choice((1, 2, 4, 8, 16)), high - place)
                kind = self._chance.choice((self.zeros, self.noise, self.noise, self.strings, self.numbers))
                piece = kind(length)
                if place % 8 == 0 and length >= 4 * PAGE and (makers or self._chance.random() < 0.1):
                    maker = makers.pop() if makers else self._chance.choice((self._lists, self._pointers))
                    piece = maker(length, address + place, targets)
                image[place : place + length] = piece
                place += length
        if makers:
            raise AssertionError("the image is too small for its lists, pointers and exports")
        return image

    def _lists(self, size: int, address: int, _: NDArray[np.uint64]) -> bytes:
        """Structures with an empty list head each."""
        width = self._word.itemsize
        words = self._generator.integers(0, 1 << 16, size // width).astype(np.uint64)
        words[self._generator.random(len(words)) < 0.5] = 0
        heads = self._generator.choice(len(words) // 8, HEADS, replace=False) * 8 + 2
        words[heads] = words[heads + 1] = heads.astype(np.uint64) * np.uint64(width) + np.uint64(address)
        return words.astype(self._word).tobytes().ljust(size, b"\0")

    def _pointers(self, size: int, _: int, targets: NDArray[np.uint64]) -> bytes:
        """Structures of pointers to symbols, small numbers and null pointers."""
        words = self._generator.integers(0, 1 << 12, size // self._word.itemsize).astype(np.uint64)
        words[self._generator.random(len(words)) < 0.5] = 0
        chosen = self._generator.choice(targets, min(POINTERS, len(targets)), replace=False)
        words[self._generator.choice(len(words), len(chosen), replace=False)] = chosen
        return words.astype(self._word).tobytes().ljust(size, b"\0")

    def _exports(self, size: int, address: int, exported: Sequence[tuple[str, int]]) -> bytes:
        """What modules can use, as releases have it: places of symbol, name and namespace, by pointers or by offsets.

        Namespaces came with 5.4, and offsets from their own place with 4.19 for some architectures.
        """
        offsets = self._chance.random() < 0.5
        kind = self._half if offsets else self._word
        fields = self._chance.choice((2, 3))
        strings, starts = b"\0", []
        for name, _ in exported:
            starts.append(len(strings))
            strings += name.encode() + b"\0"
        behind = address + len(exported) * fields * kind.itemsize
        entries = [(at, behind + start, behind)[:fields] for (_, at), start in zip(exported, starts, strict=True)]
        values = np.array(entries, np.uint64).reshape(-1)
        if offsets:
            values -= np.uint64(address) + np.arange(len(values), dtype=np.uint64) * np.uint64(kind.itemsize)
        piece = (values & np.uint64((1 << 8 * kind.itemsize) - 1)).astype(kind).tobytes() + strings
        if len(piece) > size:
            raise AssertionError("the piece is too small for the exports")
        return piece.ljust(size, b"\0")


def _decoy_texts(number: int) -> tuple[bytes, ...]:
    symbols = population(_DECOY_SYMBOLS, 1000 + number)
    return tuple((symbol.letter + symbol.name).encode() for symbol in symbols)
