"""Import optional packages once: to look for a module that is not installed takes as long as to unpack many streams."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

ZSTD = ("compression.zstd", "backports.zstd")
"""Python 3.14 has what the package brings to those before it."""

PACKAGES = {"lz4.frame": "lz4", "lz4.block": "lz4", "pyfwnt": "libfwnt-python"}
"""What brings a module, where that is called otherwise."""


class MissingPackageError(Exception):
    """An optional package is not installed; the text is its name."""


@cache
def optional_package(*modules: str) -> Any:
    """Return the first of some modules that is installed.

    Raises:
        MissingPackageError: if none is; names what brings the last one.
    """
    for module in modules:
        try:
            return import_module(module)
        except ImportError as error:
            missing = error
    raise MissingPackageError(PACKAGES.get(modules[-1], modules[-1])) from missing
