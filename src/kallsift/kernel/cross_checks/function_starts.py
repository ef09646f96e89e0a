"""Compare function starts with the symbols: at an address that the code calls more than once, there must be a symbol.

If there is none, and the next symbol before or behind it that nothing calls is a power of two away, one bit of that
symbol's address was changed. A function that ftrace's list or the table to unwind the stack has needs one call only.
One of ftrace's needs none if it is aligned as all functions are and the symbol beside it is not. No function begins
between two instructions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import distinct, is_in_ascending
from kallsift.errors import UnmappedError
from kallsift.kallsyms.evidence import CheckId
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.cross_checks.call_targets import CALLS, UNITS, call_targets
from kallsift.kernel.cross_checks.findings import Finding
from kallsift.kernel.cross_checks.ftrace_sites import traced_functions
from kallsift.kernel.cross_checks.known_functions import KnownFunctions
from kallsift.kernel.cross_checks.name_keys import Names
from kallsift.kernel.cross_checks.unwound_functions import unwound_functions
from kallsift.kernel.placement.placement import Placement
from kallsift.memory.memory import Memory

MIN_CALLS = 2
"""Lowest number of calls that show a function: bytes that only look like calls hardly ever have the same target
twice."""

MIN_TARGETS = 128
"""Lowest number of functions with so many calls; with fewer, the code is not read rightly."""

MAX_EXCEPTIONS = 0.01
"""Highest share of them without a symbol; with more, calls are taken to lead elsewhere, as to local entries (ppc64)."""

TEXT = np.frombuffer(b"tTwW", np.uint8)
"""Letters of functions."""

PADDED = 1.25
"""Highest ratio of the symbols in the code to those that padding confirms at which calls need not be read."""

MAX_TEXT = 96 << 20
"""Highest size of the code in bytes."""


def start_finding(memory: Memory, placement: Placement, names: Names, confirmed: NDArray[np.bool_]) -> Finding:
    """Compare the targets of calls with the addresses of symbols.

    Args:
        memory: the memory with the kernel's image.
        placement: its placement, with the symbols.
        names: names of the symbols.
        confirmed: shape (n,), bool; the addresses that padding confirms.
    """
    symbols = placement.symbols
    architecture = _architecture(memory, placement)
    low, high = names.find(b"_stext"), names.find(b"_etext")
    if low is None or high is None:
        return _nothing(symbols, "no symbols bound this kernel's code")
    start, stop = int(symbols.addresses[low]), int(symbols.addresses[high])
    first, last = np.searchsorted(symbols.addresses, np.array([start, stop], np.uint64)).tolist()
    if PADDED * np.count_nonzero(confirmed[first:last]) > last - first:
        return _nothing(symbols, "not looked for: padding tells where functions are")
    offsets = (symbols.addresses[first:last] - np.uint64(start)).astype(np.int64)
    try:
        targets, starts = _called(memory, placement, architecture, (start, stop), offsets)
    except UnmappedError:
        return _nothing(symbols, "the kernel's code is not there as a whole")
    traced, unwound = (
        find(memory, placement, names, (start, stop), offsets) for find in (traced_functions, unwound_functions)
    )
    functions = traced.with_others(unwound)
    if not len(starts) and not len(functions.named):
        return _nothing(symbols, "neither calls nor lists tell where this kernel's functions begin")
    called = np.zeros(len(symbols), np.bool_)
    called[first:last] = is_in_ascending(offsets, starts) | is_in_ascending(offsets, functions.named)
    # where a list has a function, one call is enough
    called_once = functions.unnamed[is_in_ascending(functions.unnamed, targets)]
    missing = distinct(np.concatenate((starts[~is_in_ascending(starts, offsets)], called_once)))
    known = distinct(np.concatenate((targets, functions.named)))
    moved = [(index, f"called at {start + target:#x}") for index, target in _moved(offsets, known, missing)]
    moved += [
        (index, f"beside a function at {start + begin:#x}")
        for index, begin in _misaligned(offsets, names.cold - first, traced)
    ]
    details = [(first + index, f"{_name(names, first + index)} is {what}") for index, what in moved]
    details += [
        (index, f"{_name(names, index)} at {symbols.addresses[index]:#x} is between two instructions")
        for index in _between_instructions(placement, first, last, UNITS.get(architecture, 1)).tolist()
    ]
    count, first_detail = len({index for index, _ in details}), min(details, default=(0, ""))[1]
    nothing = np.zeros(len(symbols), np.bool_)
    return Finding(CheckId.FUNCTION_STARTS, nothing, called, count, first_detail)


def _called(
    memory: Memory, placement: Placement, architecture: str, code: tuple[int, int], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the targets of calls, and those that are functions; none if the code is not read rightly.

    Both are offsets in the code, ascending.

    Raises:
        UnmappedError: if the code is not there.
    """
    nothing = np.empty(0, np.int64)
    start, size = code[0], code[1] - code[0]
    if not 0 < size <= MAX_TEXT:
        raise UnmappedError(start, 1)
    data = np.ascontiguousarray(memory.read(placement.physical(start), size))
    if architecture not in CALLS:
        return nothing, nothing
    targets, calls = call_targets(architecture, data, placement.words.byte_order, start)
    starts = targets[calls >= MIN_CALLS]
    missing = np.count_nonzero(~is_in_ascending(starts, offsets))
    if len(starts) < MIN_TARGETS or missing > MAX_EXCEPTIONS * len(starts):
        return nothing, nothing
    return targets, starts


def _architecture(memory: Memory, placement: Placement) -> str:
    """Return the architecture of a kernel; empty if it is not known."""
    if placement.mapping is not None:
        return placement.mapping.architecture
    return (memory.image.architecture if memory.image is not None else None) or ""


def _nothing(symbols: SymbolTable, why: str) -> Finding:
    return Finding.none(CheckId.FUNCTION_STARTS, len(symbols), why)


def _name(names: Names, index: int) -> str:
    return names.string(index).decode("latin-1")


def _between_instructions(placement: Placement, first: int, last: int, unit: int) -> NDArray[np.int64]:
    """Return the functions among some symbols at which no instruction can begin.

    None are returned where many are so.
    """
    symbols = placement.symbols
    functions = np.isin(symbols.types()[first:last], TEXT)
    odd = functions & (symbols.addresses[first:last] % np.uint64(unit) > 0)
    if np.count_nonzero(odd) > MAX_EXCEPTIONS * np.count_nonzero(functions):
        return np.empty(0, np.int64)
    return np.flatnonzero(odd) + first


def _misaligned(offsets: NDArray[np.int64], parts: NDArray[np.int64], traced: KnownFunctions) -> list[tuple[int, int]]:
    """Return misaligned symbols that are one bit away from functions without a symbol.

    Each comes with the offset of the function.

    Args:
        offsets: offsets of the symbols, ascending.
        parts: indices of symbols that are no functions but parts of functions.
        traced: the functions that ftrace has.
    """
    size = traced.alignment
    unnamed = traced.unnamed[traced.unnamed % size == 0]
    found = []
    for step in (-1, 0):
        index = np.clip(np.searchsorted(offsets, unnamed) + step, 0, len(offsets) - 1)
        distance = np.abs(offsets[index] - unnamed)
        near = (offsets[index] % size > 0) & (distance < size) & (distance & (distance - 1) == 0)
        near &= ~is_in_ascending(index, parts)
        found += list(zip(index[near].tolist(), unnamed[near].tolist(), strict=True))
    return found


def _moved(offsets: NDArray[np.int64], known: NDArray[np.int64], missing: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return symbols of no known function that are one bit away from called addresses.

    These addresses have no symbol; each symbol comes with the address, as an offset.

    Args:
        offsets: offsets of the symbols, ascending.
        known: targets of calls, and functions with a symbol that lists have, ascending.
        missing: functions without a symbol.
    """
    found = []
    for target in missing.tolist():
        behind = int(np.searchsorted(offsets, target))
        for index in (behind - 1, behind):
            if not 0 <= index < len(offsets):
                continue
            distance = abs(int(offsets[index]) - target)
            place = int(np.searchsorted(known, offsets[index]))
            is_known = place < len(known) and known[place] == offsets[index]
            if not is_known and not distance & (distance - 1):
                found.append((index, target))
                break
    return found
