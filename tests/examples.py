"""How many examples of a property are tried: all where the whole suite runs, some of them every day."""

from __future__ import annotations

import os

SHARE = 5
"""One of so many examples is tried every day."""

EVERYDAY_EXAMPLES = 100 // SHARE
"""Of properties that do not say how many; hypothesis tries 100."""


def is_complete() -> bool:
    """Tell whether the whole suite runs, and nothing may be lacking (``make test``)."""
    return bool(os.environ.get("KALLSIFT_COMPLETE"))


def examples(count: int) -> int:
    """Return how many examples are tried of a property that needs ``count`` where the whole suite runs."""
    return count if is_complete() else max(count // SHARE, 1)
