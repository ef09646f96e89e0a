"""The examples in Python of the pages for users, run one after the other as a reader would type them."""

from __future__ import annotations

import re
from contextlib import chdir
from pathlib import Path
from textwrap import dedent
from typing import Any

ROOT = Path(__file__).parents[1]

PYTHON = re.compile(r"^( *)```python\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def python_of(text: str) -> list[str]:
    """Return the examples in Python of a page."""
    return [dedent(code) for _, code in PYTHON.findall(text)]


def run_examples(page: str, folder: Path, names: dict[str, Any], end: str = "\0") -> dict[str, Any]:
    """Run the examples of a page in a folder that has the files which they open.

    Args:
        page: its path in the repository.
        folder: where they run.
        names: what the page takes for granted.
        end: text on the page, behind which its examples are left out.

    Returns:
        All names that the examples leave behind.
    """
    text = (ROOT / page).read_text("utf-8").partition(end)[0]
    with chdir(folder):
        for number, code in enumerate(python_of(text)):
            exec(compile(code, f"{page}, example {number}", "exec"), names)
    return names


def link_all(target: Path, folder: Path, *files: str) -> None:
    """Give a file the names that examples call it by."""
    for file in files:
        (folder / file).symlink_to(target)
