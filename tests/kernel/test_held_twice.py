"""What a kernel holds twice: a changed name or address that a second place contradicts is never proven."""

from __future__ import annotations

import numpy as np
import pytest

from kallsift.kallsyms.evidence import CheckId, Outcome
from kallsift.kernel.cross_checks.call_targets import CALLS, call_targets
from kallsift.kernel.cross_checks.name_keys import PREFIXES, Names
from kallsift.lanes import lanes
from tests.kernel.twice import ARRAY, PADDING, STRINGS, TYPES, Twice, function, put, twice, types_of

pytestmark = pytest.mark.sampled(2)

SIBLINGS, EXPORTS, BTF = CheckId.SIBLING_SYMBOLS, CheckId.EXPORTS_TWICE, CheckId.BTF_FUNCTIONS
STARTS, POINTERS = CheckId.FUNCTION_STARTS, CheckId.NAMED_POINTERS
ARRAYS, KEYS = CheckId.LINKER_ARRAYS, CheckId.STATIC_KEYS

EXPORTED, PLAIN, COLD = function(300), function(301), function(305)
"""A function that is exported, one that is not, and one with an unlikely part."""


@pytest.fixture(scope="module")
def kernel() -> Twice:
    return twice()


def test_an_untouched_kernel_contradicts_itself_nowhere(kernel: Twice) -> None:
    checks = kernel.checks()
    assert {name: check.outcome for name, check in checks.items() if check.outcome is not Outcome.PASSED} == {
        POINTERS: Outcome.ABSENT,
        STARTS: Outcome.ABSENT,
        ARRAYS: Outcome.ABSENT,
        KEYS: Outcome.ABSENT,
    }
    unpadded = twice(padded=False).checks()
    assert unpadded[STARTS].detail.startswith("0 names and 600 addresses")
    absent = {name for name, check in unpadded.items() if check.outcome is not Outcome.PASSED}
    assert absent == {POINTERS, ARRAYS, KEYS}
    assert checks[BTF].detail.startswith("600 names")
    assert checks[CheckId.HELD_TWICE].detail.startswith("1,400 of 1,526 symbols")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("relative", [True, False])
def test_forms_of_entries_and_byte_orders(order: str, relative: bool) -> None:
    kernel = twice(relative=relative, order=order)
    checks = kernel.checks()
    assert checks[EXPORTS].outcome is checks[BTF].outcome is Outcome.PASSED
    assert kernel.moved(EXPORTED, 4).failed() >= {EXPORTS}
    assert kernel.renamed(PLAIN, PLAIN.replace("i", "m")).failed() >= {BTF}


@pytest.mark.parametrize("relative", [True, False])
def test_exports_without_bounds_are_found_behind_the_code(relative: bool) -> None:
    kernel = twice(relative=relative, padded=False)
    rows = tuple(row for row in kernel.rows if "ksymtab" not in row[2] and not row[2].endswith(".cold"))
    kernel = Twice(rows, kernel.data)
    check = kernel.checks()[EXPORTS]
    assert check.outcome is Outcome.PASSED
    assert check.detail.startswith("200 names and 200 addresses")
    assert kernel.moved(EXPORTED, 4).failed() == {EXPORTS, STARTS}
    assert EXPORTS in kernel.renamed(EXPORTED, EXPORTED.replace("thing", "thino")).failed()
    assert EXPORTS not in kernel.renamed(PLAIN, PLAIN.replace("thing", "thino")).failed()


def test_a_name_that_is_exported_again_from_elsewhere_contradicts_nothing() -> None:
    """As ``memcpy`` of arm64, which is linked once more for the EFI stub; alone at that address, it does."""
    kernel = twice(relative=False, padded=False)
    rows = tuple(row for row in kernel.rows if "ksymtab" not in row[2] and not row[2].endswith(".cold"))
    data, entry = kernel.data.copy(), 24
    for number in (0, 1):
        # the second of two entries bears the first one's name, then the first one as well leads elsewhere
        data[ARRAY + entry + 8 : ARRAY + entry + 16] = kernel.data[ARRAY + 8 : ARRAY + 16]
        if number:
            data[ARRAY : ARRAY + 8] = kernel.data[ARRAY + 24 : ARRAY + 32]
        outcome = Twice(rows, data).checks()[EXPORTS].outcome
        assert outcome is (Outcome.FAILED if number else Outcome.PASSED)


@pytest.mark.parametrize(
    ("name", "contradicted"),
    [
        (EXPORTED, {SIBLINGS, EXPORTS, BTF}),
        (PLAIN, {SIBLINGS, BTF}),
        (f"__pfx_{PLAIN}", {SIBLINGS}),
        (f"__ksymtab_{EXPORTED}", {SIBLINGS, EXPORTS}),
        (f"{COLD}.cold", {SIBLINGS}),
    ],
)
def test_a_changed_name_is_contradicted(kernel: Twice, name: str, contradicted: set[str]) -> None:
    changed = kernel.renamed(name, name.replace("thing", "thino"))
    assert changed.failed() == contradicted
    details = [check.detail for check in changed.checks().values() if check.outcome is Outcome.FAILED]
    assert any(detail.startswith(("1 symbol contradicts", "2 symbols contradict")) for detail in details)


@pytest.mark.parametrize("name", [f"{COLD}.cold", f"__ksymtab_{EXPORTED}"])
def test_a_sibling_that_the_table_never_had_contradicts_nothing(kernel: Twice, name: str) -> None:
    """No name is there that a changed code could have made of it."""
    stem = COLD if name.endswith(".cold") else EXPORTED
    assert SIBLINGS not in kernel.renamed(name, name.replace(stem, "wholly_unlike_it")).failed()
    assert SIBLINGS in kernel.renamed(name, name.replace(stem, stem.replace("thing", "z"))).failed()


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", [EXPORTED, COLD, f"{COLD}.cold", f"__ksymtab_{EXPORTED}"])
def test_a_flipped_bit_is_contradicted_wherever_it_is(kernel: Twice, name: str) -> None:
    stem = name.removeprefix("__ksymtab_").removesuffix(".cold")
    for place, character in enumerate(stem):
        for bit in range(7):
            flipped = chr(ord(character) ^ 1 << bit)
            changed = name.replace(stem, stem[:place] + flipped + stem[place + 1 :])
            if flipped.isprintable() and flipped not in " .":
                assert SIBLINGS in kernel.renamed(name, changed).failed(), changed


@pytest.mark.parametrize("prefix", ["event_", "args_", "types_", "perf_trace_", "__event_"])
def test_a_changed_name_of_a_function_that_is_called_as_structures_are(prefix: str) -> None:
    """The functions `event_sched_in` and `args_parse` are usual ones: types have their names."""
    kernel = twice(padded=False)
    types = types_of([prefix + PLAIN, *(function(number) for number in range(600) if number != 301)])
    data = kernel.data.copy()
    data[TYPES:][: len(types)] = np.frombuffer(types, np.uint8)
    bounds = [row for row in kernel.rows if row[2] != "__stop_BTF"]
    rows = sorted([*bounds, (kernel_base(kernel) + len(types), "R", "__stop_BTF")], key=lambda row: row[0])
    kernel = Twice(tuple(rows), data).renamed(PLAIN, prefix + PLAIN)
    assert BTF not in kernel.failed()
    assert BTF in kernel.renamed(prefix + PLAIN, prefix + PLAIN.replace("thing", "thino")).failed()


def kernel_base(kernel: Twice) -> int:
    """Where the types begin."""
    return next(address for address, _, name in kernel.rows if name == "__start_BTF")


@pytest.mark.parametrize("plain", [0, 40])
@pytest.mark.parametrize("hooks", [20, 40])
def test_static_calls_of_tracepoints_follow_the_rule_of_all_static_calls(plain: int, hooks: int) -> None:
    """However few of each there are: together they are enough to be judged."""
    kernel = twice(padded=False)
    calls = [f"call_{number * 7919 % 1009}" for number in range(plain)]
    calls += [f"tp_func_{number * 7907 % 1013}" for number in range(hooks)]
    calls += [f"other_{number * 7883 % 1019}" for number in range(20)]
    last = kernel.rows[-1][0]
    added = [(last, letter, prefix + call) for call in calls for letter, prefix in (("t", "__SCT__"), ("d", "__SCK__"))]
    kernel = Twice((*kernel.rows, *added), kernel.data)
    assert not kernel.failed() - {POINTERS, STARTS}
    for call in (calls[-1], calls[plain]):
        assert SIBLINGS in kernel.renamed(f"__SCK__{call}", f"__SCK__{call[:-1]}z").failed()


@pytest.mark.parametrize("bit", range(4))
def test_a_changed_address_is_contradicted(kernel: Twice, bit: int) -> None:
    assert kernel.moved(PLAIN, 1 << bit).failed() == {SIBLINGS}
    assert kernel.moved(EXPORTED, 1 << bit).failed() == {SIBLINGS, EXPORTS}
    assert twice(padded=False).moved(PLAIN, 1 << bit).failed() == {STARTS}
    assert kernel.moved(f"__pfx_{PLAIN}", 1 << bit).failed() == {SIBLINGS}


@pytest.mark.parametrize("bit", range(3))
def test_a_changed_address_of_an_entry_is_contradicted(kernel: Twice, bit: int) -> None:
    assert kernel.moved(f"__ksymtab_{EXPORTED}", 1 << bit).failed() == {EXPORTS}


def test_a_call_of_something_else_contradicts_nothing() -> None:
    """A label that no symbol names, beside a function that something calls; and one that is called once only."""
    kernel = twice(padded=False)
    data = kernel.data.copy()
    for place, target in ((0x9000, 0x8014), (0x9010, 0x8014), (0x9020, 0x8008)):
        data[place : place + 5] = 0
        data[place] = 0xE8
        put(data, place + 1, target - place - 5)
    assert Twice(kernel.rows, data).failed() == set()


CALL_FORMS = {
    "x86-64": ("<", 0x1000, b"\xe8" + (0x1FFB).to_bytes(4, "little")),
    "x86": ("<", 0x1000, b"\xe8" + (0x1FFB).to_bytes(4, "little")),
    "arm64": ("<", 0x1000, (0x25 << 26 | 0x800).to_bytes(4, "little")),
    "arm": (">", 0x1000, (0xEB << 24 | 0x7FE).to_bytes(4, "big")),
    "mips": ("<", 0x1000, (3 << 26 | 0x103000 // 4).to_bytes(4, "little")),
    "mips64": (">", 0x1000, (3 << 26 | 0x103000 // 4).to_bytes(4, "big")),
    "ppc64": ("<", 0x1000, (18 << 26 | 0x2001).to_bytes(4, "little")),
    "s390x": (">", 0x1000, b"\xc0\xe5" + (0x1000).to_bytes(4, "big")),
    "loongarch64": ("<", 0x1000, (0x15 << 26 | 0x800 << 10).to_bytes(4, "little")),
}
"""Byte order, offset and bytes of a call that leads to 0x3000 in code at the address below."""


@pytest.mark.parametrize("architecture", CALLS)
def test_calls_of_each_architecture(architecture: str) -> None:
    order, place, raw = CALL_FORMS[architecture]
    code = np.zeros(0x4000, np.uint8)
    code[place : place + len(raw)] = np.frombuffer(raw, np.uint8)
    targets, calls = call_targets(architecture, code, order, 0xFFFF_FFFF_8010_0000)
    assert (targets.tolist(), calls.tolist()) == ([0x3000], [1])


def test_calls_backwards() -> None:
    code = np.zeros(0x4000, np.uint8)
    code[0x2000:0x2004] = np.frombuffer(((0x25 << 26) | (-0x400 & 0x3FFFFFF)).to_bytes(4, "little"), np.uint8)
    assert call_targets("arm64", code, "<", 0)[0].tolist() == [0x1000]
    assert call_targets("arm64", np.zeros(0, np.uint8), "<", 0)[0].tolist() == []


def test_what_is_lost_says_nothing(kernel: Twice) -> None:
    checks = kernel.without(ARRAY, STRINGS - ARRAY).checks()
    assert checks[EXPORTS].outcome is Outcome.ABSENT
    checks = kernel.without(TYPES, 1 << 16).checks()
    assert checks[BTF].outcome is Outcome.ABSENT
    checks = kernel.without(STRINGS, TYPES - STRINGS).checks()
    assert checks[EXPORTS].outcome is Outcome.ABSENT


def test_a_kernel_that_pairs_nothing_is_not_judged(kernel: Twice) -> None:
    """Padding at all distances is no padding that one tool made."""
    rows = tuple(
        (address + number % 8 if name.startswith("__pfx_") else address, letter, name)
        for number, (address, letter, name) in enumerate(kernel.rows)
    )
    assert PADDING > 8
    assert SIBLINGS not in Twice(rows, kernel.data).failed()


def test_functions_that_resolve_btfids_adds_are_none_that_the_table_lacks(kernel: Twice) -> None:
    """And neither are those that a compiler appended something to, or that are gone without a trace."""
    assert BTF not in kernel.renamed(PLAIN, f"{PLAIN}.isra.0").failed()
    assert BTF not in kernel.renamed(PLAIN, "something_else_entirely").failed()


def test_keys_tell_names_apart() -> None:
    texts = ["", "a", "ab", "abcdefgh", "abcdefghi", "abcdefg", "bacdefgh", *(f"name_{n}" for n in range(2000))]
    texts += [f"{prefix.decode()}{text}" for prefix in PREFIXES for text in ("a", "abcdefgh", "__pfx_a")]
    texts.append("_stext")
    joined = "\0".join(texts).encode() + b"\0"
    text = lanes(np.frombuffer(joined, np.uint8))
    ends = np.flatnonzero(np.frombuffer(joined, np.uint8) == 0)
    starts = np.concatenate(([0], ends[:-1] + 1))
    bounded, strings = Names.of(text, starts, ends), Names.of(text, starts)
    assert np.array_equal(bounded.keys, strings.keys)
    assert len(set(bounded.keys.tolist())) == len(set(texts))
    for number in (0, 3, 4, 100, len(texts) - 1):
        assert bounded.string(number) == strings.string(number) == texts[number].encode()
    assert bounded.find(b"_stext") == len(texts) - 1
    assert bounded.find(b"_etext") is None


def test_hostile_bounds_end() -> None:
    """Arrays and types of any size and content: an answer without an error."""
    kernel, chance = twice(), np.random.default_rng(7)
    for _ in range(40):
        data = kernel.data.copy()
        for low, high in ((ARRAY, STRINGS), (TYPES, TYPES + 4096)):
            place = int(chance.integers(low, high - 64))
            data[place : place + 64] = chance.integers(0, 256, 64)
        if chance.integers(2):
            put(data, TYPES + 12, int(chance.integers(0, 1 << 32)))
        Twice(kernel.rows, data).checks()
