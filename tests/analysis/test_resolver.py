"""The resolver's rules, on tables made by hand: what the kernel's source says, case by case."""

from __future__ import annotations

import numpy as np
import pytest

from kallsift.addresses import PhysicalAddress, VirtualAddress
from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols, SymbolGroup
from kallsift.analysis.symbol_lookup import Resolver
from kallsift.kernel.kernel import TableLocation
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.segments import BytesSegment
from tests.output.sample import Row, kernel, table

BASE = 0xFFFFFFFF81000000
MODULE = 0xFFFFFFFFC0000000

ROWS: list[Row] = [
    (0x0, "A", "fixed_percpu_data"),
    (BASE, "T", "_stext"),
    (BASE, "T", "_text"),
    (BASE + 0x10, "t", "twice"),
    (BASE + 0x20, "T", "both"),
    (BASE + 0x30, "t", "twice"),
    (BASE + 0x100, "T", "_etext"),
    (BASE + 0x200, "D", "data"),
    (BASE + 0x300, "B", "_end"),
    (BASE + 0x400, "D", "behind"),
]
MODULES = DynamicSymbols(
    (
        SymbolGroup(
            "late",
            table([(MODULE + 0x20, "t", "own"), (MODULE, "t", "begin"), (MODULE + 0x1000, "d", "value")]),
            (range(MODULE, MODULE + 0x800),),
        ),
        SymbolGroup(
            "early", table([(MODULE + 0x4000, "t", "both"), (MODULE + 0x4010, "U", "own"), (0x40, "a", "counter")])
        ),
        SymbolGroup("early", table([(MODULE + 0x8000, "T", "gone")]), sizes=np.array([0x10], np.uint64)),
        SymbolGroup("bpf", table([(MODULE + 0x9000, "t", "bpf_prog_x")]), sizes=np.array([0x80], np.uint64)),
        SymbolGroup("__builtin__kprobes", table([(MODULE + 0xA000, "t", "kprobe_insn_page")])),
    )
)
RESOLVER = Resolver(table(ROWS), MODULES)


@pytest.mark.parametrize(
    ("name", "address", "owner"),
    [
        ("twice", BASE + 0x10, ""),
        ("both", BASE + 0x20, ""),
        ("early:both", MODULE + 0x4000, "early"),
        ("own", MODULE + 0x20, "late"),
        ("early:own", None, ""),  # undefined there
        ("late:both", None, ""),
        ("late:twice", None, ""),  # of the kernel itself, not of the module
        ("nomodule:own", None, ""),
        (f"{'x' * 56}:own", None, ""),  # no colon where a module's name can end
        ("gone", None, ""),  # printed in /proc/kallsyms, but only for traces
        ("bpf_prog_x", None, ""),
        ("kprobe_insn_page", None, ""),
        ("", None, ""),
        (":", None, ""),
        ("\u4e00", None, ""),
    ],
)
def test_names(name: str, address: int | None, owner: str) -> None:
    found = RESOLVER.resolve(name)
    assert (found and found[0].address) == address
    assert (found[1] if found else "") == owner


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (BASE, "_stext+0x0/0x10"),
        (BASE + 0x2F, "both+0xf/0x10"),
        (BASE + 0x2FF, "data+0xff/0x100"),
        (BASE + 0x300, None),
        (BASE + 0x400, None),
        (BASE - 1, None),
        (0x8, None),
        (MODULE + 0x1F, "begin+0x1f/0x20 [late]"),
        (MODULE + 0x7FF, "own+0x7df/0x7e0 [late]"),  # to the end of the text, not to the next symbol
        (MODULE + 0x800, None),
        (MODULE + 0x1000, "value+0x0 [late]"),  # nothing tells where the data end
        (MODULE + 0x1001, None),
        (MODULE + 0x4000, "both+0x0 [early]"),
        (0x40, None),
        (MODULE + 0x800F, "gone+0xf/0x10 [early]"),
        (MODULE + 0x8010, None),
        (MODULE + 0x907F, "bpf_prog_x+0x7f/0x80"),
        (MODULE + 0xA000, "kprobe_insn_page+0x0 [__builtin__kprobes]"),
        (MODULE + 0xA001, None),
        (-1, None),
        (1 << 64, None),
    ],
)
def test_addresses(address: int, text: str | None) -> None:
    answer = RESOLVER.at(address)
    assert (answer and str(answer)) == text


def test_a_return_address_belongs_to_the_call_before_it() -> None:
    assert str(RESOLVER.backtrace(BASE + 0x20)) == "twice+0x10/0x10"
    assert str(RESOLVER.backtrace(BASE + 0x300)) == "data+0x100/0x100"
    assert RESOLVER.backtrace(BASE) is None


def test_where_only_functions_are_listed() -> None:
    rows: list[Row] = [
        (0xC0000000, "T", "_stext"),
        (0xC0001000, "T", "_etext"),
        (0xC0002000, "t", "between"),
        (0xC0003000, "T", "_sinittext"),
        (0xC0003000, "t", "initial"),
        (0xC0003100, "T", "_einittext"),
    ]
    resolver = Resolver(table(rows, 4))
    assert str(resolver.at(0xC0000FFF)) == "_stext+0xfff/0x1000"
    assert str(resolver.at(0xC00030FF)) == "_sinittext+0xff/0x100"
    assert resolver.at(0xC0001000) is None
    assert resolver.at(0xC0002000) is None
    assert resolver.at(0xC0003100) is None


def test_the_last_symbol_reaches_to_the_end_of_its_section() -> None:
    rows: list[Row] = [(BASE, "T", "_stext"), (BASE + 0x100, "B", "_end"), (BASE + 0x10, "T", "unsorted")]
    assert str(Resolver(table([rows[0], rows[2], rows[1]])).at(BASE + 0xFF)) == "unsorted+0xef/0xf0"


LTO: list[Row] = [
    (BASE, "t", "name.llvm.1"),
    (BASE + 0x10, "t", "name"),
    (BASE + 0x20, "t", "name.cold"),
    (BASE + 0x30, "t", "other.llvm.9"),
    (BASE + 0x40, "T", "zero"),
]


def ordered(indices: list[int]) -> Memory:
    """A memory with a seqs_of_names."""
    data = np.array([byte for index in indices for byte in index.to_bytes(3, "big")], np.uint8)
    return Memory("test", "raw", AddressSpace.PHYSICAL, (BytesSegment(0x1000, data),))


@pytest.mark.parametrize(
    ("indices", "name", "address"),
    [
        # whole names are in order: nothing is cut
        ([1, 2, 0, 3, 4], "name", BASE + 0x10),
        ([1, 2, 0, 3, 4], "name.llvm.1", BASE),
        ([1, 2, 0, 3, 4], "other", None),
        # equal when cut at .llvm.
        ([0, 1, 2, 3, 4], "name.llvm.1", BASE),
        ([0, 1, 2, 3, 4], "name", BASE),
    ],
)
def test_names_are_cut_where_the_order_shows_it(indices: list[int], name: str, address: int | None) -> None:
    place = TableLocation("seqs_of_names", PhysicalAddress(0x1000), VirtualAddress(0), 15)
    made = kernel(LTO, tables=(place,), memory=ordered(indices))
    resolver = Resolver.of(made)
    if name == "name.llvm.1" and resolver.cut == b".llvm.":
        address = None  # such a kernel compares with what is left only
    found = resolver.resolve(name)
    assert (found and found[0].address) == address


def test_a_kernel_that_cuts_prints_what_is_left() -> None:
    resolver = Resolver(table(LTO), cut=b".llvm.")
    assert str(resolver.at(BASE + 0x31)) == "other+0x1/0x10"
    assert [symbol.name for symbol in resolver.named("name")] == ["name.llvm.1", "name"]
    dots = Resolver(table(LTO), cut=b".")
    assert [symbol.name for symbol in dots.named("name")] == ["name.llvm.1", "name", "name.cold"]
    assert [symbol.name for symbol in dots.named("name.cold")] == ["name.cold"]


def test_an_order_that_is_none_cuts_nothing() -> None:
    place = TableLocation("seqs_of_names", PhysicalAddress(0x1000), VirtualAddress(0), 15)
    assert Resolver.of(kernel(LTO, tables=(place,), memory=ordered([9, 9, 9, 9, 9]))).cut == b""
    assert Resolver.of(kernel(LTO, tables=(place,), memory=Memory("", "", AddressSpace.PHYSICAL, ()))).cut == b""
