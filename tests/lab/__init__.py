"""Boots real kernels under QEMU and keeps their memory together with the truth about it.

python -m tests.lab list                the guests, and which of them have been captured
python -m tests.lab guest amd64-7.2     captures it unless that has been done; prints its folder
python -m tests.lab set test            the same for all guests of a set
"""

from __future__ import annotations

from .capture import Capture, cached, capture
from .errors import LabError
from .guests import Guest, guest_named, guests_of_set, load_guests

__all__ = ["Capture", "Guest", "LabError", "cached", "capture", "guest_named", "guests_of_set", "load_guests"]
