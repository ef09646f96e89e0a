"""BTF: the kernel's types have the names of its functions once more, each of which the table of symbols must have.

pahole writes a BTF_KIND_FUNC for functions of vmlinux's own symbol table (Documentation/bpf/btf.rst), without what a
compiler appended to their names. resolve_btfids adds some that no symbol has (``_impl``, since 7.1), so a missing name
counts only where a symbol that no function's name fits could be what became of it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import distinct
from kallsift.errors import UnmappedError
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.access.btf import FUNC, MAX_SIZE, BtfError, parse
from kallsift.kernel.cross_checks.btf_walk import types_of_kind
from kallsift.kernel.cross_checks.findings import Finding, Source
from kallsift.kernel.cross_checks.name_keys import Names, is_among, matches
from kallsift.kernel.cross_checks.near_names import MIN_KEPT, NearNames, is_part
from kallsift.kernel.placement.placement import Placement
from kallsift.lanes import lanes
from kallsift.memory.memory import Memory

MIN_FUNCTIONS = 256
"""Functions among the types that make them worth comparing."""

MAX_MISSING = 0.02
"""Share of them that the table may lack before they are not this kernel's."""

MAX_LOOKED_AT = 256
"""Missing names that are looked for at most."""

ADDED = b"_impl"
"""What ends the names of functions that resolve_btfids adds for those with hidden arguments (KF_IMPLICIT_ARGS)."""

TEXT = np.frombuffer(b"tTwW", np.uint8)


def btf_finding(memory: Memory, placement: Placement, names: Names) -> Finding:
    """Compare the functions among the kernel's types with the symbols."""
    symbols = placement.symbols
    functions = _functions(memory, placement, names)
    if functions is None:
        return Finding.none(Source.BTF, len(symbols), "the kernel has no types of its own, or they name no functions")
    wanted = distinct(functions.keys)
    confirmed, met = matches(names.keys, wanted)
    dotted, stems = _dotted(symbols, names)
    before_dots, met_before = matches(stems, wanted)
    missing = np.flatnonzero(is_among(functions.keys, wanted[~(met | met_before)]))
    if len(missing) > MAX_MISSING * len(functions.keys):
        return Finding.none(Source.BTF, len(symbols), "the functions among the types are not those of the table")
    confirmed[dotted[before_dots]] = True
    broken = _changed(symbols, names, functions, missing, confirmed) if len(missing) else []
    first = min(broken, default=(0, ""))[1]
    return Finding(Source.BTF, confirmed, np.zeros(len(symbols), np.bool_), len(broken), first)


def _functions(memory: Memory, placement: Placement, names: Names) -> Names | None:
    """The names of the functions among the types; None without any."""
    low, high = names.find(b"__start_BTF"), names.find(b"__stop_BTF")
    if low is None or high is None:
        return None
    start, stop = (int(placement.symbols.addresses[index]) for index in (low, high))
    if not 0 < stop - start < MAX_SIZE:
        return None
    try:
        types = parse(memory.read(placement.physical(start), stop - start), placement.words.size)
    except (UnmappedError, BtfError):
        return None
    places = types_of_kind(types.words, FUNC)
    if places is None or len(places) < MIN_FUNCTIONS:
        return None
    starts = types.words[places].astype(np.int64)
    text = np.frombuffer(types.strings, np.uint8)
    return Names.of(lanes(text), np.minimum(starts, len(text)))


def _dotted(symbols: SymbolTable, names: Names) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Indices of the symbols with a full stop inside their names, and the keys of what stands before the first.

    Without unlikely parts: these do not stand for their functions, but beside them.
    """
    assert names.ends is not None
    dots = np.flatnonzero(symbols.characters == ord("."))
    owner = np.searchsorted(names.ends, dots, "right")
    owner, first = np.unique(owner, return_index=True)
    dots = dots[first]
    inside = dots > names.starts[owner]
    inside &= ~np.isin(owner, names.cold, assume_unique=True)
    owner, dots = owner[inside], dots[inside]
    return owner, Names.of(names.text, names.starts[owner], dots).keys


def _changed(
    symbols: SymbolTable, names: Names, functions: Names, missing: NDArray[np.int64], confirmed: NDArray[np.bool_]
) -> list[tuple[int, str]]:
    """Functions of the table that no function among the types is called like, but one that is missing almost is."""
    texts = (functions.string(number) for number in missing[:MAX_LOOKED_AT].tolist())
    lost = [text for text in texts if not text.endswith(ADDED) and len(text) >= MIN_KEPT]
    if not lost:
        return []
    unknown = ~confirmed & np.isin(symbols.types(), TEXT) & (names.family == 0)
    unknown[names.cold] = False
    candidates = np.flatnonzero(unknown)
    if not len(candidates):
        return []
    near = NearNames.of(names, candidates)
    found: dict[int, str] = {}
    for wanted in lost:
        for index, have in near.near(wanted):
            if is_part(have.partition(b".")[0], wanted):
                # many functions are called like another one and go on
                continue
            found.setdefault(index, f"{have.decode('latin-1')} is called {wanted.decode('latin-1')} there")
    return list(found.items())
