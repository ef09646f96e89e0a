"""Run the ``kallsift`` command: its group of commands, and its error messages."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

import click

from kallsift import __version__
from kallsift.cli import DEBUG
from kallsift.cli.exit_codes import ExitCode
from kallsift.cli.rich_help import HelpedGroup
from kallsift.errors import KallsiftError, OverwriteError
from kallsift.memory.input_files import record_stream, recorded_files

COMMANDS = (
    "symbols",
    "info",
    "lookup",
    "symbolize",
    "diff",
    "layout",
    "modules",
    "exports",
    "check",
    "types",
    "config",
    "guests",
    "elf",
    "isf",
    "volatility",
    "convert",
    "extract",
)
"""Names of the commands; each is in the module of its name.

Commands are imported only when they are needed: importing all would dominate start-up.
"""

COMPLETION = "_KALLSIFT_COMPLETE"
"""Variable by which a shell asks for completions.

Its name is that of click's documentation ("Shell Completion").
"""

EXAMPLES = {
    "kallsift symbols memory.lime > kallsyms": "the whole symbol table of the kernel in a memory dump",
    "kallsift info memory.lime": "what was recovered, where, and the evidence for it",
    "kallsift lookup memory.lime init_task 0xffffffff81234567": "symbols by name or address",
    "kallsift symbolize memory.lime oops.txt": "the symbols of the addresses in an oops",
    "kallsift types memory.lime task_struct": "the kernel's own structures, with offsets and sizes",
    "kallsift elf memory.lime -o vmlinux.elf": "the kernel for gdb, objdump, IDA, Ghidra and perf",
    "kallsift isf memory.lime -o symbols": "a symbol file for Volatility 3, made from the dump itself",
    "kallsift convert memory.lime memory.core": "the same memory for crash and drgn",
}


class Commands(HelpedGroup):
    """The group of all `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of a name; None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"kallsift.cli.commands.{cmd_name}"), cmd_name)
        return command


@click.group(
    cls=Commands,
    examples=EXAMPLES,
    invoke_without_command=True,
)
@click.version_option(__version__, message="kallsift %(version)s")
@click.pass_context
def app(ctx: click.Context) -> int:
    """Recover a Linux kernel's symbol table from a memory dump, and prove it.

    Exit codes: 0 proven; 1 nothing recovered or unreadable; 2 usage; 3 partial or ambiguous; 4 differ (diff).
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        return ExitCode.USAGE
    return ExitCode.PROVEN


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code.

    Every failure becomes one line on standard error.
    """
    for stream in (sys.stdout, sys.stderr):
        _never_fail_to_encode(stream)
    if instruction := os.environ.get(COMPLETION):
        from click.shell_completion import shell_complete

        return shell_complete(app, {}, "kallsift", COMPLETION, instruction)
    debug = False
    try:
        with recorded_files(), app.make_context("kallsift", list(arguments)) as ctx:
            for name, descriptor in (("standard output", 1), ("standard error", 2)):
                record_stream(name, descriptor)
            try:
                code: int = app.invoke(ctx)
            finally:
                debug = ctx.meta.get(DEBUG, False)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except BrokenPipeError:
        return ExitCode.PIPE_CLOSED
    except (Exception, KeyboardInterrupt) as error:
        with suppress(OSError):
            sys.stdout.flush()
        if debug:
            import traceback

            traceback.print_exc()
        from kallsift.cli.messages import complain

        message, failure = _explained(error)
        complain(message)
        return failure
    return code


_ADVICE = {
    errno.ENOSPC: "free some space, or write to another disk",
    errno.EACCES: "run kallsift as a user who may write there",
    errno.EROFS: "write to another disk",
    errno.EBADF: "standard output is closed; redirect it to a file or a pipe",
}
"""Advice for errors of the system that users meet."""


def _explained(error: BaseException) -> tuple[str, ExitCode]:
    """Return the message and the exit code of an error."""
    match error:
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "kallsift"
            return f"{error.format_message()} Try '{command} --help'.", ExitCode.USAGE
        case click.ClickException():
            return error.format_message(), ExitCode.USAGE
        case KeyboardInterrupt() | click.Abort():
            return "interrupted", ExitCode.INTERRUPTED
        case OverwriteError():
            return str(error), ExitCode.USAGE
        case KallsiftError():
            return str(error), ExitCode.NOTHING
        case MemoryError():
            return "out of memory; close other programs or raise the limit (ulimit -v)", ExitCode.NOTHING
        case OSError():
            name = f"{error.filename}: " if error.filename else ""
            advice = f"; {_ADVICE[error.errno]}" if error.errno in _ADVICE else ""
            return f"{name}{error.strerror or error}{advice}", ExitCode.NOTHING
        case _:
            return (
                f"internal error, {type(error).__name__}: {error} (please report it with --debug)",
                ExitCode.NOTHING,
            )


def _never_fail_to_encode(stream: object) -> None:
    """Let a terminal without UTF-8 show escapes instead of raising an error."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
