"""Compare the names of functions among the kernel's types (BTF) with the symbols, which must have each of them.

pahole writes a BTF_KIND_FUNC for functions of vmlinux's own symbol table (Documentation/bpf/btf.rst), without the
suffixes that a compiler appended to their names. resolve_btfids adds some that no symbol has (``_impl``, since 7.1). So
a missing name counts only if there is a symbol that no function's name fits, and that a change could have made of it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.arrays import distinct
from kallsift.kallsyms.evidence import CheckId
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.access.btf_blob import ADDED, MAX_SIZE, MIN_FUNCTIONS, BtfError, Kind, parse
from kallsift.kernel.cross_checks.bounded_table import bounded_table
from kallsift.kernel.cross_checks.findings import Finding
from kallsift.kernel.cross_checks.name_keys import PREFIXES, Names, is_among, matches
from kallsift.kernel.cross_checks.near_names import MIN_KEPT, NearNames, is_part
from kallsift.kernel.placement.placement import Placement
from kallsift.lanes import lanes
from kallsift.memory.memory import Memory

MAX_MISSING = 0.02
"""Highest share of them that the table may lack; with more, they are not this kernel's."""

MAX_LOOKED_AT = 256
"""Highest number of missing names that are searched for."""

TEXT = np.frombuffer(b"tTwW", np.uint8)

WITHOUT_TYPES = (
    b"__pfx_",
    b"__ksymtab_",
    b"__SCT__",
    b"__SCK__",
    b"__tracepoint_",
    b"__traceiter_",
    b"__bpf_trace_tp_map_",
    b"__syscall_meta_",
    b"__p_syscall_meta_",
    b"__x64_sys_",
    b"__ia32_sys_",
    b"__setup_str_",
    b"__setup_",
    b"_kbl_addr_",
    b"__kstrtab_",
    b"__kstrtabns_",
    b"__flags_",
)
"""Prefixes of names that tools and macros make, to which pahole gives no type: not one is a changed name of a function.
Other prefixes of families, like ``event_``, begin names of usual functions too."""

_IS_WITHOUT_TYPES = np.array([False, *(prefix.startswith(WITHOUT_TYPES) for prefix in PREFIXES)])


def btf_finding(memory: Memory, placement: Placement, names: Names) -> Finding:
    """Compare the functions among the kernel's types with the symbols."""
    symbols = placement.symbols
    functions = _functions(memory, placement, names)
    if functions is None:
        return Finding.none(
            CheckId.BTF_FUNCTIONS, len(symbols), "the kernel has no types of its own, or they name no functions"
        )
    wanted = distinct(functions.keys)
    confirmed, met = matches(names.keys, wanted)
    dotted, stems = _dotted(symbols, names)
    before_dots, met_before = matches(stems, wanted)
    missing = np.flatnonzero(is_among(functions.keys, wanted[~(met | met_before)]))
    if len(missing) > MAX_MISSING * len(functions.keys):
        return Finding.none(
            CheckId.BTF_FUNCTIONS, len(symbols), "the functions among the types are not those of the table"
        )
    confirmed[dotted[before_dots]] = True
    broken = _changed(symbols, names, functions, missing, confirmed) if len(missing) else []
    first = min(broken, default=(0, ""))[1]
    return Finding(CheckId.BTF_FUNCTIONS, confirmed, np.zeros(len(symbols), np.bool_), len(broken), first)


def _functions(memory: Memory, placement: Placement, names: Names) -> Names | None:
    """Return the names of the functions among the types; None without any."""
    table = bounded_table(memory, placement, names, (b"__start_BTF", b"__stop_BTF"), range(1, MAX_SIZE))
    if table is None:
        return None
    try:
        types = parse(table.data)
        places = types.of_kind(Kind.FUNC)
    except BtfError:
        return None
    if len(places) < MIN_FUNCTIONS:
        return None
    starts = types.words[places].astype(np.int64)
    text = np.frombuffer(types.strings, np.uint8)
    return Names.of(lanes(text), np.minimum(starts, len(text)))


def _dotted(symbols: SymbolTable, names: Names) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return the symbols with a full stop inside their names, and keys of their stems.

    The symbols are indices; a stem is the name before the first full stop. Cold parts of functions are left out: they
    do not stand for their functions, but beside them.
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
    """Return the symbols whose names may be changed names of missing functions.

    They are functions of the table with a name that no function among the types has, but that a missing one almost has.

    Returns:
        The index of each symbol, and a clause for the message.
    """
    texts = (functions.string(number) for number in missing[:MAX_LOOKED_AT].tolist())
    lost = [text for text in texts if not text.endswith(ADDED.encode()) and len(text) >= MIN_KEPT]
    if not lost:
        return []
    unknown = ~confirmed & np.isin(symbols.types(), TEXT) & ~_IS_WITHOUT_TYPES[names.family]
    unknown[names.cold] = False
    candidates = np.flatnonzero(unknown)
    if not len(candidates):
        return []
    near = NearNames.of(names, candidates)
    found: dict[int, str] = {}
    for wanted in lost:
        for index, have in near.near(wanted):
            if is_part(have.partition(b".")[0], wanted):
                # many names of functions begin with the name of another function, so this is no sign of a change
                continue
            found.setdefault(index, f"{have.decode('latin-1')} is called {wanted.decode('latin-1')} there")
    return list(found.items())
