"""Opening bytes as if they were a file."""

from __future__ import annotations

import numpy as np
import pytest

from kallsift.arrays import Bytes
from kallsift.errors import SourceError
from kallsift.image.unpack import unwrap
from kallsift.memory.memory import Memory


def view(content: bytes) -> Bytes:
    """Bytes as a mapping of a file would show them."""
    return np.frombuffer(content, np.uint8)


def unpacked(content: bytes) -> Memory:
    """The kernel in an image."""
    memory = unwrap("image", view(content))
    assert memory is not None
    assert memory.image is not None
    return memory


def content(memory: Memory) -> bytes:
    """The bytes of a memory of one segment."""
    (segment,) = memory.segments
    return segment.read().tobytes()


def refusal(content: bytes) -> str:
    """The text of the error that unwrapping raises."""
    with pytest.raises(SourceError) as caught:
        unwrap("image", view(content))
    text = str(caught.value)
    assert text.startswith("image: ")
    assert text.isprintable()
    return text
