"""Finds compressed streams anywhere in some bytes by their magics, and decodes those that turn out to be streams.

Short magics stand by chance in any large file. So every attempt, and every byte that comes out of one, is counted
against a budget, and the compressions with the most telling magics go first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kallsift.image.codecs import CEILING, CODECS, Codec, CodecError, Decoded, MissingCodecError, decode
from kallsift.image.model import Bytes

ATTEMPTS = 1 << 12
"""Streams that one opening tries to decode."""
EXPANSION = 1 << 30
"""Bytes that one opening may unpack in all."""
PACKINGS = 1 << 8
"""Headers of packed images that one opening looks into; hostile ones refer to themselves, and several times at that."""
ATTEMPT_COST = 1 << 16
"""What an attempt costs even if nothing comes out of it."""


@dataclass
class Budget:
    """What one opening may still cost.

    Attributes:
        attempts: streams that may still be tried.
        expansion: bytes that may still come out of them.
        packings: packed images that may still be looked into.
        missing: the first compression that could not be tried for want of a package.
    """

    attempts: int = ATTEMPTS
    expansion: int = EXPANSION
    packings: int = PACKINGS
    missing: MissingCodecError | None = None

    @property
    def spent(self) -> bool:
        """Whether nothing may be tried any more."""
        return self.attempts <= 0 or self.expansion <= 0

    def decode(self, codec: Codec, view: Bytes) -> Decoded:
        """As `codecs.decode`, within what is left, which gets less by it.

        Raises:
            CodecError: if the stream is broken or expands too much.
        """
        if self.spent:
            raise CodecError("more was packed in it than any image holds")
        self.attempts -= 1
        ceiling = min(CEILING, self.expansion)
        self.expansion -= ATTEMPT_COST
        try:
            decoded = decode(codec, view, ceiling)
        except MissingCodecError as error:
            self.missing = self.missing or error
            raise
        except CodecError as error:
            self.expansion -= error.expanded
            raise
        self.expansion -= len(decoded.data)
        return decoded


@dataclass(frozen=True, eq=False)
class Found:
    """A stream: its offset, its compression, and what it held."""

    offset: int
    codec: Codec
    decoded: Decoded


def streams(
    view: Bytes, budget: Budget, kinds: tuple[Codec, ...] = CODECS, taken: Sequence[range] = ()
) -> Iterator[Found]:
    """Every stream in ``view`` that decodes at least in part, until the budget is spent.

    A stream inside of another, whole one, or in a part that is ``taken``, is not looked for.
    Compressions whose package is missing are left out.
    """
    taken = list(taken)
    for codec in kinds:
        for offset in codec.offsets(view):
            if budget.spent:
                return
            if any(offset in span for span in taken):
                continue
            try:
                decoded = budget.decode(codec, view[offset:])
            except MissingCodecError:
                break
            except CodecError:
                continue
            if decoded.problem is None:
                taken.append(range(offset, offset + decoded.used))
            yield Found(offset, codec, decoded)
