"""/proc/modules as a guest printed it, and as its dump tells it."""

from __future__ import annotations

import re

from kallsift.modules.inventory import Inventory
from kallsift.output.text.modules import proc_modules
from tests.lab import Capture


def proc_truth(capture: Capture) -> bytes:
    """Return the guest's ``/proc/modules``, without the port that it was sent out by.

    The guest had a port of virtio_console open, which counts as a use of that module.
    """
    truth = capture.truth("modules")
    if b"LAB-TRUTH-VIA /dev/vport" in (capture.folder / "console.log").read_bytes():
        truth = re.sub(rb"^(virtio_console \d+) 1 ", rb"\1 0 ", truth, flags=re.MULTILINE)
    return truth


def proc_text(loaded: Inventory) -> bytes:
    """Spell the modules of a dump as ``/proc/modules`` does."""
    return "".join(f"{line}\n" for line in proc_modules(loaded, loaded.modules)).encode()
