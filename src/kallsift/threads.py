"""Work on pieces of arrays in threads: NumPy releases the GIL meanwhile."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2
"""Results that wait to be taken, for each processor: so many are in memory at once."""


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield a function's result for each item in order, computed some items ahead."""
    processors = os.cpu_count() or 1
    rest = iter(items)
    first = list(islice(rest, 2))
    if len(first) < 2 or processors == 1:
        yield from map(function, chain(first, rest))
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(processors) as threads:
        for item in chain(first, rest):
            waiting.append(threads.submit(function, item))
            if len(waiting) > AHEAD * processors:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
