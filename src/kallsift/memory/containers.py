"""Opening a source: maps the file once, and finds out by its content which container format holds the memory."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import SourceError
from kallsift.memory import kdump, standard_input, vmware
from kallsift.memory.model import Memory, printable

HEADER_SIZE = 4096
"""Bytes from the start of a source that container modules are recognised by."""


class Container(Protocol):
    """What a module for one container format offers."""

    def probe(self, header: bytes) -> bool:
        """Whether a source that begins with ``header`` (`HEADER_SIZE` bytes or all there are) is in this format."""
        ...

    def open(self, name: str, view: NDArray[np.uint8], release: Callable[[], None]) -> Memory:
        """The memory in ``view`` (shape (size,), uint8), for a source called ``name`` in messages."""
        ...


CONTAINERS = (
    "live.kcore",
    "xen_core",
    "elf_core",
    "lime",
    "avml",
    "kdump",
    "flattened",
    "qemu_stream",
    "libvirt_save",
    "vmware",
    "hyperv",
    "wrapped",
    "raw",
)
"""Modules of this package in the order in which they are asked; raw comes last because it takes everything."""

if TYPE_CHECKING:
    from kallsift.memory import (
        avml,
        elf_core,
        flattened,
        hyperv,
        libvirt_save,
        lime,
        qemu_stream,
        raw,
        wrapped,
        xen_core,
    )
    from kallsift.memory.live import kcore

    _CHECKED: tuple[Container, ...] = (
        kcore,
        xen_core,
        elf_core,
        lime,
        avml,
        kdump,
        flattened,
        qemu_stream,
        libvirt_save,
        vmware,
        hyperv,
        wrapped,
        raw,
    )

NOT_YET = (
    (b"PK\x03\x04", "a zip archive", "unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
)
"""Beginnings of what would pass for raw memory but never is: the bytes, what they are, and what to do."""

_UNFIT_KINDS = (
    (stat.S_ISDIR, "is a folder; name a memory dump in it"),
    (stat.S_ISFIFO, "is a pipe, which cannot be mapped; give it as standard input (kallsift ... - < PIPE)"),
    (stat.S_ISSOCK, "is a socket, not a memory dump; save what it carries into a file"),
    (stat.S_ISCHR, "is a character device, which cannot be mapped; dump the memory into a file, e.g. with LiME"),
)


def open(source: str | os.PathLike[str]) -> Memory:
    """Opens a memory dump: a file or block device that holds an ELF core of a machine, a LiME dump or raw memory.

    ``-`` stands for standard input.

    The file is mapped, not read, and opened only once; the mapping ends with the last view of it. As with every
    mapping, a file that somebody cuts short meanwhile ends the process with SIGBUS.

    Raises:
        SourceError: if the source cannot be opened or is no memory dump; the text is one line that says what to do.
    """
    name, view = mapped(source)
    return open_pair(source, name, view) or open_mapped(name, view)


def mapped(source: str | os.PathLike[str]) -> tuple[str, NDArray[np.uint8]]:
    """A source's name as messages call it, and the whole file as a read-only view, shape (size,), uint8.

    Standard input, ``-``, is one too.

    Raises:
        SourceError: if it cannot be mapped; the text is one line that says what to do.
    """
    path = os.fspath(source)
    if path == standard_input.SYMBOL:
        return standard_input.NAME, standard_input.view()
    name = printable(path) or "''"
    return name, _mapped(path, name)


def open_pair(source: str | os.PathLike[str], name: str, view: NDArray[np.uint8]) -> Memory | None:
    """The memory in a file that is already mapped and one beside it; None if there is none that belongs to it.

    Raises:
        SourceError: as `open`.
    """
    if os.fspath(source) == standard_input.SYMBOL:
        return None
    header = view[:HEADER_SIZE].tobytes()
    if kdump.probe(header) and (parts := kdump.siblings(Path(source), view)):
        return kdump.open_parts(name, [mapped(part)[1] for part in parts], _let_go)
    other = vmware.companion(Path(source), header)
    if other is None:
        return None
    _, beside = mapped(other)
    state, ram = (view, beside) if vmware.probe(header) else (beside, view)
    return vmware.open_pair(name, state, ram, _let_go) if vmware.probe(state[:HEADER_SIZE].tobytes()) else None


def open_mapped(name: str, view: NDArray[np.uint8]) -> Memory:
    """The memory in a file that is already mapped.

    Raises:
        SourceError: as `open`.
    """
    header = view[:HEADER_SIZE].tobytes()
    for magic, what, advice in NOT_YET:
        if header.startswith(magic):
            raise SourceError(f"{name}: is {what}, which cannot be read yet; {advice}")
    for module in CONTAINERS:
        container = cast(Container, import_module(f"{__package__}.{module}"))
        if container.probe(header):
            return container.open(name, view, _let_go)
    raise SourceError(f"{name}: is in no container format that is known")


def is_dump(header: bytes) -> bool:
    """Whether a source that begins with ``header`` is in a container that is known, be it one that cannot be read yet.

    Raw memory does not count, since nothing tells it from any other file.
    """
    if any(header.startswith(magic) for magic, _, _ in NOT_YET):
        return True
    return any(cast(Container, import_module(f"{__package__}.{name}")).probe(header) for name in CONTAINERS[:-2])


def _let_go() -> None:
    """Nothing to do: a mapping lives as long as views of it and ends with the last one.

    Closing it here would raise BufferError, or else pull memory away from under those who still hold views.
    """


def _mapped(path: str, name: str) -> NDArray[np.uint8]:
    """The whole file as a read-only view, shape (size,), uint8."""
    try:
        # Looked at before it is opened, since opening a pipe or device may already do something to it; and without
        # blocking and once more after that, in case it was replaced in between.
        _refuse_unfit(Path(path).stat().st_mode, name)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise SourceError(f"{name}: no such file; check the path") from error
    except PermissionError as error:
        raise SourceError(f"{name}: permission denied; make it readable or run as a user who may read it") from error
    except (OSError, ValueError) as error:
        raise SourceError(f"{name}: cannot be opened ({_reason(error)}); check the path") from error
    try:
        _refuse_unfit(os.fstat(descriptor).st_mode, name)
        size = os.lseek(descriptor, 0, os.SEEK_END)
        if not size:
            raise SourceError(f"{name}: is empty; take or copy the dump again")
        mapping = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
    except (OSError, ValueError, OverflowError) as error:
        raise SourceError(f"{name}: cannot be mapped ({_reason(error)}); copy it into an ordinary file") from error
    finally:
        os.close(descriptor)
    return np.frombuffer(mapping, np.uint8)


def _refuse_unfit(mode: int, name: str) -> None:
    for is_kind, advice in _UNFIT_KINDS:
        if is_kind(mode):
            raise SourceError(f"{name}: {advice}")


def _reason(error: Exception) -> str:
    """Why the system refused, without the path that it would put there unescaped."""
    return (error.strerror if isinstance(error, OSError) else None) or printable(str(error))
