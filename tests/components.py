"""Programs that tests need: a test without one is skipped, but where all must be there it fails (make test)."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def lacking(what: str) -> NoReturn:
    """Ends a test that lacks something; ``KALLSIFT_COMPLETE`` says that nothing may be lacking."""
    if os.environ.get("KALLSIFT_COMPLETE"):
        pytest.fail(what)
    pytest.skip(what)


def needs(*programs: str, package: str = "") -> None:
    """Ends a test whose programs are not installed.

    Args:
        programs: names of commands.
        package: what has them, if it is called otherwise.
    """
    for name in programs:
        if not shutil.which(name):
            lacking(f"{name} is missing: apt-get install {package or name}")
