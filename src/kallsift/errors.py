"""Define the errors of kallsift: each names the source, the fault, and what to do."""

from __future__ import annotations

from enum import StrEnum


class Step(StrEnum):
    """A step of the recovery, in the words that a message gives it."""

    NO_SYMBOL_TABLE = "no symbol table"
    TOKEN_TABLE = "token table"
    NAMES = "names"
    NUM_SYMS = "num_syms"
    ADDRESSES = "addresses"
    BYTE_ORDER = "byte order"
    PLACEMENT = "placement"
    LANDMARKS = "landmarks"


class KallsiftError(Exception):
    """Base of every error that kallsift raises on purpose; its text is one line."""


class SourceError(KallsiftError):
    """The source cannot be opened or is not a memory (missing, empty, broken)."""


class ClosedError(SourceError):
    """A source that is read when its bytes are asked for was closed before they were."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}: is closed; open it again, and read it before it is closed")


class ImageError(SourceError):
    """An image is broken; `unwrap` adds the source's name to the text."""


class OverwriteError(KallsiftError):
    """A result would be written over a file that is read."""


class UnmappedError(KallsiftError):
    """Memory was asked for that the source does not hold.

    Attributes:
        address: first byte that was asked for.
        size: how many bytes were asked for.
    """

    def __init__(self, address: int, size: int) -> None:
        super().__init__(f"no memory at {address:#x} (+{size:#x} bytes) in this source")
        self.address = address
        self.size = size


class RecoveryError(KallsiftError):
    """No table could be proved; names the step that failed and the best candidate.

    Attributes:
        step: the step of the recovery that failed.
    """

    def __init__(self, step: Step, message: str) -> None:
        super().__init__(f"{step}: {message}")
        self.step = step
