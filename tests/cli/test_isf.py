"""``kallsift isf``: where the file goes, the configuration beside it, and what the exit code says."""

from __future__ import annotations

import json
import lzma
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kallsift.cli.options import source as source_options
from kallsift.kernel.kernel import Kernel
from kallsift.output.isf import configuration
from tests.cli.conftest import Command, Plant
from tests.kernel.made_up import IMAGE, made_up
from tests.output.sample import memory
from tests.types.typed_kernel import BTF, kernel_types, typed_kernel, without_names


def complete() -> Kernel:
    """A typed kernel whose table lists what Volatility needs."""
    kernel = typed_kernel()
    rows = [(symbol.address, symbol.type, symbol.name) for symbol in kernel.symbols]
    needed = ((IMAGE + 0x1F_F000 + 8 * index, "D", name) for index, name in enumerate(NEEDED))
    return replace(kernel, symbols=made_up(rows=sorted((*rows, *needed))).symbols)


NEEDED = ("linux_banner", "init_mm", "init_files")


def packed_json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lzma.decompress(path.read_bytes()))
    return found


def test_into_a_folder(command: Command, plant: Plant, tmp_path: Path) -> None:
    plant(complete())
    result = command("isf", "dump", "-o", tmp_path)
    (file,) = tmp_path.iterdir()
    assert (result.code, result.out, result.err) == (0, "", f"kallsift: wrote {file}\n")
    assert file.name.startswith("7.2.13-")
    assert file.name.endswith(".json.xz")
    found = packed_json(file)
    assert found["metadata"]["producer"]["name"] == "kallsift"
    assert {"task_struct", "module_private"} <= found["user_types"].keys()


def test_into_a_file(command: Command, plant: Plant, tmp_path: Path) -> None:
    plant(complete())
    file = tmp_path / "kernel.json"
    result = command("isf", "dump", "-o", file, "--core", "--as-dwarf2json")
    assert (result.code, result.out, result.err) == (0, "", "")
    found = json.loads(file.read_bytes())
    assert found["metadata"]["producer"]["name"] == "dwarf2json"
    assert "module_private" not in found["user_types"]
    assert json.loads(command("isf", "dump", "-o", "-").out)["user_types"]["list_head"]["size"] == 16


def test_every_kernel(command: Command, plant: Plant, tmp_path: Path) -> None:
    plant(complete(), replace(complete(), banner="Linux version 6.1.0"))
    assert command("isf", "dump", "--all", "-o", tmp_path).code == 0
    assert [file.name[:6] for file in sorted(tmp_path.iterdir())] == ["6.1.0-", "7.2.13"]
    assert command("isf", "dump", "--all", "-o", tmp_path / "kernel.json.xz").code == 0
    assert packed_json(tmp_path / "kernel.1.json.xz")["symbols"]["init_task"]


def test_names_that_volatility_would_not_read(command: Command, plant: Plant, tmp_path: Path) -> None:
    plant(complete())
    result = command("isf", "dump", "-o", tmp_path / "symbols")
    assert result.code == 2
    assert "symbols is not a folder; create it, or name a file that ends in .json.xz or .json." in result.err
    assert command("isf", "dump", "--all", "-o", tmp_path, "--config", tmp_path / "vol.json").code == 2
    assert command("isf", "dump", "-o", "-", "--config", tmp_path / "vol.json").code == 2


def test_a_table_that_lacks_what_volatility_needs(command: Command, plant: Plant, tmp_path: Path) -> None:
    plant(typed_kernel())
    result = command("isf", "dump", "-o", tmp_path / "kernel.json")
    assert result.code == 3
    assert "the symbol table lacks linux_banner, init_mm, init_files" in result.err


def test_a_kernel_without_types(command: Command, plant: Plant, tmp_path: Path) -> None:
    kernel = complete()
    rows = [(symbol.address, symbol.type, symbol.name) for symbol in kernel.symbols if "BTF" not in symbol.name]
    plant(made_up(rows=rows))
    result = command("isf", "dump", "-o", tmp_path / "kernel.json")
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert "this kernel carries no types" in result.err
    assert "--types FILE" in result.err
    types = tmp_path / "vmlinux.btf"
    types.write_bytes(kernel_types().data())
    assert command("isf", "dump", "-o", tmp_path / "kernel.json", "--types", types).code == 0


def test_every_kernel_of_which_one_has_no_types(command: Command, plant: Plant, tmp_path: Path) -> None:
    """The others are written all the same."""
    plant(made_up(), complete())
    result = command("isf", "dump", "--all", "-o", tmp_path)
    assert result.code == 3
    assert "kernel 0: this kernel carries no types" in result.err
    assert [file.name[:6] for file in tmp_path.iterdir()] == ["7.2.13"]
    plant(made_up())
    assert command("isf", "dump", "--all", "-o", tmp_path).code == 1


def test_names_of_types_that_are_lost(command: Command, plant: Plant, tmp_path: Path) -> None:
    """What is left is written, by every command that reads types."""
    damaged = typed_kernel(without_names(kernel_types().data(), b"pid_type"))
    plant(replace(damaged, symbols=complete().symbols))
    for words in (("isf", "-o", tmp_path / "kernel.json"), ("elf", "--types", "-o", tmp_path / "elf"), ("types",)):
        result = command(words[0], "dump", *words[1:])
        assert result.code == 3
        assert "some names of types and members are missing" in result.err
    assert json.loads((tmp_path / "kernel.json").read_bytes())["user_types"]["task_struct"]


def test_damaged_types_of_a_module(command: Command, plant: Plant, tmp_path: Path) -> None:
    kernel = typed_kernel(changes={BTF + 8: 5 << 32 | 60})
    plant(replace(kernel, symbols=complete().symbols))
    result = command("isf", "dump", "-o", tmp_path / "kernel.json")
    assert result.code == 3
    assert "the types of a module were left out" in result.err
    assert json.loads((tmp_path / "kernel.json").read_bytes())["user_types"]["task_struct"]


def test_the_configuration(command: Command, plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(complete())
    monkeypatch.setattr(source_options, "open_memory", lambda *_, **__: replace(memory("dump"), container="LiME"))
    file, config = tmp_path / "kernel.json.xz", tmp_path / "vol.json"
    assert command("isf", "memory.lime", "-o", file, "--config", config).code == 0
    found = json.loads(config.read_bytes())
    kernel = complete()
    layer = "kernel.layer_name"
    assert found["kernel.symbol_table_name.isf_url"] == file.as_uri()
    assert found[f"{layer}.class"].endswith("intel.LinuxIntel32e")
    assert found[f"{layer}.page_map_offset"] == kernel.page_table_root
    assert found[f"{layer}.kernel_virtual_offset"] == kernel.kaslr_slide
    assert found[f"{layer}.kernel_banner"] == "Linux version 7.2.13 (somebody@somewhere)\n\0"
    assert found[f"{layer}.memory_layer.class"].endswith("lime.LimeLayer")
    assert found[f"{layer}.memory_layer.base_layer.location"] == (Path.cwd() / "memory.lime").as_uri()


def test_a_configuration_that_volatility_has_no_layers_for(
    command: Command, plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(complete())
    monkeypatch.setattr(source_options, "open_memory", lambda *_, **__: replace(memory("dump"), container="kdump"))
    result = command("isf", "dump", "-o", tmp_path / "kernel.json", "--config", tmp_path / "vol.json")
    assert result.code == 1
    assert "write a LiME dump first: kallsift convert" in result.err
    monkeypatch.setattr(configuration, "TRANSLATIONS", {})
    result = command("isf", "dump", "-o", tmp_path / "kernel.json", "--config", tmp_path / "vol.json")
    assert "Volatility has no layer for x86-64 with 4-level page tables" in result.err
