"""Import optional packages once: to look for a module that is not installed takes as long as to unpack many streams."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

ZSTD = ("compression.zstd", "backports.zstd")
"""Python 3.14 has what the package brings to those before it."""


@cache
def optional_package(*modules: str) -> Any:
    """Return the first of some modules that is installed.

    Raises:
        ImportError: if none is.
    """
    *others, last = modules
    for module in others:
        try:
            return import_module(module)
        except ImportError:
            continue
    return import_module(last)
