"""Let signals that end the command do so as an exception does, so that no half-written file is left behind."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGHUP)
"""Those that ask a process to end; SIGINT raises `KeyboardInterrupt` anyway."""


def exit_on_signals() -> None:
    """Exit, with the code that shells report, when one of `SIGNALS` arrives; what is ignored (nohup) stays ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _exit)


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    # a second one must not interrupt the cleaning up
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)
