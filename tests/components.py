"""Programs that tests need: a test without one is skipped, but where all must be there it fails (make test)."""

from __future__ import annotations

import shutil
from typing import NoReturn

import pytest

from tests.examples import is_complete


def lacking(what: str) -> NoReturn:
    """Ends a test that lacks something; where the whole suite runs, nothing may be lacking."""
    if is_complete():
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
