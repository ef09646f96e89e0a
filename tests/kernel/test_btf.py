"""BTF as no kernel has it: types that hold themselves, that are cut off, that are named without end."""

from __future__ import annotations

import struct
import time

import numpy as np
import pytest

from kallsift.kernel.btf import ARRAY, MAGIC, STRUCT, TYPEDEF, BtfError, parse

Record = tuple[int, int, int]


def kind(number: int, members: int = 0) -> int:
    """The word that tells a type's kind and the number of its members."""
    return number << 24 | members


def types(words: list[int], strings: bytes = b"\0module\0") -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Types with their header."""
    body = struct.pack(f"<{len(words)}I", *words)
    header = struct.pack("<HBBIIIII", MAGIC, 1, 0, 24, 0, len(body), len(body), len(strings))
    return np.frombuffer(header + body + strings, np.uint8)


def test_members_of_inner_structures() -> None:
    inner = [0, kind(STRUCT, 1), 8, 4, 3, 32]
    outer = [1, kind(STRUCT, 2), 16, 0, 1, 64, 1, 3, 0]
    found = parse(types([*inner, *outer], b"\0module\0"), 8).struct("module")
    assert found is not None
    assert {name: member.offset for name, member in found.members.items()} == {"ule": 12, "module": 0}


def test_a_structure_that_holds_itself() -> None:
    """Each of its members is itself, so that there are more of them than anything could walk."""
    members = [word for _ in range(200) for word in (0, 1, 0)]
    started = time.monotonic()
    with pytest.raises(BtfError, match="no end"):
        parse(types([1, kind(STRUCT, 200), 8, *members]), 8).struct("module")
    assert time.monotonic() - started < 2


def test_types_that_are_cut_off() -> None:
    """What tells of more than there is, is none."""
    for words in ([1, kind(STRUCT, 9), 8, 0, 1, 0], [1, kind(ARRAY), 0], [1, kind(STRUCT, 1)]):
        found = parse(types(words), 8)
        assert found.struct("module") is None
        with pytest.raises(BtfError):
            found.struct_of(1)


def test_names_that_lead_in_circles() -> None:
    with pytest.raises(BtfError, match="do not end"):
        parse(types([1, kind(TYPEDEF), 1]), 8).size(1)


def test_one_name_again_and_again() -> None:
    strings = b"\0" + b"module\0" * 400_000
    started = time.monotonic()
    assert parse(types([9, kind(STRUCT, 0), 8] * 60_000, strings), 8).struct("module") is None
    assert time.monotonic() - started < 2
