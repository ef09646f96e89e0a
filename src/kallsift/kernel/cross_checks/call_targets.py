"""Where a kernel's code calls to: the targets of its direct calls, one way of finding them for each architecture.

Instructions are not followed one by one. Where they have all one size, each word is one; on x86 and s390x, what looks
like a call inside of something else leads anywhere, and hardly twice to one place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Calls = Callable[[NDArray[np.uint8], str, int], NDArray[np.int64]]
"""The targets of all calls in some code, from the code's first byte on, given its byte order and address."""


def _signed(values: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Numbers of so many bits, the highest of which is the sign."""
    return np.asarray(values - ((values >> bits - 1) << bits))


def _words(code: NDArray[np.uint8], byte_order: str) -> NDArray[np.uint32]:
    return code[: len(code) // 4 * 4].view(f"{byte_order}u4")


def _x86(code: NDArray[np.uint8], byte_order: str, start: int) -> NDArray[np.int64]:
    """``call rel32``: E8, and the distance from the next instruction (Intel SDM, volume 2)."""
    places = np.flatnonzero(code[:-5] == 0xE8)
    distances = np.ndarray(len(code) - 3, "<i4", code, strides=(1,))[places + 1]
    return np.asarray(places + 5 + distances.astype(np.int64))


def _arm64(code: NDArray[np.uint8], byte_order: str, start: int) -> NDArray[np.int64]:
    """``bl``: 100101, and a distance in words (Arm ARM, C6.2); instructions are little-endian always."""
    words = _words(code, "<")
    places = np.flatnonzero(words >> np.uint32(26) == 0x25)
    return 4 * (places + _signed((words[places] & np.uint32(0x3FFFFFF)).astype(np.int64), 26))


def _arm(code: NDArray[np.uint8], byte_order: str, start: int) -> NDArray[np.int64]:
    """``bl`` of the A32 set, always executed: EB, and a distance in words from the instruction after the next."""
    words = _words(code, byte_order)
    places = np.flatnonzero(words >> np.uint32(24) == 0xEB)
    return 4 * (places + 2 + _signed((words[places] & np.uint32(0xFFFFFF)).astype(np.int64), 24))


def _mips(code: NDArray[np.uint8], byte_order: str, start: int) -> NDArray[np.int64]:
    """``jal``: 000011, and the address in words inside of the 256 MiB that the next instruction is in."""
    words = _words(code, byte_order)
    places = np.flatnonzero(words >> np.uint32(26) == 3)
    inside = start & (1 << 28) - 1
    region = inside + 4 * places + 4 >> 28 << 28
    return region - inside + 4 * (words[places] & np.uint32(0x3FFFFFF)).astype(np.int64)


def _ppc(code: NDArray[np.uint8], byte_order: str, start: int) -> NDArray[np.int64]:
    """``bl``: 010010, a distance in words, not absolute, and the link bit (Power ISA, 2.4)."""
    words = _words(code, byte_order)
    places = np.flatnonzero((words >> np.uint32(26) == 18) & (words & np.uint32(3) == 1))
    return 4 * places + _signed((words[places] & np.uint32(0x3FFFFFC)).astype(np.int64), 26)


def _s390x(code: NDArray[np.uint8], byte_order: str, start: int) -> NDArray[np.int64]:
    """``brasl``: C0x5, and a distance in halfwords (z/Architecture Principles of Operation, chapter 7)."""
    halves = code[: len(code) // 2 * 2].view(">u2")
    places = np.flatnonzero(halves[:-2] & np.uint16(0xFF0F) == 0xC005)
    distances = halves[places + 1].astype(np.int64) << 16 | halves[places + 2].astype(np.int64)
    return 2 * (places + _signed(distances, 32))


def _loongarch(code: NDArray[np.uint8], byte_order: str, start: int) -> NDArray[np.int64]:
    """``bl``: 010101, and a distance in words whose upper ten bits come last (LoongArch Reference Manual, 2.2.5)."""
    words = _words(code, "<")
    places = np.flatnonzero(words >> np.uint32(26) == 0x15)
    found = words[places].astype(np.int64)
    return 4 * (places + _signed((found & 0x3FF) << 16 | found >> 10 & 0xFFFF, 26))


CALLS: Mapping[str, Calls] = {
    "x86-64": _x86,
    "x86": _x86,
    "arm64": _arm64,
    "arm": _arm,
    "mips": _mips,
    "mips64": _mips,
    "ppc64": _ppc,
    "s390x": _s390x,
    "loongarch64": _loongarch,
}
"""By the names of architectures."""

MIN_CODE = 8
"""Bytes of code that have room for a call."""

UNITS: Mapping[str, int] = {"arm64": 4, "mips": 4, "mips64": 4, "ppc64": 4, "s390x": 2, "loongarch64": 4}
"""Bytes that instructions, and so functions, are aligned to where that is more than one."""


def call_targets(
    architecture: str, code: NDArray[np.uint8], byte_order: str, start: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where calls inside of some code lead to, as offsets in it, ascending, and how many lead there.

    Args:
        architecture: one that `CALLS` knows.
        code: all of it, shape (n,), uint8, contiguous.
        byte_order: ``"<"`` or ``">"``.
        start: its address.
    """
    if len(code) < MIN_CODE:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    targets = CALLS[architecture](code, byte_order, start)
    targets = np.sort(targets[(targets >= 0) & (targets < len(code))])
    first = np.flatnonzero(np.concatenate(([True], targets[1:] != targets[:-1]))[: len(targets)])
    return targets[first], np.diff(np.append(first, len(targets)))
