"""Start the ``kallsift`` command: the entry point of the script and of ``python -m kallsift``.

Until the command is imported, an interrupt ends the process as it ends any other: there is nothing to clean up, and a
traceback of half an import tells nobody anything.
"""

from __future__ import annotations

import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command with the process's arguments and end the process."""
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
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
