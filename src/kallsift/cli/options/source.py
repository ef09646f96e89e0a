"""What every command that reads a source shares: its options, and the way from them to recovered kernels."""

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


@dataclass(frozen=True)
class Request:
    """What the shared options ask for.

    Attributes:
        source: the memory dump's name.
        every: whether all kernels are wanted.
        number: the one that is wanted, counted from 0 in the order of `recover_all`; None for the best.
        verbose: whether the evidence goes to standard error.
        base: where the first byte of a kernel image lies; None for what the image itself says.
        hints: what the user knows of the machine's processors.
        pause: whether a live guest is to stand still meanwhile.
        label: what begins the messages of this source where a command reads several; empty where it is the only one.
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
    """Let the shell complete the name of a file, for arguments that need not be one."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def source_options(command: Callable[..., int]) -> Callable[..., int]:
    """Adds SOURCE and the shared options to a command, which gets them as one `Request` in front of its own."""

    @click.argument("source", shell_complete=complete_file)
    @source_option("--all", "every", is_flag=True, help="Every kernel in the source, the running ones first.")
    @source_option(
        "--kernel", "number", type=click.IntRange(min=0), metavar="N", help="The Nth of all kernels, counted from 0."
    )
    @source_option(
        "--base",
        type=Address(),
        metavar="ADDRESS",
        help="Where the first byte of a kernel image lies, if not as linked.",
    )
    @source_option("--pause", is_flag=True, help="Let a QEMU guest (qemu:SOCKET) stand still while it is read.")
    @source_option("-v", "--verbose", is_flag=True, help="Print the evidence to standard error.")
    @source_option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=_keep_debug,
        help="Print a traceback when something fails.",
    )
    @hint_options
    @functools.wraps(command)
    def with_request(
        source: str,
        every: bool,
        number: int | None,
        base: int | None,
        pause: bool,
        verbose: bool,
        hints: Hints,
        **rest: Any,
    ) -> int:
        if every and number is not None:
            raise click.UsageError("--all and --kernel exclude each other.")
        return command(Request(source, every, number, verbose, base, hints, pause), **rest)

    return with_request


@contextmanager
def opened(request: Request) -> Iterator[Memory]:
    """The source; says on standard error what it lacks, and at last which of its pages turned out to be unreadable.

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
            # where a file was cut short, that is why
            memory.check_files()
            raise
        finally:
            for remark in memory.unreadable_remarks:
                warn(request.label + remark)
        memory.check_files()


@contextmanager
def recovered(request: Request) -> Iterator[tuple[Memory, tuple[Kernel, ...]]]:
    """The source and the kernels that were asked for, at least one; says on standard error which are not proven.

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


def _explained(request: Request, error: KallsiftError) -> KallsiftError:
    """Return what to say of a source without a kernel: that it lists symbols, if it does, and which source it is."""
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
            f"{name}: lists symbols, which 'lookup', 'symbolize' and 'diff' take; "
            "this needs a memory dump or a kernel image"
        )
    return KallsiftError(request.label + str(error)) if request.label and name not in str(error) else error


Chunk = TypeVar("Chunk")


def checked(memory: Memory, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """The chunks of a result, which is no result if a file of the source was cut short when the last one is made.

    Raises:
        SourceError: if one was.
    """
    yield from chunks
    memory.check_files()


def remarks(kernels: tuple[Kernel, ...]) -> Iterator[str]:
    """What is to be said of other kernels than the one that was asked for, a line each."""
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
    Role.PANICKED: "this kernel panicked, and no other one was found to run instead of it",
    Role.REPLACED: "this kernel has started another one (kexec), which was not found",
}


def chosen(request: Request, memory: Memory, progress: Progress | None) -> tuple[Kernel, ...]:
    """The kernels that were asked for.

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
