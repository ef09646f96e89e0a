"""The kernel's circular lists (``struct list_head``): walked with bounds, found where no symbol names their heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import KallsiftError, UnmappedError
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.kernel import Kernel
from kallsift.kernel.placement.pointers import AFTER, BEFORE, list_heads

BATCH = 1 << 14
"""Heads of lists that are followed at once."""


BELOW_LINEAR = 64 << 20
"""How far below the linear map of 32-bit kernels their modules can lie, in bytes; on arm it is 16 MiB."""


MOSTLY = 4
"""For each member of a list that is not as it should be there are at least so many that are, where some are damaged."""

MANY = 64
"""Members from which on it decides nothing which one of all in a circle is taken for the head."""

MAX_MEMBERS = 1 << 16
"""Members of a list at most."""

DATA = "init_task"
"""Data of every kernel: whether a table names data at all."""


class ListError(KallsiftError):
    """A list leads nowhere, or its links do not agree."""


@dataclass(frozen=True, eq=False)
class Found:
    """A list's members.

    Attributes:
        nodes: addresses of their links, in the list's order, shape (n,), uint64.
        problems: what is wrong with the list, a line each.
    """

    nodes: NDArray[np.uint64]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recognition:
    """What a list is recognised by where the kernel's table names only its text.

    Attributes:
        first: which addresses, shape (n,), can be of such a list's first member.
        member: whether one is of a member.
        together: whether these, shape (n,), can be all members; asked last.
    """

    first: Callable[[NDArray[np.uint64]], NDArray[np.bool_]]
    member: Callable[[int], bool]
    together: Callable[[NDArray[np.uint64]], bool] = lambda _nodes: True


def members(memory: VirtualMemory, head: int, most: int) -> NDArray[np.uint64]:
    """The addresses of a list's members, whose links must agree both ways; shape (n,), uint64.

    Raises:
        ListError: if they do not, or there are more than ``most``.
    """
    nodes: list[int] = []
    size = memory.words.size
    before, node = head, _link(memory, head)
    while node != head:
        if len(nodes) == most:
            raise ListError(f"the list at {head:#x} has more than {most:,} members")
        if _link(memory, node + size) != before:
            raise ListError(f"the list at {head:#x} is broken after {len(nodes)} members, at {node:#x}")
        nodes.append(node)
        before, node = node, _link(memory, node)
    if _link(memory, head + size) != before:
        raise ListError(f"the list at {head:#x} is broken behind its last member, at {before:#x}")
    return np.array(nodes, np.uint64)


def reachable(memory: VirtualMemory, head: int, most: int) -> Found:
    """The members of a list; of a broken one, those that links lead to from either end.

    Where one member is damaged, or the way past it, these are all others.

    Raises:
        ListError: if there are more than ``most``.
    """
    size = memory.words.size
    try:
        return Found(members(memory, head, most))
    except ListError as error:
        problem = str(error)
    found = []
    for forth, back in ((0, size), (size, 0)):
        nodes, before = list[int](), head
        while len(nodes) < most:
            try:
                node = _link(memory, before + forth)
                if node == head or _link(memory, node + back) != before:
                    break
            except ListError:
                break
            nodes.append(node)
            before = node
        found.append(nodes)
    ahead, behind = found[0], list(reversed(found[1]))
    if len(ahead) + len(behind) > most:
        raise ListError(problem)
    known = set(ahead)
    line = f"{problem}; read from both ends, so that what stands between them is not known"
    return Found(np.array([*ahead, *(node for node in behind if node not in known)], np.uint64), (line,))


def _link(memory: VirtualMemory, address: int) -> int:
    try:
        return memory.value(address)
    except UnmappedError as error:
        raise ListError(f"a list leads to {address:#x}, which is not mapped") from error


def _lowest(kernel: Kernel) -> int:
    """The lowest address that the kernel's own memory can have; of 32 bits, modules lie below the linear map."""
    if kernel.symbols.word_size == 8:
        return kernel.tables[0].virtual >> 63 << 63
    linear = kernel.memory.segments[0].start + kernel.distance & 0xFFFF_FFFF
    return max(0, linear - BELOW_LINEAR)


def heads_of_image(kernel: Kernel, memory: VirtualMemory) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.uint64]]]:
    """Heads in the image whose first member points back at them: of lists that are not empty, and of few things else.

    Yields:
        Addresses of heads and of their first members, shapes (n,) and (n,), some at a time.
    """
    words = memory.words
    window = kernel.memory.around(kernel.tables[0].physical, BEFORE, AFTER)
    heads = list_heads(window, words, range(0, 0), range(_lowest(kernel), words.mask + 1))
    for batch in range(0, len(heads.places), BATCH):
        values = heads.values[batch : batch + BATCH]
        own = words.wrap(heads.places[batch : batch + BATCH] + np.uint64(kernel.distance))
        back, held = memory.values(values + np.uint64(words.size))
        chosen = np.flatnonzero(held & (back == own) & (values != own))
        yield own[chosen], values[chosen]


def list_named(kernel: Kernel, memory: VirtualMemory, symbol: str, recognition: Recognition) -> Found:
    """The members of the list that a symbol names; none where the kernel has no such list.

    Raises:
        ListError: if it has more members than any.
    """
    index = kernel.symbols.find(symbol)
    if index is not None:
        return reachable(memory, kernel.symbols.symbol(index).address, MAX_MEMBERS)
    nowhere = Found(np.empty(0, np.uint64))
    return nowhere if DATA in kernel.symbols else recognised(kernel, memory, recognition, MAX_MEMBERS) or nowhere


def recognised(kernel: Kernel, memory: VirtualMemory, recognition: Recognition, most: int) -> Found | None:
    """The first list of the image that is recognised, else the one that mostly is; None where nothing looks like it.

    Nor is one found that is empty.
    """
    best: tuple[int, Found] | None = None
    refused: set[int] = set()
    for heads, firsts in heads_of_image(kernel, memory):
        for head in heads[recognition.first(firsts)].tolist():
            if head in refused:
                continue
            try:
                found = reachable(memory, head, most)
            except ListError:
                continue
            good = sum(recognition.member(node) for node in found.nodes.tolist())
            whole = good == len(found.nodes) and not found.problems
            enough = good >= MOSTLY * max(1, len(found.nodes) - good) and (best is None or good > best[0])
            if (whole or enough) and recognition.together(found.nodes):
                if whole:
                    return found
                best = good, found
            elif len(found.nodes) >= MANY and not found.problems:
                refused |= {*found.nodes.tolist()}
    return best[1] if best else None
