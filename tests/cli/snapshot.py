"""Compare what users see with the text that is kept of it in tests/snapshots.

    KALLSIFT_RENEW_SNAPSHOTS=1 .venv/bin/python -m pytest tests/cli/test_snapshots.py    (make snapshots)

writes these files anew; the commit then shows what changes for users.
"""

from __future__ import annotations

import os
from difflib import unified_diff
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "snapshots"
RENEW = "KALLSIFT_RENEW_SNAPSHOTS"


def check_snapshot(name: str, text: str) -> None:
    """Fail if a text is not what the file of that name holds; write the file if the variable says so."""
    file = FOLDER / name
    if os.environ.get(RENEW):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())
    # bytes, since some texts end their lines with \r\n
    kept = file.read_bytes().decode() if file.is_file() else ""
    change = "".join(unified_diff(kept.splitlines(keepends=True), text.splitlines(keepends=True), "kept", "now"))
    assert kept == text, f"{change}\nif {name} should change: make snapshots"
