"""The text of ``/proc/kallsyms``, byte for byte as the kernel prints its built-in table."""

from __future__ import annotations

from collections.abc import Iterator

from kallsift.kernel.model import Kernel
from kallsift.output.rows import RowFormat

LINE = RowFormat()


def kallsyms_text(kernel: Kernel) -> Iterator[memoryview]:
    """Lines ``address type name`` in the kernel's own order, duplicates kept, in chunks of bounded size.

    Control characters and bytes from 0x7f up, which no sane kernel has in a name, are written as ``\\xNN``.
    """
    return LINE.lines(kernel.symbols)
