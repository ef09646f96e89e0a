"""Write scripts for debuggers that hold the symbols as packed data: names in a dump can be anything, but never code.

gdb makes symbols of ELF files alone, so its script holds one that has nothing but a symbol table. IDA names addresses
one by one.
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kallsift.kernel.kernel import Kernel
from kallsift.output.elf.symbol_table import symbol_elf
from kallsift.output.symbols.line_writer import NAME_ESCAPES, RowFormat
from kallsift.output.symbols.name_lists import located_tables

if TYPE_CHECKING:
    from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols

LISTED = RowFormat(escapes=NAME_ESCAPES)
"""Lines of IDA's script: address, letter and name; these have no blanks."""

WIDTH = 1 << 12
"""Characters of a line of packed data."""

DATA = '''\
import base64
import zlib

DATA = zlib.decompress(base64.b64decode("""
'''
"""What stands before the packed data: it is base64, so nothing in it ends the string."""

GDB_HEAD = "# gdb: source FILE (the name must end in .py)\n"
GDB_TAIL = '''\
"""))

import atexit
import os
import tempfile

import gdb

with tempfile.NamedTemporaryFile(suffix=".elf", delete=False) as file:
    file.write(DATA)
atexit.register(os.unlink, file.name)
gdb.execute(f"with confirm off -- add-symbol-file {file.name}")
'''

IDA_HEAD = "# IDA: File, Script file\n"
IDA_TAIL = '''\
"""))

import ida_name

for line in DATA.decode("ascii").splitlines():
    address, letter, name = line.split(" ")
    ida_name.set_name(int(address, 16), name, ida_name.SN_NOWARN | ida_name.SN_NOCHECK | ida_name.SN_FORCE)
'''


def gdb_script(kernel: Kernel, dynamic: DynamicSymbols | None = None) -> Iterator[bytes]:
    """Yield a script in Python that adds the symbols to gdb."""
    yield from _script(GDB_HEAD, symbol_elf(kernel, located_tables(kernel, dynamic)), GDB_TAIL)


def ida_script(kernel: Kernel, dynamic: DynamicSymbols | None = None) -> Iterator[bytes]:
    """Yield a script in Python that names addresses in IDA."""
    text = b"".join(chunk for table in located_tables(kernel, dynamic) for chunk in LISTED.lines(table))
    yield from _script(IDA_HEAD, text, IDA_TAIL)


def _script(head: str, data: bytes, tail: str) -> Iterator[bytes]:
    """Yield a script around packed data."""
    yield (head + DATA).encode("ascii")
    packed = b64encode(zlib.compress(data, 6))
    for start in range(0, len(packed), WIDTH):
        yield packed[start : start + WIDTH] + b"\n"
    yield tail.encode("ascii")
