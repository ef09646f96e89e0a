"""Define the options of debug information: whether types are written, whose, and those of modules."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from kallsift.cli.options.types_file import TypesFile, types_of
from kallsift.kernel.kernel import Kernel
from kallsift.types.types import Types


@dataclass(frozen=True)
class DebugRequest:
    """The values of these options.

    Attributes:
        types: whether types are written.
        given: the file with the types; None for the kernel's own.
        modules: whether those of modules are written too.
    """

    types: bool
    given: TypesFile | None
    modules: bool

    def types_of(self, kernel: Kernel) -> Types | None:
        """Return the types to write for a kernel; None if none are wanted.

        Raises:
            KallsiftError: if there are none, or they are not the kernel's; it says what to do.
        """
        return types_of(kernel, self.given, "--btf") if self.types else None


def debug_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options to a command, which receives them as one `DebugRequest` called ``debug``."""

    @click.option(
        "--types",
        is_flag=True,
        help="Also write DWARF with the kernel's types, prototypes and variables, from its BTF.",
    )
    @click.option(
        "--btf",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="With --types: use the types of this file of the same build, for kernels without types.",
    )
    @click.option("--modules", is_flag=True, help="With --types: also write the types and functions of loaded modules.")
    @functools.wraps(command)
    def with_debug_request(*arguments: Any, types: bool, btf: Path | None, modules: bool, **rest: Any) -> int:
        if (btf is not None or modules) and not types:
            raise click.UsageError("--btf and --modules need --types; add it.")
        return command(*arguments, debug=DebugRequest(types, TypesFile.read(btf), modules), **rest)

    return with_debug_request
