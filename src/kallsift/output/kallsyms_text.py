"""The text of ``/proc/kallsyms``, byte for byte as the kernel prints it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kallsift.kernel.model import Kernel
from kallsift.memory.model import printable
from kallsift.output.rows import RowFormat
from kallsift.questions.dynamic import Dynamic

LOCAL_LABELS = {0x01: b"\x01", 0x02: b"\x02"}
"""What the assembler puts into names of local labels (gas manual, "Symbol Names"). The kernel prints it as it is, and
terminals pass over it."""

LINE = RowFormat(escapes=LOCAL_LABELS)


def kallsyms_text(kernel: Kernel, dynamic: Dynamic | None = None) -> Iterator[memoryview]:
    """Lines ``address type name`` in the kernel's own order, duplicates kept, in chunks of bounded size.

    Behind the built-in symbols come those in ``dynamic``, each line with its owner in brackets behind a tab.
    Control characters but those of `LOCAL_LABELS`, and bytes from 0x7f up, are written as ``\\xNN``: no kernel has any.
    """
    yield from LINE.lines(kernel.symbols)
    for group in dynamic.groups if dynamic else ():
        owner = printable(group.owner).encode("ascii", "backslashreplace")
        yield from replace(LINE, after=b"\t[" + owner + b"]\n").lines(group.symbols)
