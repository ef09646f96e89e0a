"""Let signals that end the command raise an exception.

So no half-written file stays behind.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a process to end; SIGINT raises `KeyboardInterrupt` anyway."""


def exit_on_signals() -> None:
    """Exit when one of `SIGNALS` arrives, with the code that shells report.

    Signals that are ignored (nohup) stay ignored.
    """
    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _exit)


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    # a second signal must not interrupt the cleanup
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)
