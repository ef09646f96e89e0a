"""Files that list symbols: texts, and ELF files as ``nm`` reads them."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kallsift.analysis.listings import elf as listing_elf
from kallsift.analysis.listings import text as listing_text
from kallsift.analysis.listings.lines import begins_listing
from kallsift.analysis.listings.listing import Listing
from kallsift.analysis.listings.open import listed
from kallsift.errors import SourceError
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


def note(listing: Listing) -> str:
    return " ".join(listing.notes)


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


def test_undefined_symbols_are_passed_over_and_lost_ones_are_known_to_be() -> None:
    text = b"                 U printf\nffffffff81000000 T _text\n???????????????? t lost\nffffffff81000010 ? ?\n"
    listing = read(text)
    assert lines(listing) == ["ffffffff81000000 T _text"]
    assert listing.symbols.whole.tolist() == [True, False, False]
    assert (listing.notes, listing.missing) == ((), ())


def test_bytes_that_kallsift_escaped_are_restored() -> None:
    text = rb"ffffffff81000000 t .L1\x01\x0a\x5cx41" + b"\n" + rb"ffffffff81000010 t a\xe9\x20" + b"\t[m\\x09]\n"
    (symbol,) = read(text).symbols
    assert symbol.name == ".L1\x01\n\\x41"
    (group,) = read(text).dynamic.groups
    assert (group.owner, group.symbols.names()) == ("m\t", ["a\xe9 "])


LISTED = lines(read(TEXT))
NULL = TEXT.replace(b"0000000000000000", b"          (null)")


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        (NULL, ""),
        (NULL.replace(b"          (null)", b"(null)"), ""),
        (b"\xef\xbb\xbf" + TEXT, ""),
        (b"\xff\xfe" + TEXT.replace(b"\n", b"\r\n").decode().encode("utf-16-le"), ""),
        (b"\xfe\xff" + TEXT.decode().encode("utf-16-be"), ""),
        (TEXT.replace(b"\t", b" "), ""),
        (TEXT.replace(b"\t", b"        "), ""),
        (TEXT.replace(b"\n", b"   \n"), ""),
        (TEXT.replace(b"\n", b"\r\r\n"), ""),
        (TEXT.replace(b"\n", b"\n\n"), ""),
        (b"".join(b"    " + line for line in TEXT.splitlines(keepends=True)), ""),
        (TEXT.replace(b" t ", b"  t\t"), ""),
        (b"$ sudo cat /proc/kallsyms\n" + TEXT, "a line that is not a symbol (line 1: $ sudo cat /proc/kallsyms)"),
        (
            b"# cat k\n[sudo] password:\n" + NULL + b"$ \n",
            "3 lines that are not symbols (the first is line 1: # cat k)",
        ),
        (TEXT.rstrip(), "its last line has no line end"),
    ],
)
def test_a_text_as_people_save_it(text: bytes, notes: str) -> None:
    data = text if text.startswith((b"\xff", b"\xfe")) else text[:4096]
    assert begins_listing(data)
    listing = read(text)
    assert lines(listing) == LISTED
    assert notes in note(listing)
    assert bool(notes) == bool(listing.notes)
    assert not listing.missing


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (TEXT + b"ffffffffc000", "line 8: ffffffffc000)"),
        (TEXT + b"ffffffffc0009000 t bpf_prog_2\t[bp", "line 8: ffffffffc0009000 t bpf_prog_2"),
        (b"ff81000000 T cut\n" + TEXT, "line 1: ff81000000 T cut)"),
        (TEXT.replace(b"ffffffff81000000 T _stext", b"--More--\nffffffff81000000 T _stext"), "line 3: --More--)"),
        (TEXT + b"ffffffff8100000g T x\n", "line 8: ffffffff8100000g T x)"),
        (TEXT + b"ffffffff81000000 T \n", "line 8: ffffffff81000000 T"),
        (TEXT + b"c0008000 T x_long_enough\n", "line 8: c0008000 T x_long_enough)"),
    ],
)
def test_what_cannot_be_used_is_named(text: bytes, first: str) -> None:
    listing = read(text)
    assert lines(listing) == LISTED
    (missing,) = listing.missing
    assert first in missing


def test_hidden_addresses_are_unknown() -> None:
    listing = read(TEXT.replace(b"0000000000000000", b"(____ptrval____)"))
    assert lines(listing) == LISTED[1:]
    assert listing.symbols.whole.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"0000000000000000 T _text\n0000000000000000 T x\n", "kptr_restrict"),
        (NULL[: NULL.index(b"\n") + 1] * 3, "kptr_restrict"),
        (b"(____ptrval____) T _text\n0000000000000000 T x\n", "kptr_restrict"),
        (b"nonsense\n", "no line"),
        (b"ffffffff81000000 T _text\n" + b"nonsense\n" * 300, "300 lines .* is line 2: nonsense"),
    ],
)
def test_what_is_no_such_text(text: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read(text)


def zstd(data: bytes) -> bytes:
    return bytes(pytest.importorskip("backports.zstd").compress(data))


def lz4(data: bytes) -> bytes:
    return bytes(pytest.importorskip("lz4.frame").compress(data))


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd,
    "lz4": lz4,
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_compressed_text(tmp_path: Path, compression: str) -> None:
    file = tmp_path / "saved"
    file.write_bytes(COMPRESSIONS[compression](TEXT))
    found = listed(file)
    assert found is not None
    assert lines(found) == LISTED
    file.write_bytes(COMPRESSIONS[compression](bytes(100)))
    assert listed(file) is None


def test_a_compressed_text_that_is_cut_short(tmp_path: Path) -> None:
    file = tmp_path / "saved.gz"
    file.write_bytes(gzip.compress(TEXT)[:-6])
    found = listed(file)
    assert found is not None
    assert lines(found) == LISTED
    assert "cut short" in found.missing[0]


def test_a_text_that_expands_without_end(tmp_path: Path) -> None:
    file = tmp_path / "saved.gz"
    file.write_bytes(gzip.compress(b"ffffffff81000000 T _text\n" * (1 << 19)))
    with patch.object(listing_text, "MAX_SIZE", 1 << 22), pytest.raises(SourceError, match="over 4 MiB"):
        listed(file)


def test_long_runs_of_blanks_take_no_time() -> None:
    blanks = b" " * 300_000
    text = b"".join(
        (TEXT, b"ffffffff81000000 T x", blanks, b"y\n", blanks, b"[m\n", b"ffffffff81000000 T z", blanks, b"\n")
    )
    start = time.process_time()
    assert lines(read(text))[-1] != ""
    assert time.process_time() - start < 10  # hundreds of seconds where each blank is a beginning


def test_too_many_owners() -> None:
    text = b"".join(b"ffffffff81000000 T x\t[m%d]\n" % number for number in range(listing_text.MAX_GROUPS + 1))
    with pytest.raises(SourceError, match="more than any kernel loads"):
        read(text)


@given(st.binary(max_size=300))
def test_any_bytes(tail: bytes) -> None:
    for text in (tail, TEXT + tail):
        data = np.frombuffer(text, np.uint8)
        if begins_listing(text):
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
