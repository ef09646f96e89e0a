"""Find compressed streams at any offset by their magics, and decode those that prove to be streams.

Short magics occur by chance in any large file. So a budget is charged for every attempt, and for every byte that is
read or written in it. The compressions with the most distinctive magics are tried first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kallsift.arrays import Bytes
from kallsift.budget import WorkBudget
from kallsift.compression.codecs import CODECS, Codec, CodecError, Decoded, MissingCodecError, decode

PACKINGS = 1 << 8
"""Highest number of packed images that are unpacked in one opening.

A hostile image refers to itself, or does so many times.
"""

ATTEMPT_COST = 1 << 17
"""Cost of an attempt that fails, as the number of bytes that could be read in that time."""


@dataclass
class Budget:
    """The work that is still allowed in one opening.

    Attributes:
        work: bytes that may still be read and unpacked.
        packings: packed images that may still be unpacked.
        missing: first compression that could not be tried because a package is missing.
    """

    work: WorkBudget
    packings: int = PACKINGS
    missing: MissingCodecError | None = None

    def decode(self, codec: Codec, view: Bytes) -> Decoded:
        """Decode a stream as `codecs.decode` does, and charge the budget for it.

        Raises:
            CodecError: if the stream is broken or expands too much.
        """
        if not self.work.take("compressed streams", ATTEMPT_COST):
            raise CodecError("it has more packed data than any image")
        try:
            return decode(codec, view, self.work)
        except MissingCodecError as error:
            self.missing = self.missing or error
            raise


@dataclass(frozen=True, eq=False)
class FoundPayload:
    """A stream: its offset, its compression, and its contents."""

    offset: int
    codec: Codec
    decoded: Decoded


def streams(
    view: Bytes, budget: Budget, kinds: tuple[Codec, ...] = CODECS, taken: Sequence[range] = ()
) -> Iterator[FoundPayload]:
    """Yield every stream in ``view`` that decodes at least in part.

    The search ends when the budget is spent. Streams inside of another complete one, or in a part that is ``taken``,
    are not searched for. Compressions whose package is missing are left out.
    """
    taken = list(taken)
    for codec in kinds:
        if not budget.work.take("MiB of the search for compressed streams", len(view), count=len(view) >> 20):
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
            yield FoundPayload(offset, codec, decoded)
