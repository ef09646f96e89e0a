"""Open any source: a kernel image in any packaging, or memory in any container."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import SourceError
from kallsift.memory.formats import files_at_addresses
from kallsift.memory.formats import registry as containers
from kallsift.memory.live.open import open_live
from kallsift.memory.memory import Memory


def open(
    source: str | bytes | os.PathLike[str] | Sequence[files_at_addresses.Part | str], *, pause: bool = False
) -> Memory:
    """Open a kernel image or a memory dump: a file or block device.

    The content tells the format. An image is unpacked, and `Memory.image` is set; anything else is opened as by
    `memory.formats.registry`. Files whose addresses nothing in them tells are given as ``FILE@ADDRESS``, with commas
    between several, or as a sequence of such texts or of pairs (file, address). Live sources are ``/proc/kcore``,
    ``qemu:SOCKET`` and ``gdb:HOST:PORT``.

    Args:
        source: source to open.
        pause: stop a QEMU guest before it is read, and resume it when the memory is closed.

    Raises:
        SourceError: if the source cannot be opened, or is neither; the text is one line that says what to do.
        TypeError: if ``source`` names no file at all.
    """
    if isinstance(source, bytes):
        return open(os.fsdecode(source), pause=pause)
    if not isinstance(source, str | os.PathLike | Sequence):
        raise TypeError(f"open() takes a path, or a sequence of files with addresses, not {type(source).__name__}")
    # the cast removes bytes, which mypy keeps because they are a sequence too
    source = cast("str | os.PathLike[str] | Sequence[files_at_addresses.Part | str]", source)
    if (live := open_live(source, pause=pause)) is not None:
        return live
    parts = files_at_addresses.parts(source)
    if parts is not None:
        views = [(*containers.mapped(path), address) for path, address in parts]
        return containers.with_files(files_at_addresses.open_placed(views), *(view for _, view, _ in views))
    path = cast("str | os.PathLike[str]", source)  # a sequence always has parts
    name, view = containers.mapped(path)
    return containers.with_files(
        containers.open_pair(path, name, view) or _image(name, view) or _dump(name, view), view
    )


def _image(name: str, view: NDArray[np.uint8]) -> Memory | None:
    """Return the kernel in a file; None if the file is no kernel image.

    The modules that unpack images are imported only if it may be one.
    """
    if containers.is_no_image(view[: containers.HEADER_SIZE].tobytes()):
        return None
    from kallsift.image.unpack import unwrap

    return unwrap(name, view)


def _dump(name: str, view: NDArray[np.uint8]) -> Memory:
    """Return the memory in a dump, of a machine or of a process.

    A process may be a kernel itself (user-mode Linux).
    """
    try:
        return containers.open_mapped(name, view)
    except SourceError as error:
        from kallsift.memory.formats.elf_core import ProcessCoreError

        if not isinstance(error, ProcessCoreError):
            raise
        from kallsift.image import process_core

        if (memory := process_core.open(name, view)) is None:
            raise
        return memory
