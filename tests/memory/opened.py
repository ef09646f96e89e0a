"""Opens bytes as a container's module does, and reads all that it gives."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from kallsift.errors import SourceError
from kallsift.memory.formats.registry import Container
from kallsift.memory.memory import Memory

READ_AT_MOST = 1 << 22
"""Bytes of each stretch that are read of damaged files."""

ENDS = np.array([0, (1 << 64) - 8], np.uint64)
"""The first and the last word of all addresses, which any memory can be asked for."""


def view_of(content: bytes) -> NDArray[np.uint8]:
    """The bytes as a mapped file has them."""
    return np.frombuffer(content, np.uint8)


def open_bytes(module: Container, content: bytes) -> Memory:
    """The memory in ``content``."""
    assert module.probe(content[:4096])
    return module.open("test", view_of(content), lambda: None)


def ranges(memory: Memory) -> dict[int, bytes]:
    """The bytes of every stretch by its address."""
    return {segment.start: segment.read().tobytes() for segment in memory.segments}


def refusal(module: Container, content: bytes) -> str:
    """The text of the SourceError that ``content`` raises: one line, safe to print."""
    with pytest.raises(SourceError) as caught:
        ranges(open_bytes(module, content))
    text = str(caught.value)
    assert text.startswith("test: ")
    assert text.isprintable()
    return text


def read_or_refuse(module: Container, content: bytes) -> None:
    """Opens damaged bytes and reads what they give; a SourceError of one line is as good."""
    if not module.probe(content[:4096]):
        return
    try:
        memory = open_bytes(module, content)
        assert all(0 <= segment.start < segment.end <= 1 << 64 for segment in memory.segments)
        memory.words(ENDS, np.dtype("<u8"))
        for segment in memory.segments[:64]:
            size = min(segment.size, READ_AT_MOST)
            assert len(segment.read(0, size)) == size
            assert len(segment.read(segment.size - 1)) == 1
    except SourceError as error:
        text = str(error)
    else:
        text = ""
    assert not text or text.isprintable()
