"""Xen's dump-core files, as docs/misc/dump-core-format.txt has them: an ELF core of sections alone.

After the ELF header come the section headers, then the notes, the processors, the frame numbers, and the pages, these
at an offset that is a multiple of a page.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tests.memory.builders import note

PAGE = 4096
NOWHERE = (1 << 64) - 1
VERSION = 1
HVM, PARAVIRTUAL = 0xF00FEBEE, 0xF00FEBED
KINDS = {"none": 0x2000000, "header": 0x2000001, "version": 0x2000002, "format": 0x2000003}

CONTEXT_SIZE, USER_REGISTERS, CONTROL_REGISTERS = 5168, 520, 4984


def context(rip: int, control: Mapping[int, int]) -> bytes:
    """struct vcpu_guest_context of x86-64 with these registers."""
    data = bytearray(CONTEXT_SIZE)
    struct.pack_into("<Q", data, USER_REGISTERS + 128, rip)
    for number, value in control.items():
        struct.pack_into("<Q", data, CONTROL_REGISTERS + 8 * number, value)
    return bytes(data)


def head(
    frames: Sequence[int],
    processors: Sequence[bytes] = (),
    *,
    host_frames: Sequence[int] | None = None,
    page: int = PAGE,
    machine: int = 62,
) -> bytes:
    """All that stands before the pages: one for each of the guest's ``frames``, in that order.

    Args:
        frames: numbers of the pages, `NOWHERE` for one that is gone.
        processors: a context of each.
        host_frames: of a paravirtual guest, the host's number of each page.
        page: bytes of a page.
        machine: e_machine.
    """
    numbers = struct.pack(f"<{len(frames)}Q", *frames)
    if host_frames is not None:
        numbers = b"".join(struct.pack("<QQ", *pair) for pair in zip(frames, host_frames, strict=True))
    kind = HVM if host_frames is None else PARAVIRTUAL
    notes = note(b"Xen", KINDS["none"], b"")
    notes += note(b"Xen", KINDS["header"], struct.pack("<4Q", kind, len(processors), len(frames), page))
    notes += note(b"Xen", KINDS["version"], bytes(1276)) + note(b"Xen", KINDS["format"], struct.pack("<Q", VERSION))
    sections = {
        ".shstrtab": (3, b"", 0),
        ".note.Xen": (7, notes, 0),
        ".xen_prstatus": (1, b"".join(processors), CONTEXT_SIZE),
        ".xen_shared_info": (1, bytes(page), page),
        ".xen_pfn" if host_frames is None else ".xen_p2m": (1, numbers, 8 if host_frames is None else 16),
        ".xen_pages": (1, b"", page),
    }
    names = b"\0" + b"".join(name.encode() + b"\0" for name in sections)
    sections[".shstrtab"] = 3, names, 0
    position = 64 + 64 * (1 + len(sections))
    table, body = bytes(64), b""
    for name, (type_, data, entry) in sections.items():
        size = len(data)
        if name == ".xen_pages":
            body += bytes(-(position + len(body)) % page)
            size = len(frames) * page
        offset = position + len(body)
        table += struct.pack("<IIQQQQIIQQ", names.index(name.encode()), type_, 0, 0, offset, size, 0, 0, 8, entry)
        body += data
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    count = 1 + len(sections)
    header = struct.pack("<HHIQQQIHHHHHH", 4, machine, 1, 0, 0, 64, 0, 64, 0, 0, 64, count, 1)
    return ident + header + table + body


def core(pages: Iterable[tuple[int, bytes]], processors: Sequence[bytes] = ()) -> bytes:
    """A whole dump of a guest that translates addresses itself, small enough to be at hand."""
    pages = list(pages)
    return b"".join(pieces([number for number, _ in pages], (data for _, data in pages), processors))


def pieces(frames: Sequence[int], pages: Iterable[bytes], processors: Sequence[bytes] = ()) -> Iterator[bytes]:
    """The same bit by bit."""
    yield head(frames, processors)
    yield from pages
