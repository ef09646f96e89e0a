"""CSV (RFC 4180): one record a symbol under a header ``address,type,name,module``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kallsift.kernel.model import Kernel
from kallsift.memory.model import printable
from kallsift.output.rows import RowFormat
from kallsift.questions.dynamic import Dynamic

# Names are always quoted, which the RFC allows, so that a quote is the only byte in them that needs doubling.
_RECORD = RowFormat(before=b"0x", between=b",", gap=b',"', after=b'",\r\n', escapes={ord('"'): b'""'})


def csv_table(kernel: Kernel, dynamic: Dynamic | None = None) -> Iterator[bytes | memoryview]:
    """The built-in symbols, whose module is empty, and those in ``dynamic``, in the kernel's order, in bounded chunks.

    Addresses are hexadecimal with ``0x``; unprintable bytes of names are written as ``\\xNN``.
    """
    yield b"address,type,name,module\r\n"
    yield from _RECORD.lines(kernel.symbols)
    for group in dynamic.groups if dynamic else ():
        owner = printable(group.owner).encode("ascii", "backslashreplace").replace(b'"', b'""')
        yield from replace(_RECORD, after=b'","' + owner + b'"\r\n').lines(group.symbols)
