"""Find the build ID: the note that names a kernel's build.

It lies in the image, or VMCOREINFO gives it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kallsift.errors import UnmappedError
from kallsift.kernel.checks.vmcoreinfo import parse
from kallsift.kernel.kernel import Kernel

NT_GNU_BUILD_ID = 3
OWNER = b"GNU\0"
HEADER = 16
"""Number of bytes before the ID.

They are three 32-bit words (size of the owner's name, of the ID, kind) and the owner's name.
"""

MAX_ID = 64
MAX_NOTES = 1 << 16
"""Greatest size of the notes in an image, in bytes.

Real kernels have some hundred.
"""

MAX_FOUND = 256
CHUNK = 16 << 20
PAGE = 4096
WORD = (1 << 64) - 1


@dataclass(frozen=True)
class BuildIdNote:
    """The note with a build ID.

    Attributes:
        address: running address of its first byte; None if it was made from VMCOREINFO.
        data: header, owner and ID.
    """

    address: int | None
    data: bytes

    @property
    def build_id(self) -> bytes:
        """The ID itself."""
        return self.data[HEADER:]


def find_build_id(kernel: Kernel, held: tuple[tuple[int, int], ...]) -> BuildIdNote | None:
    """Return the kernel's build ID note; None if there is none or it is ambiguous.

    It lies between the boundary symbols of the kernel's notes, if the table has them, else in the image. An ID in
    VMCOREINFO decides; otherwise the note must be the only one.

    Args:
        kernel: the kernel that is searched.
        held: the parts of its image that the source holds, by running addresses.
    """
    notes = [kernel.symbols.find(name) for name in ("__start_notes", "__stop_notes")]
    bounds = [kernel.symbols.symbol(index).address for index in notes if index is not None]
    if len(bounds) == 2 and 0 < bounds[1] - bounds[0] <= MAX_NOTES:
        held = tuple((max(low, bounds[0]), min(high, bounds[1])) for low, high in held)
    found = [note for low, high in held for note in _notes(kernel, low, high)]
    stated = _stated(kernel)
    if stated is not None:
        same = [note for note in found if note.build_id == stated]
        sizes = np.array([len(OWNER), len(stated), NT_GNU_BUILD_ID], f"{kernel.byte_order}u4")
        return same[0] if same else BuildIdNote(None, sizes.tobytes() + OWNER + stated)
    return found[0] if len(found) == 1 else None


def _stated(kernel: Kernel) -> bytes | None:
    """Return the ID in the container's VMCOREINFO, if that belongs to this kernel.

    VMCOREINFO has the ID since 5.9. Its address of ``_stext`` must be this kernel's.
    """
    text = kernel.memory.hints.vmcoreinfo
    info = None if text is None else parse(text, "note")
    value = info.values.get("BUILD-ID", "") if info else ""
    if info is None or not re.fullmatch(f"([0-9a-f]{{2}}){{1,{MAX_ID}}}", value):
        return None
    base = info.symbol("_stext")
    own = [symbol.address for symbol in kernel.symbols.all("_stext")]
    return bytes.fromhex(value) if base is not None and base in own else None


def _notes(kernel: Kernel, low: int, high: int) -> Iterator[BuildIdNote]:
    """Yield the build ID notes in a part of the image.

    Notes of programs that the kernel carries (its vDSOs) are left out.
    """
    found = 0
    magic = np.frombuffer(OWNER, "<u4")[0]
    low += -low % 4
    for start in range(low, high - HEADER, CHUNK):
        data = _read(kernel, start, min(CHUNK + HEADER + MAX_ID, high - start))
        words = np.frombuffer(data[: len(data) // 4 * 4], "<u4")
        for index in np.flatnonzero(words[3 : CHUNK // 4 + 3] == magic).tolist():
            found += 1
            if found > MAX_FOUND:
                return
            sizes = np.frombuffer(data, f"{kernel.byte_order}u4", 3, 4 * index).tolist()
            note = data[4 * index : 4 * index + HEADER + sizes[1]]
            if sizes[0] != len(OWNER) or sizes[2] != NT_GNU_BUILD_ID or not 1 <= sizes[1] <= MAX_ID:
                continue
            if len(note) == HEADER + sizes[1] and not _in_program(kernel, start + 4 * index):
                yield BuildIdNote(start + 4 * index, note)


def _in_program(kernel: Kernel, address: int) -> bool:
    """Tell whether an ELF file begins in the same page, as a vDSO does."""
    return _read(kernel, address & -PAGE, 4) == b"\x7fELF"


def _read(kernel: Kernel, address: int, size: int) -> bytes:
    """Return bytes of the image; empty if the source lacks any of them."""
    try:
        return kernel.memory.read(address - kernel.distance & WORD, size).tobytes()
    except UnmappedError:
        return b""
