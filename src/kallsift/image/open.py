"""Opening any source: kernel images, packed however they are, and memory in whatever container."""

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
    """Opens a kernel image or a memory dump: a file or block device, which is told by its content.

    An image comes out unpacked, with `Memory.image` set; all else as `memory.containers.open` has it. Files that belong
    at addresses which nothing in them tells are given as ``FILE@ADDRESS``, with commas between several, or as a
    sequence of such texts or of pairs (file, address). Live sources are ``/proc/kcore``, ``qemu:SOCKET`` and
    ``gdb:HOST:PORT``.

    Args:
        source: what to open.
        pause: stop a QEMU guest before it is read, and let it go on when the memory is closed.

    Raises:
        SourceError: if the source cannot be opened, or is neither; the text is one line that says what to do.
        TypeError: if ``source`` names no file at all.
    """
    if isinstance(source, bytes):
        return open(os.fsdecode(source), pause=pause)
    if not isinstance(source, str | os.PathLike | Sequence):
        raise TypeError(f"a path, or a sequence of files with addresses, is wanted, not {type(source).__name__}")
    # mypy keeps bytes, since they are a sequence too
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
    """Return the kernel in a file; None if the file is no kernel image. Only then is what unpacks images imported."""
    if containers.is_no_image(view[: containers.HEADER_SIZE].tobytes()):
        return None
    from kallsift.image.unpack import unwrap

    return unwrap(name, view)


def _dump(name: str, view: NDArray[np.uint8]) -> Memory:
    """Return the memory in a dump: a machine's, or that of a process which is a kernel itself."""
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
