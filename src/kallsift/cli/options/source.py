"""Define the options of commands that read a source, and recover its kernels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kallsift.cli import DEBUG
from kallsift.cli.messages import note, warn
from kallsift.cli.options.address import Address
from kallsift.cli.options.cpu_hints import hint_options
from kallsift.cli.progress_bar import progress_on_terminal
from kallsift.cli.rich_help import source_option
from kallsift.errors import KallsiftError, RecoveryError, SourceError
from kallsift.image.open import open as open_memory
from kallsift.kernel.kernel import Kernel, Role, State
from kallsift.kernel.recovery.recover import recover, recover_all
from kallsift.kernel.recovery.search import Progress
from kallsift.memory.memory import Hints, Memory, printable
from kallsift.output.text.evidence import doubts, evidence_lines

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Request:
    """The values of the shared options.

    Attributes:
        source: the memory dump's name.
        every: whether all kernels are wanted.
        number: number of the wanted kernel, counted from 0 in the order of `recover_all`; None for the best.
        verbose: whether the evidence goes to standard error.
        base: address of the first byte of a kernel image; None for the address that the image itself gives.
        hints: facts about the machine that the user knows.
        pause: whether a live guest is paused while it is read.
        label: beginning of the messages about this source, if a command reads several; empty if it is the only one.
    """

    source: str
    every: bool
    number: int | None
    verbose: bool
    base: int | None = None
    hints: Hints = field(default_factory=Hints)
    pause: bool = False
    label: str = ""


def complete_file(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell complete the name of a file.

    It is for arguments that can also be something else.
    """
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def source_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add SOURCE and the shared options to a command.

    The command receives them as one `Request` before its own arguments.
    """

    @click.argument("source", shell_complete=complete_file)
    @source_option("--all", "every", is_flag=True, help="Use every kernel in the source, running ones first.")
    @source_option(
        "--kernel",
        "number",
        type=click.IntRange(min=0),
        metavar="N",
        help="Use the Nth of all kernels, counted from 0.",
    )
    @source_option(
        "--base",
        type=Address(),
        metavar="ADDRESS",
        help="Virtual address of a kernel image's first byte, if it is not the link address.",
    )
    @source_option("--pause", is_flag=True, help="Pause a QEMU guest (qemu:SOCKET) while it is read.")
    @source_option("-v", "--verbose", is_flag=True, help="Print the evidence to standard error.")
    @source_option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=_keep_debug,
        help="Print a traceback after an error.",
    )
    @hint_options
    @functools.wraps(command)
    def with_request(every: bool, number: int | None, **rest: Any) -> int:
        if every and number is not None:
            raise click.UsageError("--all and --kernel exclude each other.")
        shared = {name: rest.pop(name) for name in ("source", "verbose", "base", "hints", "pause")}
        return command(Request(every=every, number=number, **shared), **rest)

    return with_request


@contextmanager
def opened(request: Request) -> Iterator[Memory]:
    """Open the source, and warn of what it lacks.

    At the end, it also warns of pages that turned out to be unreadable.

    Raises:
        KallsiftError: if the source cannot be read.
    """
    try:
        source = open_memory(request.source, pause=request.pause)
    except SourceError as error:
        raise _explained(request, error) from error
    with source as memory:
        for remark in memory.notes:
            warn(request.label + remark)
        try:
            yield memory
        except (KallsiftError, OSError):
            # if a file was cut short, that is the cause
            memory.check_files()
            raise
        finally:
            for remark in memory.unreadable_remarks:
                warn(request.label + remark)
        memory.check_files()


@contextmanager
def recovered(request: Request) -> Iterator[tuple[Memory, tuple[Kernel, ...]]]:
    """Open the source and recover the requested kernels, at least one.

    Kernels that are not proven are named on standard error.

    Raises:
        KallsiftError: if the source cannot be read or holds no such kernel.
    """
    with opened(request) as memory:
        try:
            with progress_on_terminal() as progress:
                kernels = chosen(request, memory.with_hints(request.hints), progress)
        except RecoveryError as error:
            raise _explained(request, error) from error
        if request.base is not None:
            from kallsift.kernel.placement.rebase import rebased

            kernels = tuple(rebased(kernel, request.base) for kernel in kernels)
        for line in remarks(kernels) if not request.every and request.number is None else ():
            note(f"kallsift: {request.label}{line}")
        for line in dict.fromkeys(filter(None, (kernel.left_out for kernel in kernels))):
            warn(request.label + line)
        for index, kernel in enumerate(kernels):
            name = request.label + (f"kernel {index}: " if len(kernels) > 1 else "")
            if request.verbose:
                for line in evidence_lines(kernel.evidence):
                    note(name + line)
            if not kernel.proven:
                warn(f"{name}not proven ({doubts(kernel)})")
        yield memory, kernels


def answered(
    request: Request, index: int, ask: Callable[[], Answer], name: str | None = None
) -> Answer | KallsiftError:
    """Return what is asked of a kernel; with ``--all``, its error where it has no answer, which becomes a warning.

    So the other kernels are still asked.

    Args:
        request: what was asked for.
        index: number of the kernel.
        ask: asks the kernel.
        name: what the warning calls it; None for its number.

    Raises:
        KallsiftError: if there is no answer, without ``--all``.
    """
    try:
        return ask()
    except KallsiftError as error:
        if not request.every:
            raise
        warn(f"{name}: {error}" if name else f"{request.label}kernel {index}: {error}")
        return error


def _explained(request: Request, error: KallsiftError) -> KallsiftError:
    """Return the error for a source without a kernel.

    It says that the source lists symbols, if it does, and names the source.
    """
    from kallsift.analysis.listings.open import listed
    from kallsift.memory import stdin
    from kallsift.memory.formats.registry import STANDARD_INPUT

    try:
        is_listing = listed(request.source) is not None
    except SourceError:
        is_listing = False
    name = stdin.NAME if request.source == STANDARD_INPUT else printable(request.source)
    if is_listing:
        return SourceError(
            f"{name}: is a list of symbols, which only 'lookup', 'symbolize' and 'diff' accept; name a "
            "memory dump or a kernel image"
        )
    return KallsiftError(request.label + str(error)) if request.label and name not in str(error) else error


Chunk = TypeVar("Chunk")


def checked(memory: Memory, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Yield the chunks of a result, then check that no source file was cut short.

    A result from a file that was cut short would be wrong.

    Raises:
        SourceError: if a file was cut short.
    """
    yield from chunks
    memory.check_files()


def remarks(kernels: tuple[Kernel, ...]) -> Iterator[str]:
    """Yield remarks on the role of the requested kernel, and on other kernels."""
    for kernel in kernels:
        if kernel.state is State.RUNNING and kernel.role in _ROLES:
            yield _ROLES[kernel.role]
        if kernel.others:
            count = len(kernel.others)
            states = {state.value for state in kernel.others if state is not None}
            known = f": {', '.join(sorted(states))}" if states and None not in kernel.others else ""
            more = "1 more kernel is" if count == 1 else f"{count} more kernels are"
            yield f"{more} in this source{known} (kallsift info --all)"


_ROLES = {
    Role.CAPTURE: "this is the capture kernel (kdump) of a kernel that panicked",
    Role.PANICKED: "this kernel panicked, and no other running kernel was found",
    Role.REPLACED: "this kernel has started another one (kexec), which was not found",
}


def chosen(request: Request, memory: Memory, progress: Progress | None) -> tuple[Kernel, ...]:
    """Return the requested kernels.

    Raises:
        KallsiftError: if there is none.
    """
    if request.every:
        return recover_all(memory, progress=progress)
    if request.number is None:
        return (recover(memory, progress=progress),)
    kernels = recover_all(memory, progress=progress)
    if request.number >= len(kernels):
        numbers = "only kernel 0" if len(kernels) == 1 else f"kernels 0 to {len(kernels) - 1}"
        raise KallsiftError(f"there is no kernel {request.number} in this source, {numbers}; 'info --all' lists them")
    return (kernels[request.number],)


def _keep_debug(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    ctx.meta[DEBUG] = value
