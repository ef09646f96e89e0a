"""Take the types that a command is to use: the kernel's own, or those in a file that an option names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from kallsift.kernel.access.btf_blob import BtfError
from kallsift.kernel.access.virtual_memory import readable_memory
from kallsift.kernel.kernel import Kernel
from kallsift.memory.memory import printable
from kallsift.types.btf_file import read_types
from kallsift.types.find import given_types, kernel_types
from kallsift.types.types import Types

types_option = click.option(
    "--types",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Use the types of this file (BTF or vmlinux) of the same build, for kernels without types.",
)


@dataclass(frozen=True)
class TypesFile:
    """A file of types.

    Attributes:
        name: its name, safe to print.
        data: its bytes.
    """

    name: str
    data: NDArray[np.uint8]

    @classmethod
    def read(cls, file: Path | None) -> TypesFile | None:
        """Read a file of types; None if no file is given.

        Raises:
            KallsiftError: if it is an ELF file without types.
        """
        if file is None:
            return None
        name = printable(str(file))
        try:
            return cls(name, read_types(file))
        except BtfError as error:
            raise BtfError(f"{name}: {error}") from error


def types_of(kernel: Kernel, given: TypesFile | None, option: str = "--types") -> Types:
    """Return the types of a kernel: its own, or those of a file.

    Args:
        kernel: the kernel.
        given: the file; None for the kernel's own types.
        option: the option that names a file.

    Raises:
        BtfError: if there are none, which says what to do, or they are not the kernel's.
    """
    memory = readable_memory(kernel)
    if given is not None:
        return given_types(kernel, memory, given.data, given.name)
    try:
        return kernel_types(kernel, memory)
    except BtfError as error:
        raise BtfError(f"{error}; name a file of the same build ({option} FILE)") from error
