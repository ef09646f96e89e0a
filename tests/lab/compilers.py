"""The compilers for the guests' architectures, each Debian's own."""

from __future__ import annotations

from typing import NamedTuple

from .errors import LabError


class Compiler(NamedTuple):
    """How to compile for one architecture."""

    prefix: str  # of the names of its programs
    options: tuple[str, ...]  # besides those of what is compiled
    kernel: str  # what the kernel's build calls the architecture


COMPILERS = {
    "amd64": Compiler("x86_64-linux-gnu-", (), "x86"),
    "i386": Compiler("x86_64-linux-gnu-", ("-m32",), "x86"),
    "arm64": Compiler("aarch64-linux-gnu-", (), "arm64"),
    "s390x": Compiler("s390x-linux-gnu-", (), "s390"),
}
"""By Debian's name of the architecture; the packages of more of them belong into requirements.apt and tools.py."""


def compiler_for(architecture: str) -> Compiler:
    if architecture not in COMPILERS:
        raise LabError(f"no compiler for {architecture}: the lab knows {', '.join(COMPILERS)}")
    return COMPILERS[architecture]
