"""Volatility on real guests, with symbol files that kallsift made: what plugins print is what the guest said itself."""

from __future__ import annotations

import json
import lzma
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import volatility3.schemas
from conftest import PLUGINS, Rows, Vol, capture

from kallsift import open as open_dump
from tests.memory.writers.avml import blocks

GUESTS = ("amd64-7.2", "amd64-6.1", "amd64-5.10")


def kallsift(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "kallsift", *arguments], check=True, timeout=600)


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


def processes(folder: Path) -> dict[int, tuple[int, str]]:
    """Parent and name of each process, as the guest itself printed them: pid, ppid, ..., name."""
    rows = (line.split("\t") for line in (folder / "truth" / "processes.tsv").read_text().splitlines())
    return {int(pid): (int(parent), name) for pid, parent, _, name, *_ in rows}


def check_processes(rows: Rows, folder: Path) -> None:
    """Those that the guest saw are there; later ones may have begun, and short ones ended."""
    wanted = processes(folder)
    found = {row["PID"]: (row["PPID"], row["COMM"]) for row in rows}
    same = [pid for pid in wanted if pid in found and found[pid][0] == wanted[pid][0]]
    assert len(same) >= len(wanted) - 3
    assert len(found) <= len(wanted) + 3
    for pid in same:
        own, theirs = found[pid][1], wanted[pid][1]
        # workers are called by what they do in /proc
        assert own[:7] == theirs[:7], pid


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
    check_processes(vol("-c", config_of(configuration, guest), "linux.pslist.PsList"), capture(guest))


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
    lines = (capture(guest) / "truth" / "descriptors.tsv").read_text().splitlines()
    pairs = ((place.split("/"), path) for place, path in (line.split("\t") for line in lines))
    wanted = {(int(pid), int(number)): path for (_, _, pid, _, number), path in pairs}
    found = {(row["PID"], row["FD"]): row["Path"] for row in rows}
    # those that printed the list have ended, and others have begun
    both = {pid for pid, _ in wanted} & {pid for pid, _ in found}
    assert len(both) > 5
    assert {place: path for place, path in found.items() if place[0] in both} == {
        place: path for place, path in wanted.items() if place[0] in both
    }


@pytest.mark.parametrize("guest", GUESTS)
def test_hidden_modules_takes_the_file(vol: Vol, configuration: dict[str, Path], guest: str) -> None:
    assert vol("-c", config_of(configuration, guest), "linux.malware.hidden_modules.Hidden_modules") == []


@pytest.mark.parametrize("guest", ["amd64-6.1", "amd64-6.12-la57"])
def test_a_dump_of_which_nobody_has_symbols(vol: Vol, guest: str) -> None:
    """The second one has 5-level page tables, which Volatility has no layer for."""
    folder = capture(guest)
    for _ in range(2):
        # the second time, the file is in the cache
        check_processes(vol("-p", PLUGINS, "-f", folder / "memory.elf", "linux.pslist.PsList"), folder)


def test_a_kdump(vol: Vol, tmp_path: Path) -> None:
    """Volatility does not read it."""
    folder = capture("amd64-6.1")
    dump = tmp_path / "memory.kdump"
    kallsift("convert", folder / "memory.elf", dump, "--format", "kdump")
    check_processes(vol("-p", PLUGINS, "-f", dump, "linux.pslist.PsList"), folder)


def test_a_packed_dump_of_avml(vol: Vol, tmp_path: Path) -> None:
    """Packed by Snappy, which comes along with the package."""
    folder = capture("amd64-6.1")
    dump = tmp_path / "memory.avml"
    with open_dump(folder / "memory.elf") as memory, dump.open("wb") as file:
        for segment in memory.segments:
            file.writelines(blocks([(segment.start, segment.read().tobytes())]))
    check_processes(vol("-p", PLUGINS, "-f", dump, "linux.pslist.PsList"), folder)
