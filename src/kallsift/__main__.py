"""Start the ``kallsift`` command: the entry point of the script and of ``python -m kallsift``.

Until the command is imported, an interrupt ends the process as it ends any other: there is nothing to clean up, and a
traceback of half an import tells nobody anything.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

GARBAGE = 50_000
"""Objects between two searches for garbage: what is imported is none, and hardly anything else comes in circles."""

REUSED_BLOCK = 31 << 20
"""Bytes up to which blocks of memory are kept for the next array, rather than given back and fetched anew page by page:
glibc keeps those that are no larger than the largest one that was freed (mallopt(3), M_MMAP_THRESHOLD)."""


def main() -> NoReturn:
    """Run the command with the process's arguments and end the process."""
    gc.set_threshold(GARBAGE)
    bytes(REUSED_BLOCK)
    # NumPy's library of linear algebra, which nothing here uses, starts threads that first spin for a tenth of a second
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # a shell's background job is started with the signal ignored, and goes on ignoring it
    is_caught = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_caught:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from kallsift.cli.app import run
    from kallsift.cli.signals import exit_on_signals
    from kallsift.cli.standard_streams import fill_closed_streams

    fill_closed_streams()
    exit_on_signals()
    if is_caught:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    # the system takes all memory back at once; to take every object apart takes a tenth of the time of a command
    os._exit(code)


if __name__ == "__main__":
    main()
