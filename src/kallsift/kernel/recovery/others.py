"""Find other kernels of a source beside the first proven one: those that could be the running one, and their number.

Nothing here searches all of the source, so it costs little beside a recovery.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from kallsift.kallsyms.format.token_table import MAX_TABLE, TokenTable, token_tables
from kallsift.kallsyms.recovered_tables import Attempt
from kallsift.kallsyms.solvers.adjacent import token_rows
from kallsift.kallsyms.token_scan import digit_runs
from kallsift.kernel.kernel import Kernel, Role, State
from kallsift.kernel.recovery.candidates import SharedWork, best_at, surrounded
from kallsift.kernel.recovery.rivals import copies, is_inhabited, settled
from kallsift.kernel.recovery.roles import crash_memory, role_of
from kallsift.memory.memory import Memory
from kallsift.memory.segments import BytesSegment, sorted_segments

NEAR = 2 * MAX_TABLE
"""Bytes below and above its digits that contain a token table with the index behind it."""

MAX_RUNS = 64
"""Highest number of places with all digits that are followed."""

TokenRows = tuple[str, frozenset[tuple[int, int]]]
"""Byte order of a token table and its index, and address and size of each."""


def with_role(kernel: Kernel) -> Kernel:
    """Return a running kernel with its role; return others unchanged."""
    runs = kernel.state is State.RUNNING and kernel.memory.image is None
    return replace(kernel, role=role_of(kernel)) if runs else kernel


def beside_others(kernel: Kernel, met: list[Kernel]) -> Kernel:
    """Return the running kernel, with the states of the other kernels.

    It is chosen from a proven kernel and those that it leads to.

    Args:
        kernel: the first kernel that proved itself.
        met: kernels that were found before, this one included.
    """
    kernel = with_role(kernel)
    places = copies(kernel)
    recovered = {_token_rows(each): each for each in met}
    rivals: list[Kernel] = []
    if kernel.role is Role.PANICKED and (kept := crash_memory(kernel)):
        rivals += _within(kernel.memory, recovered, *kept)
    if kernel.role is not Role.ORDINARY or not is_inhabited(kernel):
        looked_at = {_tokens_of(rival) for rival in rivals}
        for place in places:
            if place not in looked_at:
                rivals += _within(kernel.memory, recovered, place)
    runs, *others = sorted(settled([kernel, *map(with_role, rivals)]), key=lambda each: not each.proven)
    known = {_tokens_of(each): each.state for each in (*met, *others)}
    states = {place: known.get(place) for place in (*known, *places)}
    states.pop(_tokens_of(runs), None)
    return replace(runs, others=tuple(states.values()))


def _tokens_of(kernel: Kernel) -> int:
    """Return the address of a kernel's token table, or of its first table."""
    return next((table for table in kernel.tables if table.name == "token_table"), kernel.tables[0]).physical


def tables_at(memory: Memory, low: int, high: int | None = None) -> Iterator[tuple[BytesSegment, TokenTable]]:
    """Yield the token tables whose digits lie in an address range.

    Each comes with its surroundings. Without ``high``, the range ends where the digits of a table that begins at
    ``low`` can lie at most.
    """
    high = low + NEAR if high is None else high
    parts = [
        BytesSegment(max(low, held.start), held.read(max(0, low - held.start), max(0, high - held.start)))
        for held in memory.between(low, high)
    ]
    for part, runs in digit_runs(replace(memory, segments=sorted_segments(parts))):
        for run in runs[:MAX_RUNS].tolist():
            near = memory.around(part.start + run, NEAR, NEAR)
            for tokens in token_tables(near, part.start + run - near.start):
                yield near, tokens


def _token_rows(kernel: Kernel) -> TokenRows:
    """Return byte order, addresses and sizes of a kernel's token table and index."""
    rows = [(table.physical, table.size) for table in kernel.tables if table.name in ("token_table", "token_index")]
    return kernel.byte_order, frozenset(rows)


def _within(
    memory: Memory, recovered: Mapping[TokenRows, Kernel], low: int, high: int | None = None
) -> Iterator[Kernel]:
    """Yield the kernels of `tables_at` whose tables lie as usual.

    A kernel that was recovered from the same token table before is not recovered again.
    """
    for near, tokens in tables_at(memory, low, high):
        rows = frozenset((near.start + row.offset, row.size) for row in token_rows(tokens))
        kernel = recovered.get((tokens.byte_order, rows))
        if kernel := kernel or best_at(memory, *surrounded(memory, near, tokens), Attempt(), SharedWork()):
            yield kernel
