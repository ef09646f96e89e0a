"""Import optional packages once, because the search for a missing one is slow."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

ZSTD = ("compression.zstd", "backports.zstd")
"""Modules for zstd: Python's own since 3.14, and that of a package for older versions."""

PACKAGES = {"lz4.frame": "lz4", "lz4.block": "lz4", "pyfwnt": "libfwnt-python"}
"""Names of packages that differ from their module's."""


class MissingPackageError(Exception):
    """An optional package is not installed; the text is its name."""


@cache
def optional_package(*modules: str) -> Any:
    """Return the first of some modules that is installed.

    Raises:
        MissingPackageError: if none is; the text names the package of the last one.
    """
    for module in modules:
        try:
            return import_module(module)
        except ImportError as error:
            missing = error
    raise MissingPackageError(PACKAGES.get(modules[-1], modules[-1])) from missing
