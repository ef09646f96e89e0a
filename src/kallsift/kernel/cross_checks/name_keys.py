"""Make 64-bit keys of names: equal names have equal keys, and different names practically never.

A key is computed from eight characters at once of all names, so sets of many thousand names compare in a few
milliseconds. Nothing is proven by a key: differences are reported with the names themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.cross_checks.bounds import BOUNDS
from kallsift.lanes import LANE, lanes
from kallsift.threads import in_threads

CHUNK = 1 << 14
"""Number of names that are worked on at once: their arrays stay in the processor's cache."""

FEW = 1 << 14
"""Number of keys up to which they are looked up without a filter."""

MAX_NAME = 1024
"""Highest number of characters of a name that count; the kernel has 512 at most."""

HEAD = 4
"""Number of characters by which names are selected that can have a prefix: all prefixes are at least as long."""

PREFIXES = (
    b"__pfx_",
    b"__ksymtab_",
    b"__SCT__tp_func_",
    b"__SCK__tp_func_",
    b"__SCT__",
    b"__SCK__",
    b"__tracepoint_",
    b"__traceiter_",
    b"__probestub_",
    b"__tpstrtab_",
    b"__bpf_trace_tp_map_",
    b"__bpf_trace_",
    b"__event_enter_",
    b"__event_exit_",
    b"__event_",
    b"event_enter_",
    b"event_exit_",
    b"event_class_",
    b"event_",
    b"trace_event_raw_event_",
    b"trace_event_fields_",
    b"trace_event_type_funcs_",
    b"trace_raw_output_",
    b"perf_trace_",
    b"__TRACE_SYSTEM_",
    b"TRACE_SYSTEM_",
    b"__syscall_meta_",
    b"__p_syscall_meta_",
    b"types_",
    b"args_",
    b"__x64_sys_",
    b"__ia32_sys_",
    b"__setup_str_",
    b"__setup_",
    b"__param_str_",
    b"__param_",
    b"_kbl_addr_",
    b"_eil_addr_",
    b"__kstrtab_",
    b"__kstrtabns_",
    b"__flags_",
)
"""Prefixes that make a name a member of a family; of two prefixes of one name, the longer one comes first."""

BEFORE_NAMES = (b"__pfx_", b"__ksymtab_", b"_kbl_addr_", b"_eil_addr_", b"__kstrtab_", b"__kstrtabns_", b"__flags_")
"""The prefixes before another symbol's name: padding, exports, NOKPROBE_SYMBOL, ALLOW_ERROR_INJECTION."""

COLD = b".cold"
"""Suffix that GCC gives to the part of a function that it moves to the unlikely code."""

_SEED = np.uint64(0x9E3779B97F4A7C15)
_FACTOR = np.uint64(0xD6E8FEB86659FD93)
_SHIFT = np.uint64(32)
_ONES = np.uint64(0x0101010101010101)
_HIGH = np.uint64(0x8080808080808080)
MASKS = np.array([(1 << 8 * size) - 1 for size in range(LANE + 1)], np.uint64)
"""Masks of the lowest 0 to 8 characters of eight."""
_LENGTHS = np.array([0, *(len(prefix) for prefix in PREFIXES)], np.int64)
_BEFORE_NAMES = np.array([False, *(prefix in BEFORE_NAMES for prefix in PREFIXES)])
_FAMILIES = np.arange(len(PREFIXES) + 1, dtype=np.uint64) * np.uint64(0xA24BAED4963EE407)


def _mixed(keys: NDArray[np.uint64], part: NDArray[np.uint64]) -> NDArray[np.uint64]:
    keys = (keys ^ part) * _FACTOR
    return keys ^ keys >> _SHIFT


def keys_of(text: NDArray[np.uint64], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the keys of the names between some offsets.

    Args:
        text: the characters, from `lanes`.
        starts: offset of the beginning of each name, shape (n,).
        ends: offset of its end.
    """
    parts = (slice(first, first + CHUNK) for first in range(0, len(starts), CHUNK))
    keys = in_threads(lambda part: _keys_of(text, starts[part], ends[part]), parts)
    return np.concatenate([np.empty(0, np.uint64), *keys])


def _keys_of(text: NDArray[np.uint64], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Compute the keys of one chunk of names for `keys_of`."""
    keys = np.full(len(starts), _SEED, np.uint64)
    active, places, left = np.arange(len(starts)), starts, np.minimum(ends - starts, MAX_NAME)
    while True:
        on = left > 0
        if not on.all():
            active, places, left = active[on], places[on], left[on]
        if not len(active):
            return keys
        part = text[places] & MASKS.take(np.minimum(left, LANE))
        keys[active] = _mixed(keys[active], part)
        places, left = places + LANE, left - LANE


def keys_of_strings(text: NDArray[np.uint64], starts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the keys of the strings that begin at some offsets and end with a NUL.

    The keys are those of `keys_of`.
    """
    keys = np.full(len(starts), _SEED, np.uint64)
    active, places = np.arange(len(starts)), starts
    for _ in range(MAX_NAME // LANE):
        if not len(active):
            break
        part = text[np.minimum(places, len(text) - 1)]
        ended = (part - _ONES) & ~part & _HIGH
        # the lowest of these bits is that of the first NUL
        part = part & np.where(ended > 0, ((ended & (~ended + np.uint64(1))) >> np.uint64(7)) - np.uint64(1), MASKS[-1])
        some = part > 0
        keys[active[some]] = _mixed(keys[active[some]], part[some])
        on = ended == 0
        active, places = active[on], places[on] + LANE
    return keys


def families(text: NDArray[np.uint64], starts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the family of the name at each offset; shape (n,).

    It is 1 more than the index of its prefix, 0 for none.
    """
    result = np.zeros(len(starts), np.uint8)
    heads = text[starts].astype(np.uint32)
    for number, prefix in enumerate(PREFIXES, 1):
        found = np.flatnonzero(heads == np.uint32(int.from_bytes(prefix[:HEAD], "little")))
        for depth in range(HEAD, len(prefix), LANE):
            part = prefix[depth : depth + LANE]
            same = text[starts[found] + depth] & MASKS[len(part)]
            found = found[same == np.uint64(int.from_bytes(part, "little"))]
        result[found[result[found] == 0]] = number
    return result


class Family(NamedTuple):
    """Names that begin alike.

    Attributes:
        members: their indices, ascending; shape (n,), int64.
        stems: keys of what follows; equal for members of two families that go on alike.
    """

    members: NDArray[np.int64]
    stems: NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Names:
    """Names, each split into a prefix that makes it a member of a family, and the rest.

    Attributes:
        text: the characters, from `lanes`.
        starts: offset of the beginning of each name, without a letter; shape (n,), int64.
        ends: offset of its end; None where NULs end the names.
        family: 1 more than the index of its prefix among `PREFIXES`, 0 for none; shape (n,), uint8.
        stems: keys of the names without these prefixes, shape (n,), uint64; behind `BEFORE_NAMES`, keys of whole names.
    """

    text: NDArray[np.uint64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64] | None
    family: NDArray[np.uint8]
    stems: NDArray[np.uint64]

    @classmethod
    def of(cls, text: NDArray[np.uint64], starts: NDArray[np.int64], ends: NDArray[np.int64] | None = None) -> Names:
        """Return the names at some offsets."""
        family = families(text, starts)
        behind = starts + _LENGTHS[family]
        # behind the prefixes of BEFORE_NAMES stands a whole name, which can have a prefix itself
        outer = np.flatnonzero(_BEFORE_NAMES[family])
        inner = families(text, behind[outer])
        behind[outer] += _LENGTHS[inner]
        stems = keys_of_strings(text, behind) if ends is None else keys_of(text, behind, ends)
        stems[outer] = whole_keys(stems[outer], inner)
        return cls(text, starts, ends, family, stems)

    @classmethod
    def of_symbols(cls, symbols: SymbolTable) -> Names:
        """Return the names, without letters, of a table in which all are known."""
        return cls.of(lanes(symbols.characters), symbols.bounds[:-1] + 1, symbols.bounds[1:])

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        """Keys of the whole names."""
        return whole_keys(self.stems, self.family)

    @cached_property
    def ascending(self) -> NDArray[np.uint64]:
        """Keys of the whole names, ascending."""
        return np.sort(self.keys)

    def string(self, number: int) -> bytes:
        """Return one of the names."""
        start = int(self.starts[number])
        end = start + MAX_NAME if self.ends is None else int(self.ends[number])
        text = self.text[start:end].astype(np.uint8).tobytes()
        return text.partition(b"\0")[0] if self.ends is None else text

    def members(self, prefix: bytes) -> NDArray[np.int64]:
        """Return the indices of the names that begin with one of `PREFIXES`, ascending."""
        return np.flatnonzero(self.family == PREFIXES.index(prefix) + 1)

    def of_family(self, prefix: bytes, *, with_longer: bool) -> Family:
        """Return the names that begin with one of `PREFIXES`; also those with a longer one, if ``with_longer``."""
        members = self.members(prefix)
        parts = [Family(members, self.stems[members])]
        for longer in PREFIXES if with_longer else ():
            if longer != prefix and longer.startswith(prefix):
                members = self.members(longer)
                between = int.from_bytes(longer.removeprefix(prefix)[:LANE], "little")
                parts.append(Family(members, _mixed(self.stems[members], np.array(between, np.uint64))))
        members, stems = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        order = np.argsort(members)
        return Family(members[order], stems[order])

    def find(self, name: bytes) -> int | None:
        """Return the index of the first name equal to one of `BOUNDS`; None without one."""
        return self._bounds.get(int(_bound_keys()[name]))

    @cached_property
    def _bounds(self) -> Mapping[int, int]:
        """Index of the first name with the key of each of `BOUNDS`, for those that are there."""
        found = np.flatnonzero(is_among(self.keys, np.sort(np.array(list(_bound_keys().values()), np.uint64))))
        # the first index replaces later ones
        return dict(zip(self.keys[found[::-1]].tolist(), found[::-1].tolist(), strict=True))

    @cached_property
    def cold(self) -> NDArray[np.int64]:
        """Indices of the names that end with `COLD` and are longer, ascending."""
        assert self.ends is not None
        long = self.ends - self.starts > len(COLD)
        same = self.text[np.maximum(self.ends - len(COLD), 0)] & MASKS[len(COLD)]
        return np.flatnonzero(long & (same == np.uint64(int.from_bytes(COLD, "little"))))

    def without_end(self, indices: NDArray[np.int64], size: int) -> NDArray[np.uint64]:
        """Return the whole keys of some names without their last ``size`` characters."""
        assert self.ends is not None
        return Names.of(self.text, self.starts[indices], self.ends[indices] - size).keys


@lru_cache(maxsize=1)
def _bound_keys() -> Mapping[bytes, np.uint64]:
    """Return the keys of `BOUNDS`."""
    text = np.frombuffer(b"".join(name + b"\0" for name in BOUNDS), np.uint8)
    starts = np.cumsum([0, *(len(name) + 1 for name in BOUNDS[:-1])])
    return dict(zip(BOUNDS, Names.of(lanes(text), starts).keys, strict=True))


def whole_keys(stems: NDArray[np.uint64], family: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the keys of whole names, from the keys of their stems and their families."""
    return _mixed(stems, _FAMILIES[family])


def is_among(keys: NDArray[np.uint64], ascending: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Tell which keys are among some ascending ones; shape (n,)."""
    return matches(keys, ascending)[0]


def matches(keys: NDArray[np.uint64], ascending: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell which keys are among some ascending ones, and which of those were met.

    The shapes are (n,) and (m,). Of equal ascending keys only the first is met.
    """
    met = np.zeros(len(ascending), np.bool_)
    result = np.zeros(len(keys), np.bool_)
    if not len(ascending):
        return result, met
    likely = np.arange(len(keys))
    if len(keys) >= FEW:
        # most keys are not among them, and a small table tells this fast
        buckets = np.zeros(1 << 20, np.bool_)
        buckets[ascending >> np.uint64(44)] = True
        likely = np.flatnonzero(buckets.take(keys >> np.uint64(44)))
    places = np.minimum(np.searchsorted(ascending, keys[likely]), len(ascending) - 1)
    same = ascending[places] == keys[likely]
    result[likely[same]] = True
    met[places[same]] = True
    return result, met
