"""Find the kernel's own types by its symbols, or by their header in the image.

Where the table lists text alone, no symbol names them. Then a header counts whose sections follow each other, at the
image's distance, and whose functions are the table's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import KallsiftError, UnmappedError
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.access.btf_blob import (
    ADDED,
    HEADER,
    LAYOUT_HEADER,
    MAGIC,
    MAX_SIZE,
    MIN_FUNCTIONS,
    BtfError,
    Kind,
    parse,
    whole_size,
)
from kallsift.kernel.access.image_sections import PER_CPU
from kallsift.kernel.access.list_head import DATA
from kallsift.kernel.access.string_search import places_of
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.kernel import Kernel
from kallsift.kernel.placement.pointers import AFTER, BEFORE
from kallsift.types.btf import PER_CPU_SECTION, Btf
from kallsift.types.types import Types

BOUNDS = ("__start_BTF", "__stop_BTF")

MAX_HEADERS = 256
"""Highest number of places with the bytes of a header that are tried; a kernel has some 20."""

MAX_UNLISTED = 1 / 128
"""Share of the functions that a table of text alone may lack: those of ``.exit.text``, where that lies elsewhere."""

WITHOUT = "this kernel carries no types"

_FOUND: WeakKeyDictionary[Kernel, tuple[Btf, str] | str] = WeakKeyDictionary()
"""Types of kernels that were asked for them, and where they were found; of one without any, why."""


def kernel_types(kernel: Kernel, memory: VirtualMemory) -> Types:
    """Return the types that a kernel carries of itself, which are looked for once.

    Raises:
        BtfError: if it has none, or they cannot be read.
    """
    if kernel not in _FOUND:
        try:
            found = _found(kernel, memory)
            _FOUND[kernel] = found.btf, found.source
        except BtfError as error:
            _FOUND[kernel] = str(error)
    known = _FOUND[kernel]
    if isinstance(known, str):
        raise BtfError(known)
    return Types(*known, kernel, memory)


def _found(kernel: Kernel, memory: VirtualMemory) -> Types:
    start, stop = (kernel.symbols.find(name) for name in BOUNDS)
    if start is not None and stop is not None:
        low, high = (int(kernel.symbols.addresses[index]) for index in (start, stop))
        if not HEADER <= high - low < MAX_SIZE:
            raise BtfError(WITHOUT)
        try:
            return _types(memory.read(low, high - low), BOUNDS[0], kernel, memory)
        except (UnmappedError, BtfError) as error:
            raise BtfError(f"the kernel's types cannot be read: {error}") from error
    if DATA in kernel.symbols:
        raise BtfError(f"{WITHOUT} (CONFIG_DEBUG_INFO_BTF)")
    found = {types.btf.blob.data.tobytes(): types for types in _by_header(kernel, memory)}
    if not found:
        raise BtfError(f"{WITHOUT}: its image has no BTF header")
    if len(found) > 1:
        raise BtfError("the image has several blobs of types, and nothing shows which one is the kernel's")
    return next(iter(found.values()))


def given_types(kernel: Kernel, memory: VirtualMemory, data: NDArray[np.uint8], name: str) -> Types:
    """Return the types in a file of the same build (``/sys/kernel/btf/vmlinux``).

    Raises:
        BtfError: if they are none, or not this kernel's.
    """
    try:
        types = _types(data, name, kernel, memory)
        # a kernel's names begin with the empty one; a module's go on behind them
        if not types.btf.blob.strings.startswith(b"\0"):
            raise BtfError("these are the types of a module; name those of the kernel (vmlinux)")
        problem = contradiction(types.btf, kernel.symbols)
    except BtfError as error:
        raise BtfError(f"{name}: {error}") from error
    if problem is not None:
        raise BtfError(f"{name}: the types are not of this build: {problem}")
    return types


def contradiction(btf: Btf, symbols: SymbolTable) -> str | None:
    """Return what shows that types are not those of a kernel; None if nothing does.

    Each function that they name is a symbol, and each per-CPU variable is one at the offset that they say. Of these no
    more may be missing than the table has lost names, and `MAX_UNLISTED` of the functions.
    """
    functions = {btf.name(number) for number in btf.of_kind(Kind.FUNC).tolist()}
    functions = {name for name in functions if not name.endswith(ADDED)}
    if len(functions) < MIN_FUNCTIONS:
        return f"they name only {len(functions)} functions"
    names, lost = symbols.names(), len(symbols) - int(symbols.whole.sum())
    missing = functions.difference(names)
    # compilers append to the names of functions that they changed
    missing -= {name.partition(".")[0] for name in names} if missing else set()
    unlisted = 0 if DATA in symbols else int(MAX_UNLISTED * len(functions))
    if len(missing) > lost + unlisted:
        return f"{len(missing):,} of their {len(functions):,} functions are not in the kernel"
    start = symbols.find(PER_CPU[0])
    if start is None:
        return None
    wanted = {
        (btf.name(number), int(symbols.addresses[start]) + offset)
        for number, offset, _ in btf.variables(PER_CPU_SECTION)
    }
    misplaced = len(wanted.difference(zip(names, symbols.addresses.tolist(), strict=True)))
    return (
        f"{misplaced:,} of their {len(wanted):,} per-CPU variables are at other offsets" if misplaced > lost else None
    )


def _types(data: NDArray[np.uint8], source: str, kernel: Kernel, memory: VirtualMemory) -> Types:
    return Types(Btf(parse(data), kernel.symbols.word_size), source, kernel, memory)


def _by_header(kernel: Kernel, memory: VirtualMemory) -> Iterator[Types]:
    """Yield the types in the image that begin with a header and whose functions are the table's."""
    window = kernel.memory.around(kernel.tables[0].physical, BEFORE, AFTER)
    order: Literal["little", "big"] = "little" if kernel.byte_order == "<" else "big"
    for place in places_of(window, MAGIC.to_bytes(2, order) + b"\1\0", MAX_HEADERS):
        address = place + kernel.distance & memory.words.mask
        try:
            data = memory.read(address, whole_size(memory.read(address, LAYOUT_HEADER)))
            types = _types(data, f"{address:#x}", kernel, memory)
            if contradiction(types.btf, kernel.symbols) is None:
                yield types
        except KallsiftError:
            continue
