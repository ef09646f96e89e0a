"""Files that list symbols: texts, and ELF files as ``nm`` reads them."""

from __future__ import annotations

import contextlib
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kallsift.errors import SourceError
from kallsift.questions import listing_elf, listing_text
from kallsift.questions.listing import Listing
from kallsift.questions.listings import listed
from tests.components import needs

TEXT = b"""\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _text
ffffffff81000000 T _stext
ffffffffc0001000 t init\t[xfs]
ffffffffc0000000 T xfs_thing\t[xfs]
ffffffffc0003000 t init\t[ext4]
ffffffffc0009000 t bpf_prog_1\t[bpf]
"""


def read(text: bytes) -> Listing:
    return listing_text.read("text", np.frombuffer(text, np.uint8))


def lines(listing: Listing) -> list[str]:
    groups = [("", listing.symbols), *((f"\t[{group.owner}]", group.symbols) for group in listing.dynamic.groups)]
    return [
        f"{symbol.address:0{2 * table.word_size}x} {symbol.type} {symbol.name}{owner}"
        for owner, table in groups
        for symbol in table
    ]


@pytest.mark.parametrize("text", [TEXT, TEXT.rstrip(), TEXT.replace(b"\n", b"\r\n"), b"\n".join((TEXT, TEXT[:0]))])
def test_a_text_is_read_as_it_is(text: bytes) -> None:
    assert lines(read(text)) == TEXT.decode().splitlines()


def test_words_of_32_bits() -> None:
    text = b"c0008000 T stext\nc0009000 t b\n"
    assert lines(read(text)) == text.decode().splitlines()


def test_a_text_in_another_order_is_sorted() -> None:
    assert lines(read(b"c0009000 t b\nc0008000 T stext\n")) == ["c0008000 T stext", "c0009000 t b"]


def test_undefined_and_unknown_symbols_are_passed_over() -> None:
    text = b"                 U printf\nffffffff81000000 T _text\n???????????????? ? lost\n"
    assert lines(read(text)) == ["ffffffff81000000 T _text"]


def test_control_characters_that_kallsift_escaped_are_restored() -> None:
    (symbol,) = read(rb"ffffffff81000000 t .L1\x01\x0a" + b"\n").symbols
    assert symbol.name == ".L1\x01\\x0a"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"0000000000000000 T _text\n0000000000000000 T x\n", "kptr_restrict"),
        (b"ffffffff81000000 T _text\nnonsense\n", "line 2"),
        (b"ffffffff81000000 T _text\nffffffff8100000g T x\n", "line 2"),
        (b"ffffffff81000000 T _text\nffffffff81000000 T \n", "line 2"),
        (b"ffffffff81000000 T _text\nc0008000 T x_long_enough\n", "line 2"),
    ],
)
def test_what_is_no_such_text(text: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read(text)


def test_too_many_owners() -> None:
    text = b"".join(b"ffffffff81000000 T x\t[m%d]\n" % number for number in range(listing_text.MAX_GROUPS + 1))
    with pytest.raises(SourceError, match="contrived"):
        read(text)


@given(st.binary(max_size=300))
def test_any_bytes(tail: bytes) -> None:
    for text in (tail, TEXT + tail):
        data = np.frombuffer(text, np.uint8)
        if listing_text.probe(data):
            with contextlib.suppress(SourceError):
                listing_text.read("text", data)


def test_what_a_file_is_is_told_by_its_content(tmp_path: Path) -> None:
    file = tmp_path / "vmlinuz"
    file.write_bytes(TEXT)
    found = listed(file)
    assert found is not None
    assert len(found.symbols) == 3
    file.write_bytes(b"\x7fELF" + bytes(100))
    assert listed(file) is None
    assert listed(file, elf=True) is None
    assert listed(tmp_path / "absent") is None
    assert listed("qemu:/run/socket") is None
    assert listed(tmp_path) is None


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ELF program with symbols of all kinds."""
    needs("as", "ld", "nm", package="binutils")
    folder = tmp_path_factory.mktemp("elf")
    text = [".text", ".globl _start", "_start: nop"]
    text += [f"function_{number}: nop" for number in range(300)]
    text += [".weak weakling", "weakling: nop", ".data", ".globl datum", "datum: .quad 1", "own: .quad 2"]
    text += ['.section .rodata,"a"', "constant: .quad 1", ".bss", ".globl zeroed", "zeroed: .skip 8"]
    text += [".globl absolute", ".set absolute, 0x1234", ".weak lack", ".quad lack"]
    text += ["__crc_thing = 5", "$d: .skip 4"]
    (folder / "a.s").write_text("\n".join(text).replace(".quad lack", "") + "\n")
    subprocess.run(["as", "-o", folder / "a.o", folder / "a.s"], check=True)
    subprocess.run(["ld", "-o", folder / "a", folder / "a.o"], check=True)
    return folder / "a"


def test_an_elf_file_is_read_as_nm_reads_it(program: Path) -> None:
    shown = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout.splitlines()
    wanted = [line for line in shown if not re.search(r" (__crc_|\$)", line) and not line.startswith(" ")]
    found = listed(program, elf=True)
    assert found is not None
    assert sorted(lines(found)) == sorted(wanted)
    assert listed(program) is None


def test_a_broken_elf_file_is_an_error_or_none(program: Path) -> None:
    whole = np.fromfile(program, np.uint8)
    random = np.random.default_rng(1)
    for _ in range(300):
        data = whole.copy()
        places = random.integers(0, len(data), 8)
        data[places] = random.integers(0, 256, 8)
        # headers, where every byte matters
        data[random.integers(len(data) - 600, len(data))] ^= 0xFF
        data[random.integers(24, 64)] ^= 0x01
        for cut in (data, data[: random.integers(0, len(data))]):
            if listing_elf.probe(cut):
                with contextlib.suppress(SourceError):
                    listing_elf.read("file", cut)
