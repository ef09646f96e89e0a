"""Compare symbols with their siblings in the same table, whose names and addresses follow from theirs.

Tools and macros make siblings together. So a name without its sibling is damaged if there is another name without a
sibling that a changed code could have made of it; if not, the table never had the sibling. A rule counts only in a
kernel in which almost all its symbols follow it; otherwise it is no rule of that kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kallsyms.evidence import CheckId
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.cross_checks.findings import Finding
from kallsift.kernel.cross_checks.name_keys import COLD, Family, Names, is_among
from kallsift.kernel.cross_checks.near_names import MIN_KEPT, NearNames

MIN_MEMBERS = 32
"""Lowest number of symbols of a kind that make a rule."""

MAX_EXCEPTIONS = 0.01
"""Highest share of them that may break the rule; with more, it is no rule of this kernel."""

MAX_LOOKED_AT = 256
"""Highest number of missing siblings that are searched under a changed name."""

ALIASES = 8
"""Number of symbols behind padding among which its function is searched."""

PADDING = b"__pfx_"
"""Prefix that objtool gives to the padding before a function (since 6.2): it is always the same number of bytes before
the function."""


@dataclass(frozen=True)
class Rule:
    """Each name with one prefix has a sibling with another prefix and the same rest.

    Attributes:
        prefix: prefix of the names that are checked.
        sibling: prefix of the names that must be there.
        mutual: whether the rule holds the other way round as well.
        with_longer: whether names with a longer prefix of `PREFIXES` follow this rule too.
    """

    prefix: bytes
    sibling: bytes
    mutual: bool = False
    with_longer: bool = False


RULES = (
    Rule(b"__SCT__", b"__SCK__", mutual=True, with_longer=True),
    Rule(b"__traceiter_", b"__tracepoint_"),
    Rule(b"__probestub_", b"__traceiter_", mutual=True),
    Rule(b"__tpstrtab_", b"__tracepoint_"),
    Rule(b"trace_event_fields_", b"trace_event_raw_event_"),
    Rule(b"trace_event_type_funcs_", b"trace_raw_output_"),
    Rule(b"__event_enter_", b"event_enter_", mutual=True),
    Rule(b"__event_exit_", b"event_exit_", mutual=True),
    Rule(b"__bpf_trace_", b"trace_event_raw_event_"),
    Rule(b"__TRACE_SYSTEM_", b"TRACE_SYSTEM_", mutual=True),
    Rule(b"__bpf_trace_tp_map_", b"__tracepoint_"),
    Rule(b"__p_syscall_meta_", b"__syscall_meta_", mutual=True),
    Rule(b"__x64_sys_", b"__ia32_sys_", mutual=True),
    Rule(b"__setup_str_", b"__setup_"),
    Rule(b"__kstrtabns_", b"__kstrtab_"),
)
"""Rules that follow from DEFINE_STATIC_CALL, DEFINE_TRACE, TRACE_EVENT, TRACE_DEFINE_ENUM, SYSCALL_DEFINE, __setup and
EXPORT_SYMBOL."""

OF_PLAIN_NAMES = (b"__ksymtab_", b"_kbl_addr_", b"_eil_addr_")
"""Prefixes before another symbol's name, made by EXPORT_SYMBOL, NOKPROBE_SYMBOL and ALLOW_ERROR_INJECTION."""


def sibling_finding(names: Names, symbols: SymbolTable) -> Finding:
    """Compare all symbols with their siblings."""
    confirmed = np.zeros(len(symbols), np.bool_)
    placed = confirmed.copy()
    broken: list[tuple[int, str]] = []
    plain: list[NDArray[np.uint64]] = []
    for rule in RULES:
        family, siblings = (names.of_family(each, with_longer=rule.with_longer) for each in (rule.prefix, rule.sibling))
        broken += _paired(names, rule, family, siblings, confirmed)
        if rule.mutual:
            turned = Rule(rule.sibling, rule.prefix)
            broken += _paired(names, turned, siblings, family, confirmed)
    for prefix in OF_PLAIN_NAMES:
        members = names.members(prefix)
        broken += _of_plain(members, names.stems[members], (prefix, b""), (names, confirmed, plain))
    members = names.cold
    broken += _of_plain(members, names.without_end(members, len(COLD)), (b"", COLD), (names, confirmed, plain))
    if plain:
        confirmed |= is_among(names.keys, np.sort(np.concatenate(plain)))
    broken += _padding(names, symbols, confirmed, placed)
    if not confirmed.any():
        return Finding.none(CheckId.SIBLING_SYMBOLS, len(confirmed), "no symbols of this kernel come in pairs")
    first = min(broken, default=(0, ""))[1]
    return Finding(CheckId.SIBLING_SYMBOLS, confirmed, placed, len(broken), first)


def _holds(members: int, exceptions: int) -> bool:
    """Tell whether a rule is one of this kernel's."""
    return members >= MIN_MEMBERS and exceptions <= max(1, MAX_EXCEPTIONS * members)


def _paired(
    names: Names, rule: Rule, family: Family, siblings: Family, confirmed: NDArray[np.bool_]
) -> list[tuple[int, str]]:
    """Return the members of a family without a sibling in another family.

    Nothing is returned if the rule does not hold. Members with a sibling, and their siblings, are marked in
    ``confirmed``.
    """
    members, others = family.members, siblings.members
    paired = is_among(family.stems, np.sort(siblings.stems))
    if not _holds(len(members), int(np.count_nonzero(~paired))):
        return []
    turned = is_among(siblings.stems, np.sort(family.stems))
    confirmed[members[paired]] = True
    confirmed[others[turned]] = True
    single = np.ones(len(confirmed), np.bool_)
    single[members[paired]] = single[others[turned]] = False
    lone = ((index, names.string(index)) for index in members[~paired].tolist())
    return _changed(names, single, [(index, rule.sibling + text.removeprefix(rule.prefix)) for index, text in lone])


def _of_plain(
    members: NDArray[np.int64],
    stems: NDArray[np.uint64],
    around: tuple[bytes, bytes],
    marked: tuple[Names, NDArray[np.bool_], list[NDArray[np.uint64]]],
) -> list[tuple[int, str]]:
    """Return the symbols that are named after another symbol which is missing.

    All others are marked as confirmed, and the keys of the symbols that they are named after are added to ``plain``.
    """
    names, confirmed, plain = marked
    paired = is_among(stems, names.ascending)
    if not _holds(len(members), int(np.count_nonzero(~paired))):
        return []
    confirmed[members[paired]] = True
    plain.append(stems)
    if paired.all():
        return []
    prefix, suffix = around
    single = ~is_among(names.keys, np.sort(stems[paired]))
    single[members] = False
    lone = ((index, names.string(index)) for index in members[~paired].tolist())
    return _changed(names, single, [(index, text.removeprefix(prefix).removesuffix(suffix)) for index, text in lone])


def _changed(names: Names, single: NDArray[np.bool_], wanted: list[tuple[int, bytes]]) -> list[tuple[int, str]]:
    """Return the symbols whose sibling is missing, if its name may have been changed.

    A changed code could then have made another name of it.

    Args:
        names: all names.
        single: whether each name has no sibling by this rule, shape (n,).
        wanted: index of each symbol without a sibling, and the sibling's name.
    """
    if not wanted:
        return []
    near = NearNames.of(names, np.flatnonzero(single))
    found: list[tuple[int, str]] = []
    for number, (index, text) in enumerate(wanted):
        is_asked = number < MAX_LOOKED_AT and len(text) >= MIN_KEPT
        if not is_asked or any(near.near(text)):
            found.append((index, f"{_name(names, index)} has no {text.decode('latin-1')}"))
    return found


def _name(names: Names, index: int) -> str:
    return names.string(index).decode("latin-1")


def _padding(
    names: Names, symbols: SymbolTable, confirmed: NDArray[np.bool_], placed: NDArray[np.bool_]
) -> list[tuple[int, str]]:
    """Return the padding that is not right before its function.

    All other padding, and its functions, are marked. The function is the next symbol with another address, or one of
    its aliases.
    """
    members = names.members(PADDING)
    if len(members) < MIN_MEMBERS:
        return []
    addresses, keys, wanted = symbols.addresses, names.keys, names.stems[members]
    partner = np.minimum(members + 1, len(symbols) - 1)
    found = keys[partner] == wanted
    for step in range(2, ALIASES + 1):
        left = np.flatnonzero(~found)
        others = np.minimum(members[left] + step, len(symbols) - 1)
        same = keys[others] == wanted[left]
        partner[left[same]], found[left[same]] = others[same], True
    distances = addresses[partner] - addresses[members]
    usual = np.median(distances[found]) if found.any() else 0
    right = found & (distances == usual)
    if not _holds(len(members), int(np.count_nonzero(~right))):
        return []
    for mask in (confirmed, placed):
        mask[members[right]] = True
        mask[partner[right]] = True
    lone = ((index, _name(names, index)) for index in members[~right].tolist())
    return [
        (index, f"{name.removeprefix(PADDING.decode())} is not {usual:.0f} bytes behind {name}") for index, name in lone
    ]
