"""Walk the kernel's circular lists (``struct list_head``) with bounds, and find lists whose heads no symbol names."""

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
"""Number of list heads that are followed at once."""


BELOW_LINEAR = 64 << 20
"""Highest distance in bytes of modules below the linear map of 32-bit kernels; on arm it is 16 MiB."""


MOSTLY = 4
"""Lowest ratio of good members to bad ones in a list that is accepted although some members are damaged."""

MANY = 64
"""Number of members from which on a circle is refused for all its nodes: then it hardly matters which node is the
head."""

MAX_MEMBERS = 1 << 16
"""Highest number of members of a list."""

DATA = "init_task"
"""Data symbol of every kernel: shows whether a table has data symbols at all."""


class ListError(KallsiftError):
    """Raised where a list leads nowhere, or its links do not agree."""


@dataclass(frozen=True, eq=False)
class ListMembers:
    """The members of a list.

    Attributes:
        nodes: addresses of their links, in the list's order, shape (n,), uint64.
        problems: the faults of the list, a line each.
    """

    nodes: NDArray[np.uint64]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class ListMatcher:
    """The tests that recognise a list where the kernel's table has text symbols only.

    Attributes:
        first: tells which addresses, shape (n,), can be those of such a list's first member.
        member: tells whether an address is that of a member.
        together: tells whether addresses, shape (n,), can be all members; it is called last.
    """

    first: Callable[[NDArray[np.uint64]], NDArray[np.bool_]]
    member: Callable[[int], bool]
    together: Callable[[NDArray[np.uint64]], bool] = lambda _nodes: True


def members(memory: VirtualMemory, head: int, most: int) -> NDArray[np.uint64]:
    """Return the addresses of a list's members; shape (n,), uint64.

    The links of each member must agree both ways.

    Raises:
        ListError: if links do not agree, or there are more than ``most`` members.
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
        raise ListError(f"the list at {head:#x} is broken after its last member, at {before:#x}")
    return np.array(nodes, np.uint64)


def reachable(memory: VirtualMemory, head: int, most: int) -> ListMembers:
    """Return the members of a list; of a broken one, those reachable from either end.

    If one member, or one link, is damaged, these are all other members.

    Raises:
        ListError: if there are more than ``most`` members.
    """
    size = memory.words.size
    try:
        return ListMembers(members(memory, head, most))
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
    line = f"{problem}; it was read from both ends, so members between them can be missing"
    return ListMembers(np.array([*ahead, *(node for node in behind if node not in known)], np.uint64), (line,))


def _link(memory: VirtualMemory, address: int) -> int:
    try:
        return memory.value(address)
    except UnmappedError as error:
        raise ListError(f"a list points to {address:#x}, which is not mapped") from error


def _lowest(kernel: Kernel) -> int:
    """Return the lowest address that the kernel's own memory can have.

    In 32-bit kernels, modules lie below the linear map.
    """
    if kernel.symbols.word_size == 8:
        return kernel.tables[0].virtual >> 63 << 63
    linear = kernel.memory.segments[0].start + kernel.distance & 0xFFFF_FFFF
    return max(0, linear - BELOW_LINEAR)


def heads_of_image(kernel: Kernel, memory: VirtualMemory) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.uint64]]]:
    """Yield the list heads in the image whose first member points back at them.

    These are the heads of lists that are not empty, and few other things.

    Yields:
        Addresses of heads and of their first members, shapes (n,) and (n,), in batches.
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


def list_named(kernel: Kernel, memory: VirtualMemory, symbol: str, recognition: ListMatcher) -> ListMembers:
    """Return the members of the list that a symbol names.

    Without the symbol, the list is recognised if the table has no data symbols. The result is empty if the kernel has
    no such list.

    Raises:
        ListError: if it has more members than `MAX_MEMBERS`.
    """
    index = kernel.symbols.find(symbol)
    if index is not None:
        return reachable(memory, kernel.symbols.symbol(index).address, MAX_MEMBERS)
    nowhere = ListMembers(np.empty(0, np.uint64))
    return nowhere if DATA in kernel.symbols else recognised(kernel, memory, recognition, MAX_MEMBERS) or nowhere


def recognised(kernel: Kernel, memory: VirtualMemory, recognition: ListMatcher, most: int) -> ListMembers | None:
    """Return the first list of the image that is recognised as a whole.

    Otherwise the list with most good members is returned, if they are enough; None where no list looks like it. A list
    that is empty is never found.
    """
    best: tuple[int, ListMembers] | None = None
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
