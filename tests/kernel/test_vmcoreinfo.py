"""VMCOREINFO texts, true and hostile."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kallsift
from kallsift.kernel.checks.vmcoreinfo import MAX_SIZE, parse
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment
from tests.examples import examples

TEXT = b"""OSRELEASE=6.12.107+deb13-amd64
BUILD-ID=0123456789abcdef0123456789abcdef01234567
PAGESIZE=4096
SYMBOL(init_uts_ns)=ffffffff9d41dcc0
OFFSET(uts_namespace.name)=0
SYMBOL(_stext)=ffffffff9b600000
NUMBER(phys_base)=1048576
KERNELOFFSET=1a600000
"""

bounded = settings(derandomize=True, max_examples=examples(150))


def test_a_true_text() -> None:
    info = parse(TEXT, "note")
    assert info is not None
    assert info.origin == "note"
    assert info.symbol("_stext") == 0xFFFF_FFFF_9B60_0000
    assert info.kernel_offset == 0x1A60_0000
    assert info.values["OSRELEASE"] == "6.12.107+deb13-amd64"
    assert len(info.values) == 8


def test_what_follows_a_nul_is_not_read() -> None:
    info = parse(TEXT + b"\0SYMBOL(x)=1\n", "note")
    assert info is not None
    assert info.symbol("x") is None


def test_missing_keys() -> None:
    info = parse(b"OSRELEASE=x\nPAGESIZE=4096\n", "0x1000")
    assert info is not None
    assert info.symbol("_stext") is None
    assert info.kernel_offset is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\0",
        b"OSRELEASE=",
        b"OSRELEASE=%s\n",
        b"OSRELEASE=6.1\nBUILD-ID=0\n",
        b" OSRELEASE=6.1\nPAGESIZE=4096\n",
        b"OSRELEASE=6.1\0\nPAGESIZE=4096\n",
        b"OSRELEASE=" + b"6" * 600 + b"\nPAGESIZE=4096\n",
        b"PAGESIZE=4096\nOSRELEASE=6.1\n",
    ],
)
def test_other_texts(text: bytes) -> None:
    assert parse(text, "note") is None


@pytest.mark.parametrize("value", [b"", b"x", b"ffffffff9b60000g", b"=", b"0x", b"--1", b"\xff"])
def test_values_that_are_no_number(value: bytes) -> None:
    info = parse(TEXT.replace(b"ffffffff9b600000", value).replace(b"1a600000", value), "note")
    assert info is not None
    assert info.symbol("_stext") is None
    assert info.kernel_offset is None


@pytest.mark.parametrize("value", [b"-5", b"1_0", b"+5", b"1" * 17, b"f" * 60_000])
def test_values_that_are_no_address(value: bytes) -> None:
    info = parse(TEXT.replace(b"ffffffff9b600000", value).replace(b"1a600000", value), "note")
    assert info is not None
    assert info.symbol("_stext") is None
    assert info.kernel_offset is None


def test_the_first_of_a_key_counts() -> None:
    info = parse(TEXT + b"SYMBOL(_stext)=1\nOSRELEASE=2\n", "note")
    assert info is not None
    assert info.symbol("_stext") == 0xFFFF_FFFF_9B60_0000
    assert info.values["OSRELEASE"] == "6.12.107+deb13-amd64"


def test_lines_without_a_key_or_value() -> None:
    info = parse(TEXT + b"\n\n=\n=x\nCRASHTIME\nA=b=c\n", "note")
    assert info is not None
    assert info.values["A"] == "b=c"
    assert "CRASHTIME" not in info.values


def test_a_huge_text_is_cut() -> None:
    info = parse(TEXT + b"".join(b"KEY%d=1\n" % number for number in range(1 << 17)), "note")
    assert info is not None
    assert sum(len(key) + len(value) + 2 for key, value in info.values.items()) <= MAX_SIZE + 2


@bounded
@given(st.binary(max_size=400), st.booleans())
def test_no_text_raises(text: bytes, begun: bool) -> None:
    info = parse(TEXT[:88] + text if begun else text, "note")
    if info is not None:
        assert info.values["OSRELEASE"]
        for key in info.values:
            info.symbol(key)


@bounded
@given(st.dictionaries(st.from_regex(r"[a-z_.]{1,20}", fullmatch=True), st.integers(0, (1 << 64) - 1), max_size=20))
def test_every_symbol_is_read(symbols: dict[str, int]) -> None:
    lines = "".join(f"SYMBOL({name})={address:x}\n" for name, address in symbols.items())
    info = parse(b"OSRELEASE=1\nPAGESIZE=4096\n" + lines.encode(), "note")
    assert info is not None
    assert {name: info.symbol(name) for name in symbols} == symbols


@pytest.mark.parametrize(
    ("numbers", "start"),
    [
        ("SYMBOL(_stext)=ffffffff85e00000\nNUMBER(phys_base)=262144000\n", 0x15800000),
        ("SYMBOL(_stext)=ffffafb10ea10000\nNUMBER(kimage_voffset)=0xffffafb0ce800000\n", 0x40210000),
        ("SYMBOL(_stext)=ffffffff85e00000\nNUMBER(phys_base)=1e9\n", None),
        ("SYMBOL(_stext)=ffffffff81000000\nNUMBER(phys_base)=-16777216\n", None),
    ],
)
def test_a_dump_that_is_cut_short_before_its_kernel(numbers: str, start: int | None) -> None:
    text = f"OSRELEASE=6.1.0\x1b\nPAGESIZE=4096\n{numbers}".encode()
    data = np.zeros(1 << 20, np.uint8)
    data[0x3000 : 0x3000 + len(text)] = np.frombuffer(text, np.uint8)
    memory = Memory("dump", "raw", AddressSpace.PHYSICAL, (BytesSegment(0, data),))
    with pytest.raises(kallsift.RecoveryError) as caught:
        kallsift.recover(memory)
    said = (
        rf"the VMCOREINFO at 0x3000 says that the code of 6.1.0\x1b begins at {start or 0:#x}, and the dump ends at "
        "0x100000: it seems to be cut short"
    )
    assert (said in str(caught.value)) == (start is not None)
    assert ("cut short" in str(caught.value)) == (start is not None)
