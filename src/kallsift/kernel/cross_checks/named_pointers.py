"""Compare words of structures with the structures' names: they point to symbols that are named alike.

The word of a structure that does so is measured: it is the one that points to such a name most often. Exceptions are
reported only if a changed name or address explains them, because a structure may be in memory that the kernel freed
when it had booted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.evidence import CheckId
from kallsift.kernel.cross_checks.at_addresses import ALIASES
from kallsift.kernel.cross_checks.findings import Finding
from kallsift.kernel.cross_checks.name_keys import PREFIXES, Names, is_among
from kallsift.kernel.cross_checks.named_structures import HOLDERS, MAX_LOOKED_AT, MIN_MEMBERS, Holder, Inquiry
from kallsift.kernel.cross_checks.named_texts import are_texts, judge_texts
from kallsift.kernel.cross_checks.near_names import is_one_code_apart
from kallsift.kernel.placement.placement import Placement
from kallsift.memory.memory import Memory

MAX_EXCEPTIONS = 0.01
"""Highest share of the structures that may be exceptions if all should point where their names say."""

SAMPLE = 32
"""Number of structures by which the word is measured."""

MIN_SAMPLE_SHARE = 0.25
"""Lowest share of these in which the word points to the right name."""

FIELDS = 16
"""Number of words of a structure that are compared."""

MAX_GAP = 256
"""Highest distance in bytes before and behind its address at which a structure is searched."""


@dataclass(frozen=True, eq=False)
class _Led:
    """One word of all structures of a kind, and its targets.

    Attributes:
        holder: the kind.
        target: beginning of the names that the word should point to.
        members: indices of the structures' symbols, shape (m,).
        offset: bytes from the beginning of a structure to its word.
        values: the words, shape (m,), uint64.
        keys: keys of the names that they should point to.
        there: index of the first symbol that each word points to, -1 where none is.
        index: index of the symbol with the right name there, -1 where none has it.
    """

    holder: Holder
    target: bytes
    members: NDArray[np.int64]
    offset: int
    values: NDArray[np.uint64]
    keys: NDArray[np.uint64]
    there: NDArray[np.int64]
    index: NDArray[np.int64]


def pointer_finding(memory: Memory, placement: Placement, names: Names) -> Finding:
    """Compare the targets of words in named structures with the structures' names."""
    inquiry = Inquiry(memory, placement, names, np.zeros(len(placement.symbols), np.bool_), [])
    for holder in HOLDERS:
        members = names.members(holder.prefix)
        if len(members) >= MIN_MEMBERS:
            _ask(inquiry, holder, members)
    confirmed, broken = inquiry.confirmed, inquiry.broken
    if not confirmed.any():
        return Finding.none(CheckId.NAMED_POINTERS, len(confirmed), "no structures lead to what is called as they are")
    count = len({index for index, _ in broken})
    return Finding(CheckId.NAMED_POINTERS, confirmed, confirmed, count, min(broken, default=(0, ""))[1])


def _ask(inquiry: Inquiry, holder: Holder, members: NDArray[np.int64]) -> None:
    """Compare all structures of a kind with the targets of their words."""
    addresses, size = inquiry.placement.symbols.addresses, inquiry.placement.words.size
    sample = members[np.linspace(0, len(members) - 1, min(SAMPLE, len(members))).astype(np.int64)]
    steps = np.arange(FIELDS, dtype=np.uint64) * np.uint64(size)
    values = inquiry.words((addresses[sample, None] + steps).ravel())
    there = inquiry.first_at(values)
    for target in holder.targets:
        offset = _most(inquiry.named_at(there, np.repeat(inquiry.wanted(sample, target), FIELDS)) >= 0, size)
        if offset is not None:
            words, keys = inquiry.words(addresses[members] + np.uint64(offset)), inquiry.wanted(members, target)
            first = inquiry.first_at(words)
            _judge(inquiry, _Led(holder, target, members, offset, words, keys, first, inquiry.named_at(first, keys)))
    if holder.before_text is not None:
        offset = _most(are_texts(inquiry, holder, values, np.repeat(sample, FIELDS)), size)
        if offset is not None:
            judge_texts(inquiry, holder, members, inquiry.words(addresses[members] + np.uint64(offset)))


def _most(right: NDArray[np.bool_], size: int) -> int | None:
    """Return the offset of the word that is right in most structures of a sample.

    None if it is right in too few.
    """
    hits = np.count_nonzero(right.reshape(-1, FIELDS), axis=0)
    return size * int(hits.argmax()) if hits.max() >= MIN_SAMPLE_SHARE * (len(right) // FIELDS) else None


def _judge(inquiry: Inquiry, led: _Led) -> None:
    """Record what the words confirm, and the exceptions that a change explains.

    The change is one of a name or an address.
    """
    agree = led.index >= 0
    if np.count_nonzero(agree) < MIN_MEMBERS:
        return
    inquiry.confirmed[led.members[agree]] = inquiry.confirmed[led.index[agree]] = True
    wrong = np.flatnonzero(~agree)
    most = max(1, MAX_EXCEPTIONS * np.count_nonzero(agree))
    if np.count_nonzero(led.values[wrong] == 0) > most:
        # in some structures of this kind the word is NULL
        wrong = wrong[led.values[wrong] > 0]
    is_strict = len(wrong) <= most
    if not is_strict:
        wrong = wrong[_is_likely(inquiry, led, wrong)]
    broken = []
    for number in wrong[:MAX_LOOKED_AT].tolist():
        name = inquiry.table.string(int(led.members[number]))
        wanted = led.target + name.removeprefix(led.holder.prefix)
        # a target that is right for another structure is not a changed target of this one
        is_shared = bool((led.values[agree] == led.values[number]).any())
        problem = "" if is_shared else _problem(inquiry, led, number, wanted, is_strict=is_strict)
        if not problem and is_strict and (place := _moved(inquiry, led, number)) is not None:
            problem = f"is at {place:#x}"
        if problem:
            broken.append((int(led.members[number]), f"{_shown(name)} {problem}"))
    if len(broken) <= most:
        inquiry.broken.extend(broken)


def _is_likely(inquiry: Inquiry, led: _Led, wrong: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which exceptions are likely to be changes; shape (n,).

    They point to a name of the right kind, or beside the right name.
    """
    table, last = inquiry.table, len(inquiry.confirmed) - 1
    there = led.there[wrong]
    family = PREFIXES.index(led.target) + 1 if led.target else 0
    is_of_kind = (there >= 0) & (table.family[np.maximum(there, 0)] == family)
    behind = np.searchsorted(inquiry.placement.symbols.addresses, led.values[wrong])
    keys = led.keys[wrong]
    is_beside = (table.keys[np.maximum(behind - 1, 0)] == keys) | (table.keys[np.minimum(behind, last)] == keys)
    return np.asarray(is_of_kind | is_beside)


def _problem(inquiry: Inquiry, led: _Led, number: int, wanted: bytes, *, is_strict: bool) -> str:
    """Return a clause on a word's target if a change of the target explains it.

    The change is one of the target's name or address. Empty if none does.

    Args:
        inquiry: the kernel.
        led: all words of the kind.
        number: number of the exception.
        wanted: the name that it should point to.
        is_strict: whether hardly any of the others are exceptions.
    """
    symbols, value = inquiry.placement.symbols, int(led.values[number])
    first, behind = (int(np.searchsorted(symbols.addresses, np.uint64(value), side)) for side in ("left", "right"))
    for other in range(first, min(behind, first + ALIASES)):
        name = inquiry.table.string(other)
        if is_one_code_apart(name, wanted) or (is_strict and led.target and name.startswith(led.target)):
            return f"leads to {_shown(name)}"
    if behind > first:
        return ""
    for other in (first - 1, first):
        if 0 <= other < len(symbols) and inquiry.table.string(other) == wanted:
            return f"leads to {value:#x}, where {_shown(wanted)} is not"
    return ""


def _moved(inquiry: Inquiry, led: _Led, number: int) -> int | None:
    """Return the address of a structure that is not where the table says, or None.

    It is searched between its neighbours.
    """
    symbols, index = inquiry.placement.symbols, int(led.members[number])
    key = led.keys[number : number + 1]
    if not is_among(key, inquiry.table.ascending)[0]:
        # a symbol at the beginning of an array is not named after the array's first structure
        return None
    target = np.flatnonzero(inquiry.table.keys == key)
    address = int(symbols.addresses[index])
    low = max(address - MAX_GAP, int(symbols.addresses[max(index - 1, 0)]))
    high = min(address + MAX_GAP, int(symbols.addresses[min(index + 1, len(symbols) - 1)]))
    places = np.uint64(low) + np.arange(high + 1 - low, dtype=np.uint64)
    found = np.flatnonzero(inquiry.words(places + np.uint64(led.offset)) == symbols.addresses[target[0]])
    return int(places[found[0]]) if len(found) else None


def _shown(name: bytes) -> str:
    return name.decode("latin-1")
