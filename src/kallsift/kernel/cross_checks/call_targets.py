"""Find the targets of the direct calls in a kernel's code, in one way for each architecture.

Instructions are not decoded one by one. If all have one size, each word is compared. On x86 and s390x, bytes inside of
other instructions can look like a call: such calls have random targets, and hardly ever the same target twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Calls = Callable[[NDArray[np.uint8], str, int], NDArray[np.int64]]
"""A function from code, its byte order and its address to the targets of all calls in it, counted from its first
byte."""


def _signed(values: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Return numbers of ``bits`` bits, of which the highest is the sign."""
    return np.asarray(values - ((values >> bits - 1) << bits))


def _words(code: NDArray[np.uint8], byte_order: str) -> NDArray[np.uint32]:
    return code[: len(code) // 4 * 4].view(f"{byte_order}u4")


def _x86(code: NDArray[np.uint8], byte_order: str, start: int) -> NDArray[np.int64]:
    """Return the targets of ``call rel32``.

    E8, and the distance from the next instruction (Intel SDM, volume 2).
    """
    places = np.flatnonzero(code[:-5] == 0xE8)
    distances = np.ndarray(len(code) - 3, "<i4", code, strides=(1,))[places + 1]
    return np.asarray(places + 5 + distances.astype(np.int64))


def _arm64(code: NDArray[np.uint8], byte_order: str, start: int) -> NDArray[np.int64]:
    """Return the targets of ``bl``.

    100101, and a distance in words (Arm ARM, C6.2); instructions are always little-endian.
    """
    words = _words(code, "<")
    places = np.flatnonzero(words >> np.uint32(26) == 0x25)
    return 4 * (places + _signed((words[places] & np.uint32(0x3FFFFFF)).astype(np.int64), 26))


def _arm(code: NDArray[np.uint8], byte_order: str, start: int) -> NDArray[np.int64]:
    """Return the targets of the ``bl`` of the A32 set that is always executed.

    EB, and a distance in words from the instruction after the next.
    """
    words = _words(code, byte_order)
    places = np.flatnonzero(words >> np.uint32(24) == 0xEB)
    return 4 * (places + 2 + _signed((words[places] & np.uint32(0xFFFFFF)).astype(np.int64), 24))


def _mips(code: NDArray[np.uint8], byte_order: str, start: int) -> NDArray[np.int64]:
    """Return the targets of ``jal``.

    000011, and the address in words inside of the 256 MiB that the next instruction is in.
    """
    words = _words(code, byte_order)
    places = np.flatnonzero(words >> np.uint32(26) == 3)
    inside = start & (1 << 28) - 1
    region = inside + 4 * places + 4 >> 28 << 28
    return region - inside + 4 * (words[places] & np.uint32(0x3FFFFFF)).astype(np.int64)


def _ppc(code: NDArray[np.uint8], byte_order: str, start: int) -> NDArray[np.int64]:
    """Return the targets of ``bl``.

    010010, a distance in words, not absolute, and the link bit (Power ISA, 2.4).
    """
    words = _words(code, byte_order)
    places = np.flatnonzero((words >> np.uint32(26) == 18) & (words & np.uint32(3) == 1))
    return 4 * places + _signed((words[places] & np.uint32(0x3FFFFFC)).astype(np.int64), 26)


def _s390x(code: NDArray[np.uint8], byte_order: str, start: int) -> NDArray[np.int64]:
    """Return the targets of ``brasl``.

    C0x5, and a distance in halfwords (z/Architecture Principles of Operation, chapter 7).
    """
    halves = code[: len(code) // 2 * 2].view(">u2")
    places = np.flatnonzero(halves[:-2] & np.uint16(0xFF0F) == 0xC005)
    distances = halves[places + 1].astype(np.int64) << 16 | halves[places + 2].astype(np.int64)
    return 2 * (places + _signed(distances, 32))


def _loongarch(code: NDArray[np.uint8], byte_order: str, start: int) -> NDArray[np.int64]:
    """Return the targets of ``bl``.

    010101, and a distance in words whose upper ten bits come last (LoongArch Reference Manual, 2.2.5).
    """
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
"""The functions that find calls, by the names of architectures."""

MIN_CODE = 8
"""Lowest number of bytes of code that can contain a call."""

UNITS: Mapping[str, int] = {"arm64": 4, "mips": 4, "mips64": 4, "ppc64": 4, "s390x": 2, "loongarch64": 4}
"""Alignment of instructions, and so of functions, in bytes, where it is more than one."""


def call_targets(
    architecture: str, code: NDArray[np.uint8], byte_order: str, start: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the targets of calls inside of some code, and the calls of each.

    Targets are offsets in the code, ascending; for each there is the number of its calls.

    Args:
        architecture: an architecture of `CALLS`.
        code: all of the code, shape (n,), uint8, contiguous.
        byte_order: ``"<"`` or ``">"``.
        start: its address.
    """
    if len(code) < MIN_CODE:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    targets = CALLS[architecture](code, byte_order, start)
    targets = np.sort(targets[(targets >= 0) & (targets < len(code))])
    first = np.flatnonzero(np.concatenate(([True], targets[1:] != targets[:-1]))[: len(targets)])
    return targets[first], np.diff(np.append(first, len(targets)))
