"""Open a source: map the file once, and find the container format of the memory by its content."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import SourceError
from kallsift.memory.file_mapping import faults_of, is_readable, map_file
from kallsift.memory.formats.kdump.mark import DISKDUMP, KDUMP, has_mark, may_be_kdump
from kallsift.memory.input_files import record_input
from kallsift.memory.memory import Memory, printable

HEADER_SIZE = 4096
"""Number of bytes from the start of a source by which container modules recognise it."""


class Container(Protocol):
    """The interface of a module for one container format."""

    def probe(self, header: bytes) -> bool:
        """Tell whether a source with this beginning is in this format.

        ``header`` has `HEADER_SIZE` bytes, or all there are.
        """
        ...

    def open(self, name: str, view: NDArray[np.uint8], release: Callable[[], None]) -> Memory:
        """Open the memory in ``view`` (shape (size,), uint8).

        ``name`` is the name of the source in messages.
        """
        ...


ELF = b"\x7fELF"
E_TYPE = 16
"""Offset of ``e_type`` in an ELF header (elf(5))."""
ET_PROGRAMS = tuple(number.to_bytes(2, order) for number in (1, 2, 3) for order in ("little", "big"))
"""Types of linked files and of those that can be linked (ET_REL, ET_EXEC, ET_DYN), in both byte orders."""

VMWARE_STATES = tuple(bytes.fromhex(magic) for magic in ("d0bed0be", "d2bed2be", "d3bed3be", "d1bad1ba", "d2bad2ba"))

CONTAINERS: dict[str, tuple[bytes, ...]] = {
    "proc_kcore": (ELF,),
    "xen_core": (ELF,),
    "elf_core": (ELF,),
    "lime": (b"EMiL", b"LiME"),
    "avml": (b"AVML",),
    "kdump.reader": (KDUMP, DISKDUMP),
    "makedumpfile_flat": (b"makedumpfile\0",),
    "qemu.migration_stream": (b"QEVM",),
    "libvirt_save": (b"LibvirtQemudSave", b"LibvirtQemudPart"),
    "vmware": VMWARE_STATES,
    "hyperv.saved_state": (b"\x14\x20\x28\x01",),
    "archives": (b"070701", b"070702", b"070707"),
    "compressed": (b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"\x89LZO"),
    "raw": (b"",),
}
"""Modules of this package in the order in which they are tried, and the first bytes of each of their formats.

A module is imported, and its ``probe`` called, only if a source begins with these bytes. Raw comes last, because it
takes everything.
"""

if TYPE_CHECKING:
    from kallsift.memory.formats import (
        archives,
        avml,
        compressed,
        elf_core,
        libvirt_save,
        lime,
        makedumpfile_flat,
        proc_kcore,
        raw,
        vmware,
        xen_core,
    )
    from kallsift.memory.formats.hyperv import saved_state
    from kallsift.memory.formats.kdump import reader as kdump
    from kallsift.memory.formats.qemu import migration_stream

    _CHECKED: tuple[Container, ...] = (
        proc_kcore,
        xen_core,
        elf_core,
        lime,
        avml,
        kdump,
        makedumpfile_flat,
        migration_stream,
        libvirt_save,
        vmware,
        saved_state,
        archives,
        compressed,
        raw,
    )

TAR, TAR_OFFSET = b"ustar", 257
"""Magic in tar's first header, and its offset; the header begins with a file's name."""

STANDARD_INPUT = "-"
"""Name that a user writes for standard input."""

PAIRED = (".vmem", ".vmss", ".vmsn")
"""Endings of names of files that hold a memory together with another file beside them."""

NOT_YET = (
    (b"PK\x03\x04", "a zip archive", "unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
)
"""Beginnings of files that would pass for raw memory but never are: the bytes, their format, and advice."""

AFF4_URN, ZIP_COMMENT = b"aff4://", 1 << 16
"""Mark in the comment of AFF4 volumes, which are zip archives, and highest size of comment and end record in bytes.

Source: AFF4 Standard v1.0, "Zip Based Container".
"""

_UNFIT_KINDS = (
    (stat.S_ISDIR, "is a folder; name a memory dump in it"),
    (stat.S_ISFIFO, "is a pipe, which cannot be mapped; give it as standard input (kallsift ... - < PIPE)"),
    (stat.S_ISSOCK, "is a socket, not a memory dump; save what it carries into a file"),
    (stat.S_ISCHR, "is a character device, which cannot be mapped; dump the memory into a file, e.g. with LiME"),
)


def open(source: str | os.PathLike[str]) -> Memory:
    """Open a memory dump: a file or block device in any of the known containers.

    ``-`` stands for standard input. The file is mapped, not read, and opened only once; the mapping ends with the last
    view of it. Unreadable bytes are zero in the views (see `file_faults`).

    Raises:
        SourceError: if the source cannot be opened or is no memory dump; the text is one line that says what to do.
    """
    name, view = mapped(source)
    return with_files(open_pair(source, name, view) or open_mapped(name, view), view)


def with_files(memory: Memory, *views: NDArray[np.uint8]) -> Memory:
    """Return a memory that also knows the files that it was read from."""
    files = {id(file): file for file in (*memory.files, *map(faults_of, views)) if file is not None}
    return replace(memory, files=tuple(files.values()))


def mapped(source: str | os.PathLike[str]) -> tuple[str, NDArray[np.uint8]]:
    """Return a source's name in messages, and the whole file as a read-only view.

    The view has shape (size,), uint8. Standard input, ``-``, is allowed.

    Raises:
        SourceError: if it cannot be mapped; the text is one line that says what to do.
    """
    path = os.fspath(source)
    if path == STANDARD_INPUT:
        from kallsift.memory import stdin

        name, view = stdin.NAME, stdin.view()
    else:
        name = printable(path) or "''"
        view = _mapped(path, name)
    if not is_readable(view[:HEADER_SIZE]):
        raise SourceError(
            f"{name}: its beginning cannot be read; save the readable parts, e.g. with ddrescue, and name that file"
        )
    return name, view


def open_pair(source: str | os.PathLike[str], name: str, view: NDArray[np.uint8]) -> Memory | None:
    """Open the memory in a file that is already mapped and in files beside it.

    The result is None if no other file belongs to it. This is asked before images and before all containers, so a pair
    must prove itself by the content of one of its files.

    Raises:
        SourceError: as `open`.
    """
    if os.fspath(source) == STANDARD_INPUT:
        return None
    path = Path(source)
    header = view[:HEADER_SIZE].tobytes()
    if has_mark(header):
        from kallsift.memory.formats.kdump import parts as kdump_parts
        from kallsift.memory.formats.kdump import reader as kdump

        if parts := kdump_parts.siblings(path, view):
            views = [mapped(part)[1] for part in parts]
            return with_files(kdump.open_parts(name, views, _let_go), *views)
    if path.suffix.lower() not in PAIRED:
        return None
    from kallsift.memory.formats import vmware

    other = vmware.companion(path, header)
    if other is None:
        return None
    _, beside = mapped(other)
    state, ram = (view, beside) if vmware.probe(header) else (beside, view)
    if not vmware.probe(state[:HEADER_SIZE].tobytes()):
        return None
    return with_files(vmware.open_pair(name, state, ram, _let_go), state, ram)


def open_mapped(name: str, view: NDArray[np.uint8]) -> Memory:
    """Open the memory in a file that is already mapped.

    Raises:
        SourceError: as `open`.
    """
    header = view[:HEADER_SIZE].tobytes()
    for magic, what, advice in NOT_YET:
        if header.startswith(magic):
            if AFF4_URN in header or AFF4_URN in view[-ZIP_COMMENT:].tobytes():
                what, advice = "an AFF4 image", "export its memory as raw or ELF with the tool that took it"
            raise SourceError(f"{name}: is {what}, which kallsift cannot read; {advice}")
    for container in _begun(header, tuple(CONTAINERS)[:-1]):
        if container.probe(header):
            return with_files(container.open(name, view, _let_go), view)
    for container in _without_mark(header, view):
        try:
            memory = container.open(name, view, _let_go)
        except SourceError:
            continue
        note = f"the file's first bytes are damaged: by the rest it is read as {memory.container}"
        return with_files(replace(memory, notes=(note, *memory.notes)), view)
    for container in _begun(header, tuple(CONTAINERS)[-1:]):
        return with_files(container.open(name, view, _let_go), view)
    raise SourceError(f"{name}: is in no known container format")


def _without_mark(header: bytes, view: NDArray[np.uint8]) -> Iterator[Container]:
    """Yield modules that may read a file with a damaged mark, by its other contents."""
    from kallsift.memory.formats.elf_headers import core_headers

    if core_headers(view) is not None:
        yield from _begun(ELF, ("elf_core",))
    if may_be_kdump(header):
        from kallsift.memory.formats.kdump import repair

        if has_mark(header) or repair.is_kdump(view):
            yield from _begun(KDUMP, ("kdump.reader",))


def is_dump(header: bytes) -> bool:
    """Tell whether a source that begins with ``header`` is in a known container.

    Containers that cannot be read yet are included. Raw memory is not, because nothing distinguishes it from any other
    file.
    """
    if any(header.startswith(magic) for magic, _, _ in NOT_YET):
        return True
    return any(container.probe(header) for container in _begun(header, tuple(CONTAINERS)[:-3]))


def is_no_image(header: bytes) -> bool:
    """Tell whether a file that begins with ``header`` cannot be a kernel image.

    It cannot if it begins like a known container of memory. Executables are ELF files as well as cores; their
    ``e_type`` distinguishes them.
    """
    if header.startswith(ELF):
        return header[E_TYPE : E_TYPE + 2] not in ET_PROGRAMS
    plain = (marks for name, marks in CONTAINERS.items() if name not in ("archives", "compressed", "raw"))
    return any(header.startswith(marks) for marks in plain)


def _begun(header: bytes, names: Sequence[str]) -> Iterator[Container]:
    """Import and yield the modules whose formats can begin with ``header``."""
    is_tar = header[TAR_OFFSET : TAR_OFFSET + len(TAR)] == TAR
    for name in names:
        if header.startswith(CONTAINERS[name]) or (is_tar and name == "archives"):
            yield cast(Container, import_module(f"{__package__}.{name}"))


def _let_go() -> None:
    """Do nothing: a mapping lives as long as views of it, and ends with the last one.

    To close it here would raise BufferError, or remove memory under views that are still in use.
    """


def _mapped(path: str, name: str) -> NDArray[np.uint8]:
    """Return the whole file as a read-only view, shape (size,), uint8."""
    try:
        # The type is checked before the file is opened, because opening a pipe or device may already have an effect.
        # The file is opened without blocking, and checked once more, in case it was replaced in between.
        _refuse_unfit(Path(path).stat().st_mode, name)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise SourceError(f"{name}: no such file; check the path") from error
    except PermissionError as error:
        raise SourceError(f"{name}: permission denied; make it readable or run as a user who may read it") from error
    except (OSError, ValueError) as error:
        raise SourceError(f"{name}: cannot be opened ({system_reason(error)}); check the path") from error
    try:
        _refuse_unfit(os.fstat(descriptor).st_mode, name)
        record_input(path, descriptor)
        size = os.lseek(descriptor, 0, os.SEEK_END)
        if not size:
            raise SourceError(f"{name}: is empty; take or copy the dump again")
        return map_file(name, descriptor, size)
    except (OSError, ValueError, OverflowError) as error:
        raise SourceError(
            f"{name}: cannot be mapped ({system_reason(error)}); copy it into an ordinary file"
        ) from error
    finally:
        os.close(descriptor)


def _refuse_unfit(mode: int, name: str) -> None:
    for is_kind, advice in _UNFIT_KINDS:
        if is_kind(mode):
            raise SourceError(f"{name}: {advice}")


def system_reason(error: Exception) -> str:
    """Return the system's reason for an error, without the unescaped path."""
    return (error.strerror if isinstance(error, OSError) else None) or printable(str(error))
