"""Opening any source: kernel images, packed however they are, and memory in whatever container."""

from __future__ import annotations

import os

from kallsift.image.unwrap import unwrap
from kallsift.memory import containers
from kallsift.memory.model import Memory


def open(source: str | os.PathLike[str]) -> Memory:
    """Opens a kernel image or a memory dump: a file or block device, which is told by its content.

    An image comes out unpacked, with `Memory.image` set; all else as `memory.containers.open` has it.

    Raises:
        SourceError: if the source cannot be opened, or is neither; the text is one line that says what to do.
    """
    name, view = containers.mapped(source)
    return unwrap(name, view) or containers.open_mapped(name, view)
