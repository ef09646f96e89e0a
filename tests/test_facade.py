"""The facade: what hangs on a kernel, when it is found out, and what remains of it without the source."""

from __future__ import annotations

import pickle
import rlcompleter
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kallsift
from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols, SymbolGroup, dynamic_symbols
from kallsift.analysis.pointer_tables.pointer_tables import Entry, PointerTable
from kallsift.kernel.access.virtual_memory import virtual_memory
from kallsift.kernel.kernel import Kernel as RecoveredKernel
from kallsift.memory.memory import ImageFacts, Memory
from kallsift.modules.exports.ksymtab_entries import Checksums, EntryForm
from kallsift.modules.field_offsets import layout_from_btf
from kallsift.modules.inventory import Inventory, LoadedModule
from kallsift.modules.struct_module import structures_at
from tests.kernel.images import WIDE
from tests.kernel.made_machine import Machine
from tests.kernel.made_up import TABLE, WORDS, made_up
from tests.modules.export_images import export_image
from tests.types.typed_kernel import typed_kernel

NO_MODULES = np.empty(0, np.uint64)

ASKED = {
    "symbols",
    "modules",
    "exports",
    "layout",
    "types",
    "dynamic",
    "read",
    "lookup",
    "check",
    "symbolize",
    "compare",
}


@pytest.fixture
def kernel() -> kallsift.Kernel:
    return kallsift.recover(Machine().memory())


def completed(text: str, names: dict[str, object]) -> set[str]:
    """What Python's prompt offers where the tabulator is pressed behind a text."""
    completer = rlcompleter.Completer(names)
    found: set[str] = set()
    while offered := completer.complete(text, len(found)):
        found.add(offered.removeprefix(text).rstrip("()"))
    return found


def test_a_prompt_shows_what_can_be_asked_and_asks_nothing(
    kernel: kallsift.Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> object:
        raise AssertionError("completion reads the source")

    for name in ("read", "words", "around", "between"):
        monkeypatch.setattr(Memory, name, read)
    assert completed("kernel.", {"kernel": kernel}) >= ASKED


def test_every_way_leads_to_one_that_can_be_asked() -> None:
    memory = Machine().memory()
    kernels = (kallsift.recover(memory), *kallsift.recover_all(memory))
    assert {type(kernel) for kernel in kernels} == {kallsift.Kernel}
    assert isinstance(kernels[0], RecoveredKernel)
    fetched = kallsift.OnDemandMemory(lambda address, size: None)
    with pytest.raises(kallsift.RecoveryError):
        kallsift.recover_from_address(fetched)


def test_an_answer_is_found_once(kernel: kallsift.Kernel) -> None:
    for name in ("modules", "layout", "dynamic", "resolver", "virtual_processors"):
        assert getattr(kernel, name) is getattr(kernel, name), name
    assert replace(kernel, banner=None).layout is not kernel.layout


def test_memory_is_read_where_the_kernel_has_it(kernel: kallsift.Kernel) -> None:
    banner = kernel.symbols["linux_banner"].address
    assert kernel.read(banner, 24) == b"Linux version 7.1.0-made"
    assert kernel.read(banner, 0) == b""
    for address, size in ((0, 1), (banner, 1 << 40), (-1, 1)):
        with pytest.raises(kallsift.UnmappedError):
            kernel.read(address, size)


def test_an_image_is_read_where_it_is_linked(kernel: kallsift.Kernel) -> None:
    memory = replace(kernel.memory, image=ImageFacts(("vmlinux",), 0))
    image = replace(kernel, memory=memory, state=kallsift.State.IMAGE)
    assert image.read(image.symbols["linux_banner"].address, 13) == b"Linux version"
    with pytest.raises(kallsift.KallsiftError, match="the addresses of this image are unknown"):
        replace(image, is_placed=False).read(0, 1)
    with pytest.raises(kallsift.KallsiftError, match="a kernel image has no other memory"):
        _ = image.modules


def test_names_and_addresses_are_looked_up_as_the_kernel_does(kernel: kallsift.Kernel) -> None:
    symbol = kernel.symbols["linux_banner"]
    named = kernel.lookup("linux_banner")
    assert named is not None
    assert (named.symbol, named.location.offset, named.owner) == (symbol, 0, "")
    inside = kernel.lookup(np.uint64(symbol.address + 5))
    assert inside is not None
    assert (inside.symbol, inside.location.offset, inside.location.size) == (symbol, 5, named.location.size)
    assert kernel.lookup("no_such_symbol") is None
    assert kernel.lookup(0) is None
    for what in (None, 1.5, b"linux_banner"):
        with pytest.raises(TypeError):
            kernel.lookup(what)  # type: ignore[arg-type]


def test_modules_are_looked_up_behind_the_kernel(kernel: kallsift.Kernel) -> None:
    symbols = replace(kernel.symbols, addresses=kernel.symbols.addresses + np.uint64(1 << 30))
    kernel._known["dynamic"] = DynamicSymbols((SymbolGroup("made", symbols),))
    found = kernel.lookup("made:linux_banner")
    assert found is not None
    assert (found.owner, found.symbol.address) == ("made", kernel.symbols["linux_banner"].address + (1 << 30))
    assert repr(found) == f"<Answer linux_banner+0x0/{found.location.size:#x} [made]>"


def test_a_log_is_annotated(kernel: kallsift.Kernel) -> None:
    address = kernel.symbols["linux_banner"].address
    text = kernel.symbolize(f"RIP: 0010:{address + 1:#x}\r\n\udcff \u20ac\nend")
    assert text.startswith(f"RIP: 0010:{address + 1:#x} <linux_banner+0x1/")
    assert text.endswith(">\r\n\udcff \u20ac\nend")


def test_kernels_are_compared(kernel: kallsift.Kernel) -> None:
    other = kallsift.recover(Machine(base=0xFFFF_FFFF_8200_0000).memory())
    assert (kernel.compare(other).slide, kernel.compare(other).agree) == (0x100_0000, True)
    assert not kernel.compare(kallsift.Listing(replace(kernel.symbols, addresses=kernel.symbols.addresses[::-1]))).agree
    with pytest.raises(TypeError, match=r"compare\(\) takes a Kernel or a Listing, not NoneType"):
        kernel.compare(None)  # type: ignore[arg-type]


def test_a_file_that_is_no_module(kernel: kallsift.Kernel, tmp_path: Path) -> None:
    with pytest.raises(kallsift.KallsiftError, match="no array of names and addresses"):
        kernel.check(tmp_path / "driver.ko")


@pytest.mark.parametrize(
    "ask",
    [
        lambda kernel: kernel.modules,
        lambda kernel: kernel.exports,
        lambda kernel: kernel.layout,
        lambda kernel: kernel.types,
        lambda kernel: kernel.dynamic,
        lambda kernel: kernel.lookup("linux_banner"),
        lambda kernel: kernel.read(kernel.virtual_base, 1),
        lambda kernel: kernel.check("driver.ko"),
        lambda kernel: kernel.pointer_table("lists"),
    ],
)
def test_a_pickle_says_what_to_do(kernel: kallsift.Kernel, ask: Callable[[kallsift.Kernel], object]) -> None:
    assert kernel.layout
    again = pickle.loads(pickle.dumps(kernel))
    assert type(again) is kallsift.Kernel
    with pytest.raises(kallsift.KallsiftError, match="its bytes are not here: it was pickled; open the source again"):
        ask(again)


def counted(monkeypatch: pytest.MonkeyPatch, place: str) -> list[object]:
    """The arguments of all calls of a function from now on."""
    module, _, name = place.rpartition(".")
    calls: list[object] = []
    function = getattr(import_module(module), name)

    def call(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        return function(*arguments, **named)

    monkeypatch.setattr(place, call)
    return calls


def test_types_are_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = kallsift.Kernel.of(typed_kernel())
    parsed = counted(monkeypatch, "kallsift.types.find.parse")
    assert kernel.types["task_struct"].size == 40
    assert layout_from_btf(kernel, virtual_memory(kernel), structures_at(virtual_memory(kernel), NO_MODULES))
    assert kernel.modules.unknown == ()
    assert kernel.dynamic.groups == ()
    assert len(parsed) == 1


def test_types_that_are_not_there_are_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = kallsift.Kernel.of(typed_kernel(b"", text_only=True))
    searched = counted(monkeypatch, "kallsift.types.find.places_of")
    assert dynamic_symbols(kernel, with_regions=False).groups == ()
    assert searched == [], "the symbols of modules need no types"
    for _ in range(2):
        with pytest.raises(kallsift.KallsiftError, match="its image has no BTF header"):
            assert kernel.types
    assert layout_from_btf(kernel, virtual_memory(kernel), structures_at(virtual_memory(kernel), NO_MODULES)) is None
    assert len(searched) == 1


def test_exports_need_no_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = kallsift.Kernel.of(export_image(WIDE, EntryForm(3, True), Checksums(4)).kernel(data_symbols=True))
    built = counted(monkeypatch, "kallsift.modules.insmod.kernel_config.loader")
    read = counted(monkeypatch, "kallsift.modules.exports.exports.exports")
    assert len(kernel.exports)
    assert not built
    assert kernel._loader.exports is kernel.exports
    assert (len(built), len(read)) == (1, 1)


def test_a_table_of_pointers_takes_the_symbols_that_are_known() -> None:
    kernel = kallsift.Kernel.of(made_up({**WORDS, TABLE: 1}))
    kernel._known["dynamic"] = DynamicSymbols((), ("modules: gone",))
    assert kernel.pointer_table("sys_call_table").missing == ("modules: gone",)


def test_modules_by_their_names() -> None:
    module = LoadedModule(0x1000, (), None)  # type: ignore[arg-type]
    module.__dict__["name"] = "made"
    found = Inventory((module,), (), (), 8)
    assert "made" in found
    assert module in found
    assert "other" not in found
    assert found["made"] is found.get("made") is module
    assert found.get("other") is None
    with pytest.raises(KeyError):
        found["other"]


def test_results_outlive_a_closed_file(tmp_path: Path) -> None:
    path = tmp_path / "memory.raw"
    path.write_bytes(Machine().data.tobytes())
    with kallsift.open(path) as memory:
        kernel = kallsift.recover(memory)
    del memory
    path.unlink()
    assert kernel.lookup("linux_banner") is not None
    assert kernel.layout.agrees
    assert kernel.modules.modules == ()
    assert kernel.read(kernel.symbols["linux_banner"].address, 13) == b"Linux version"


def test_each_object_is_one_line(kernel: kallsift.Kernel) -> None:
    symbol = kernel.symbols["linux_banner"]
    found: tuple[object, ...] = (
        kernel,
        kernel.symbols,
        symbol,
        kernel.symbols.at(symbol.address + 1),
        kernel.lookup(symbol.address + 1),
        kernel.memory,
        kernel.memory.segments,
        Machine().memory(cr3=5).hints,
        kallsift.CpuState(0, {"cr3": 5}),
        kernel.tables[0],
        kernel.evidence[0],
        kernel.modules,
        kernel.layout,
        kernel.layout.regions[0],
        kernel.layout.page_table,
        kernel.dynamic,
        SymbolGroup("made", kernel.symbols),
        kernel.resolver,
        kallsift.Annotator(kernel.resolver),
        kallsift.Annotator(kernel.resolver, distance=-4096),
        PointerTable("calls", (), "made"),
        Entry(1, symbol.address, symbol.address, "linux_banner+0x0", "not in the text"),
        kernel.compare(kernel),
        kallsift.Listing(kernel.symbols),
        kallsift.Difference(kallsift.Change.MISSING, "made", symbol, None),
        kallsift.VirtualProcessor(kernel.tables[0].physical, 1, None, 0x1000, None, None, None, ()),
        kallsift.OnDemandMemory(lambda address, size: None),
    )
    for each in found:
        assert len(repr(each)) < 200, each
        assert repr(each).isprintable(), each
    assert repr(symbol) == f"<Symbol {symbol.address:#x} D linux_banner>"
    assert repr(kernel.dynamic) == "<DynamicSymbols: 0 symbols in 0 groups>"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Dynamic", "DynamicSymbols"),
        ("Fetched", "OnDemandMemory"),
        ("Group", "SymbolGroup"),
        ("TablePlace", "TableLocation"),
        ("recover_near", "recover_from_address"),
    ],
)
def test_old_names_work_and_warn(old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"{old} is now kallsift.{new}"):
        assert getattr(kallsift, old) is getattr(kallsift, new)
