"""JSON: every command's document has the shape that docs/json.schema.json describes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kallsift.analysis.dynamic import dynamic_symbols
from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols, SymbolGroup
from kallsift.cli.commands import check as check_command
from kallsift.cli.commands import exports as exports_command
from kallsift.cli.commands import modules as modules_command
from kallsift.kernel.kernel import Kernel
from kallsift.memory.memory import ImageFacts
from kallsift.modules.exports.exports import Exports
from tests.cli.conftest import Command, Plant
from tests.cli.json_schema import problems
from tests.kernel.made_up import made_up
from tests.modules.loadable import GOOD, LOADER
from tests.modules.made_exports import FOUND
from tests.modules.made_inventory import loaded
from tests.modules.module_builder import Built
from tests.output.sample import ROWS, kernel, memory, table, unproven
from tests.types.typed_kernel import typed_kernel


def image() -> Kernel:
    """A kernel that was found in an image file, and has lost the address of a symbol."""
    facts = ImageFacts(("bzImage", "zstd"), 0x4000)
    return kernel(memory=replace(memory(), image=facts), banner=None)


def nothing(_patch: pytest.MonkeyPatch) -> None:
    """Leaves everything as it is."""


def with_modules(patch: pytest.MonkeyPatch) -> None:
    group = SymbolGroup("xfs", table([(0xFFFFFFFFC0001000, "t", 'na"me\n\x80')]))
    patch.setattr(dynamic_symbols, "dynamic_symbols", lambda _, **__: DynamicSymbols((group,), ("BPF: unreadable",)))


def with_exports(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(exports_command, "exports_of", lambda _: Exports(FOUND.symbols, missing=("modules: gone",)))


def with_loader(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(check_command, "exports", lambda _: LOADER.exports)
    patch.setattr(check_command, "loader", lambda *_: LOADER)


def with_inventory(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(modules_command, "inventory", lambda _: loaded())


@pytest.mark.parametrize(
    ("command_line", "kernels", "prepare"),
    [
        (("info", "dump", "--json"), [kernel()], nothing),
        (("info", "dump", "--json", "--all"), [kernel(), unproven(), image()], nothing),
        (("symbols", "dump", "--format", "json"), [kernel()], with_modules),
        (("symbols", "dump", "--format", "json", "--core"), [kernel()], nothing),
        (("symbols", "dump", "--format", "json", "--all"), [kernel(), unproven(), image()], with_modules),
        (("exports", "dump", "--json"), [kernel()], with_exports),
        (("exports", "dump", "--json", "--all"), [kernel(), unproven()], with_exports),
        (("layout", "dump", "--json"), [made_up()], nothing),
        (("modules", "dump", "--json"), [kernel()], with_inventory),
        (("check", "dump", "--json", "--symbols", "MODULE", "OTHER"), [kernel()], with_loader),
        (("check", "dump", "--json", "--all", "MODULE"), [kernel(), kernel()], with_loader),
        (("types", "dump", "--json", "task_struct", "flags", "pid_type", "init_task"), [typed_kernel()], nothing),
        (("types", "dump", "--json", "--all", "read_0_thing0"), [typed_kernel(), made_up()], nothing),
    ],
)
def test_the_shape(
    command: Command,
    plant: Plant,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command_line: Sequence[str],
    kernels: Sequence[Kernel],
    prepare: Callable[[pytest.MonkeyPatch], None],
) -> None:
    plant(*kernels)
    prepare(monkeypatch)
    files = {"MODULE": tmp_path / "good.ko", "OTHER": tmp_path / "text.ko"}
    files["MODULE"].write_bytes(Built(**GOOD).data())
    files["OTHER"].write_text("none")
    result = command(*(files.get(word, word) for word in command_line))
    document = json.loads(result.out)
    assert problems(document) == []
    assert (document["format"], document["command"]) == (1, command_line[0])
    assert (document["source"], document["container"]) == ("dump", "raw")
    assert [one["banner"] for one in document["kernels"]] == [one.banner for one in kernels]


def test_the_shape_of_a_comparison(command: Command, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("".join(f"{address:016x} {kind} {name}\n" for address, kind, name in ROWS))
    other.write_text(one.read_text().replace("T _stext", "t _stext").replace("_end", "_ende"))
    document = json.loads(command("diff", one, other, "--json").out)
    assert problems(document) == []
    assert document["sources"] == [str(one), str(other)]


def without(document: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != key}


def test_what_has_another_shape_is_told(command: Command, plant: Plant) -> None:
    plant(kernel())
    document = json.loads(command("info", "dump", "--json").out)
    assert problems(document) == []
    (found,) = document["kernels"]
    assert problems(without(document, "container"))
    assert problems({**document, "format": 2})
    assert problems({**document, "command": "symbols"})
    assert problems({**document, "kernels": [without(found, "tables")]})
    assert problems({**document, "kernels": [{**found, "virtual_base": 5}]})
    assert problems({**document, "kernels": [{**found, "surprise": 5}]})
    assert problems({**document, "kernels": [{**found, "proven": 1}]})
