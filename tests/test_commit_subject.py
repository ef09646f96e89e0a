"""The hook that holds commit subjects to 72 characters."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HOOK = Path(__file__).parents[1] / ".ci" / "commit-subject"


@pytest.mark.parametrize(
    ("message", "is_accepted"),
    [
        ("x" * 72 + "\n\nand why\n", True),
        ("\n# a comment of git\nRead LiME dumps\n", True),
        ("ä" * 72, True),
        ("x" * 73, False),
        ("\n# nothing but a comment\n", False),
    ],
)
def test_length_of_the_subject(message: str, is_accepted: bool, tmp_path: Path) -> None:
    path = tmp_path / "message"
    path.write_text(message, "utf-8")
    done = subprocess.run([sys.executable, str(HOOK), str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is is_accepted
    assert done.stderr.startswith("the subject has") is not is_accepted
