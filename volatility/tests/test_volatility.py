"""Volatility on real guests, with symbol files that kallsift made: what plugins print is what the guest said itself."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest
import volatility3.schemas
from checks_processes import check_files, check_processes
from conftest import Vol, capture
from dumps import dump_of, kallsift
from runner import PLUGINS
from truth import Truth

GUESTS = ("amd64-7.2", "amd64-6.1", "amd64-5.10")


@pytest.fixture(scope="session")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Symbol files and configurations by guest, made when they are asked for."""
    return {"": tmp_path_factory.mktemp("symbols")}


def config_of(configuration: dict[str, Path], guest: str) -> Path:
    folder = configuration[""]
    if guest not in configuration:
        file = folder / f"{guest}.json"
        symbols = folder / f"{guest}.json.xz"
        kallsift("isf", capture(guest) / "memory.elf", "-o", symbols, "--config", file, "--as-dwarf2json")
        configuration[guest] = file
    return configuration[guest]


@pytest.mark.parametrize("guest", GUESTS)
def test_the_file_is_valid_by_its_schema(configuration: dict[str, Path], guest: str) -> None:
    fastjsonschema = pytest.importorskip("fastjsonschema")
    config_of(configuration, guest)
    folder = Path(volatility3.schemas.__path__[0])
    schema: dict[str, Any] = json.loads((folder / "schema-6.2.0.json").read_bytes())
    # of a draft that has no number
    rules = {name: value for name, value in schema.items() if name not in ("$schema", "id")}
    fastjsonschema.compile(rules)(json.loads(lzma.decompress((configuration[""] / f"{guest}.json.xz").read_bytes())))


@pytest.mark.parametrize("guest", GUESTS)
def test_processes(vol: Vol, configuration: dict[str, Path], guest: str) -> None:
    check_processes(vol("-c", config_of(configuration, guest), "linux.pslist.PsList"), Truth(capture(guest)))


@pytest.mark.parametrize("guest", GUESTS)
def test_command_lines(vol: Vol, configuration: dict[str, Path], guest: str) -> None:
    rows = vol("-c", config_of(configuration, guest), "linux.psaux.PsAux")
    assert {row["PID"]: row["ARGS"] for row in rows}[1] == "/bin/sh /init"


@pytest.mark.parametrize("guest", GUESTS)
def test_modules(vol: Vol, configuration: dict[str, Path], guest: str) -> None:
    rows = vol("-c", config_of(configuration, guest), "linux.lsmod.Lsmod")
    listed = (capture(guest) / "truth" / "modules").read_text().splitlines()
    assert [row["Module Name"] for row in rows] == [line.split()[0] for line in listed]


@pytest.mark.parametrize("guest", GUESTS)
def test_mounts(vol: Vol, configuration: dict[str, Path], guest: str) -> None:
    rows = vol("-c", config_of(configuration, guest), "linux.mountinfo.MountInfo")
    listed = (capture(guest) / "truth" / "mounts").read_text().splitlines()
    assert {line.split()[1] for line in listed} <= {row["MOUNT_POINT"] for row in rows}


@pytest.mark.parametrize("guest", GUESTS)
def test_open_files(vol: Vol, configuration: dict[str, Path], guest: str) -> None:
    rows = vol("-c", config_of(configuration, guest), "linux.lsof.Lsof")
    check_files(rows, Truth(capture(guest)))


@pytest.mark.parametrize("guest", GUESTS)
def test_hidden_modules_takes_the_file(vol: Vol, configuration: dict[str, Path], guest: str) -> None:
    assert vol("-c", config_of(configuration, guest), "linux.malware.hidden_modules.Hidden_modules") == []


@pytest.mark.parametrize("guest", ["amd64-6.1", "amd64-6.12-la57"])
def test_a_dump_of_which_nobody_has_symbols(vol: Vol, guest: str) -> None:
    """The second one has 5-level page tables, which Volatility has no layer for."""
    folder = capture(guest)
    for _ in range(2):
        # the second time, the file is in the cache
        check_processes(vol("-p", PLUGINS, "-f", folder / "memory.elf", "linux.pslist.PsList"), Truth(folder))


@pytest.mark.parametrize("format", ["raw", "lime", "kdump", "avml"])
def test_formats(vol: Vol, tmp_path: Path, format: str) -> None:
    """Volatility itself reads neither kdumps nor what AVML packs by Snappy, which comes along with the package."""
    folder = capture("amd64-6.1")
    check_processes(vol("-p", PLUGINS, "-f", dump_of(folder, format, tmp_path), "linux.pslist.PsList"), Truth(folder))
