"""CSV (RFC 4180): one record a symbol under a header ``address,type,name``."""

from __future__ import annotations

from collections.abc import Iterator

from kallsift.kernel.model import Kernel
from kallsift.output.rows import RowFormat

# Names are always quoted, which the RFC allows, so that a quote is the only byte in them that needs doubling.
_RECORD = RowFormat(before=b"0x", between=b",", gap=b',"', after=b'"\r\n', escapes={ord('"'): b'""'})


def csv_table(kernel: Kernel) -> Iterator[bytes | memoryview]:
    """The table in the kernel's own order, in chunks of bounded size.

    Addresses are hexadecimal with ``0x``; unprintable bytes of names are written as ``\\xNN``.
    """
    yield b"address,type,name\r\n"
    yield from _RECORD.lines(kernel.symbols)
