"""Names are compressed as the generator does it: a changed code, or a changed token, is noticed."""

from __future__ import annotations

import random

import numpy as np
import pytest
from numpy.typing import NDArray

from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kallsyms.format.name_codes import canonical_pairs, compression_check, token_merges
from kallsift.kallsyms.format.name_stream import Names
from kallsift.kallsyms.format.token_table import TokenTable
from tests.kallsyms.placed import ERAS_64, candidates, placed, sample
from tests.oracle.eras import ERAS, Era
from tests.oracle.tokens import compress, expand

pytestmark = pytest.mark.sampled(6)

NEWEST = next(era for era in ERAS if era.name == "7.0")


def of_tables(data: bytes) -> Check:
    """The check of the preferred candidate."""
    return next(check for check in candidates(data)[0].checks if check.name == CheckId.NAME_CODES)


def table(tokens: tuple[bytes, ...]) -> TokenTable:
    """A token table of these tokens."""
    starts = np.cumsum([0, *(len(token) + 1 for token in tokens)]).astype(np.int64)
    strings = np.frombuffer(b"".join(token + b"\0" for token in tokens), np.uint8)
    return TokenTable(0, None, starts, strings, "<")


def stream(entries: tuple[bytes, ...]) -> tuple[NDArray[np.uint8], Names]:
    """Entries with a length of one byte before each."""
    lengths = np.array([len(entry) for entry in entries], np.int64)
    starts = np.cumsum(lengths + 1) - lengths
    data = np.frombuffer(b"".join(bytes([len(entry)]) + entry for entry in entries), np.uint8)
    return data, Names(0, starts, lengths)


TEXTS = tuple(
    f"T{part}_{word}{number}".encode()
    for part in ("init", "exit", "___")
    for word in ("read", "aaaa", "nananana")
    for number in range(40)
)


@pytest.mark.parametrize("era", ERAS_64, ids=str)
def test_tables_of_every_era_keep_the_rule_or_have_none(era: Era) -> None:
    found = of_tables(placed(era, sample(era, 1500)).data)
    assert found.outcome is (Outcome.ABSENT if era.name.startswith("2.6.10") else Outcome.PASSED), found


@pytest.mark.slow
def test_pairs_are_those_that_the_generator_leaves() -> None:
    """Against encoding the two tokens' text anew, for all pairs."""
    tokens, _ = compress(TEXTS)
    merges = token_merges(table(tokens))
    assert not merges.inconsistent
    codes = [code for code in range(256) if tokens[code]]
    found = canonical_pairs(merges)

    def encoded(text: bytes) -> list[int]:
        result = list(text)
        for code in range(255, -1, -1):
            if merges.rank[code]:
                place = 0
                while place + 1 < len(result):
                    if result[place] == merges.left[code] and result[place + 1] == merges.right[code]:
                        result[place : place + 2] = [code]
                    place += 1
        return result

    for first in codes:
        for second in codes:
            assert found[first, second] == (encoded(tokens[first] + tokens[second]) == [first, second])


def test_a_name_that_no_text_is_compressed_to_is_noticed() -> None:
    tokens, entries = compress(TEXTS)
    assert compression_check(*stream(entries), table(tokens)).outcome is Outcome.PASSED
    # the same text in other codes: what the generator would have merged stands apart
    merges = token_merges(table(tokens))
    place = next(i for i, entry in enumerate(entries) if any(merges.rank[code] for code in entry))
    at = next(i for i, code in enumerate(entries[place]) if merges.rank[code])
    code = entries[place][at]
    apart = entries[place][:at] + bytes([merges.left[code], merges.right[code]]) + entries[place][at + 1 :]
    assert expand(tokens, apart) == expand(tokens, entries[place])
    check = compression_check(*stream((*entries[:place], apart, *entries[place + 1 :])), table(tokens))
    assert check.outcome is Outcome.FAILED
    assert f"line {place + 1}" in check.detail


def test_a_token_that_no_two_others_make_is_noticed() -> None:
    tokens, entries = compress(TEXTS)
    merges = token_merges(table(tokens))
    used = {int(part) for code in range(256) if merges.rank[code] for part in (merges.left[code], merges.right[code])}
    code = next(code for code in range(256) if len(tokens[code]) > 2 and code not in used)
    changed = (*tokens[:code], tokens[code][:-1] + b"Z", *tokens[code + 1 :])
    check = compression_check(*stream(entries), table(changed))
    assert check.outcome is Outcome.FAILED
    assert "Z" in check.detail


def test_some_flipped_bits_of_codes_are_noticed() -> None:
    """A share of them only: most pairs of tokens can stand beside each other."""
    texts = tuple((symbol.letter + symbol.name).encode() for symbol in sample(NEWEST, 2000))
    tokens, entries = compress(texts)
    chance = random.Random(1)
    noticed = 0
    for _ in range(100):
        number = chance.randrange(len(entries))
        entry = bytearray(entries[number])
        entry[chance.randrange(len(entry))] ^= 1 << chance.randrange(8)
        data, names = stream((*entries[:number], bytes(entry), *entries[number + 1 :]))
        noticed += compression_check(data, names, table(tokens)).outcome is Outcome.FAILED
    assert noticed > 5


def test_other_rules_are_not_judged() -> None:
    """Texts that nobody compressed, beside a table that would: many exceptions are no damage."""
    tokens, _ = compress(TEXTS)
    check = compression_check(*stream(TEXTS), table(tokens))
    assert check.outcome is Outcome.ABSENT
