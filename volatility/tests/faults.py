"""Whose fault it is where a plugin fails, or says what is not so: found out by hand, each one."""

from __future__ import annotations

import re
from dataclasses import dataclass

KALLSIFT = "kallsift"
VOLATILITY = "Volatility"


@dataclass(frozen=True)
class Fault:
    """A failure that is known.

    Attributes:
        plugin: which fails.
        guests: regular expression of the guests where it does.
        message: regular expression of what it says, or of how it differs from the guest's truth.
        whose: who would have to mend it.
        cause: why it fails.
    """

    plugin: str
    guests: str
    message: str
    whose: str
    cause: str

    def matches(self, message: str) -> bool:
        """Tell whether a message is the one that is known."""
        return re.search(self.message, message) is not None


FAULTS: tuple[Fault, ...] = ()


def fault_of(plugin: str, guest: str) -> Fault | None:
    """Return what is known to fail of a plugin on a guest."""
    return next((fault for fault in FAULTS if fault.plugin == plugin and re.match(fault.guests, guest)), None)
