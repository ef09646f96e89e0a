"""Finds compressed streams anywhere in some bytes by their magics, and decodes those that turn out to be streams.

Short magics stand by chance in any large file. So every attempt, every byte that goes into one and every byte that
comes out of one is counted against a budget, and the compressions with the most telling magics go first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kallsift.arrays import Bytes
from kallsift.budget import WorkBudget
from kallsift.compression.codecs import CODECS, Codec, CodecError, Decoded, MissingCodecError, decode

PACKINGS = 1 << 8
"""Headers of packed images that one opening looks into; hostile ones refer to themselves, and several times at that."""

ATTEMPT_COST = 1 << 17
"""Bytes that could be passed over while a decoder is made, fails, and is thrown away."""


@dataclass
class Budget:
    """What one opening may still cost.

    Attributes:
        work: bytes that may still be passed over and unpacked.
        packings: packed images that may still be looked into.
        missing: the first compression that could not be tried for want of a package.
    """

    work: WorkBudget
    packings: int = PACKINGS
    missing: MissingCodecError | None = None

    def decode(self, codec: Codec, view: Bytes) -> Decoded:
        """As `codecs.decode`, within what is left, which gets less by it.

        Raises:
            CodecError: if the stream is broken or expands too much.
        """
        if not self.work.take("compressed streams", ATTEMPT_COST):
            raise CodecError("more was packed in it than any image holds")
        try:
            return decode(codec, view, self.work)
        except MissingCodecError as error:
            self.missing = self.missing or error
            raise


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
        if not budget.work.take("MiB searched for compressed streams", len(view), count=len(view) >> 20):
            return
        for offset in codec.offsets(view):
            if budget.work.work < ATTEMPT_COST:
                budget.work.leave_out("compressed streams")
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
