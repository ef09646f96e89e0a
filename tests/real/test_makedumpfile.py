"""makedumpfile takes the ELF cores that kallsift writes, and every dump that it makes of them is read: genuine kdumps.

Pages are compared with those of the guest's own dump, tables with what the guest's kernel printed. The firmware of a PC
is left out of the cores, since makedumpfile takes it for a hole and gives up.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import kallsift
from kallsift.cli.app import run
from kallsift.output.dumps.elf_core import elf_core_dump
from kallsift.output.dumps.machine_facts import memory_facts
from tests.components import needs
from tests.lab import Capture
from tests.real.comparison import compare, text_of, wrong_letters
from tests.real.conftest import Taken

GUESTS = ("amd64-7.2", "amd64-5.10")
AT_ONCE = 1 << 22
FIRMWARE = 0xE000_0000

WAYS = ("-c -d 0", "-l -d 1", "-d 31", "-c -d 31", "-E -d 31", "-c -d 31 -F", "-E -d 0 -F", "-p -d 31", "-z -d 31")
"""Packed with zlib, lzo, snappy and zstd, or not; as ELF; filtered or not; flattened (-F)."""


@pytest.fixture(scope="module", params=GUESTS)
def guest(request: pytest.FixtureRequest, taken: Taken) -> Capture:
    return taken(request.param)


@pytest.fixture(scope="module")
def core(guest: Capture, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guest's memory as kallsift writes it, without firmware."""
    folder = tmp_path_factory.mktemp("core")
    source, path = folder / "ram.elf", folder / "converted.elf"
    with kallsift.open(guest.dump("elf")) as memory, source.open("wb") as out:
        ram = tuple(each for each in memory.segments if not FIRMWARE <= each.start < 1 << 32)
        for offset, data in elf_core_dump(replace(memory, segments=ram), memory_facts(memory, None)):
            out.seek(offset)
            out.write(data)
    assert run(["convert", str(source), str(path)]) == 0
    source.unlink()
    return path


def made(core: Path, way: str, target: Path) -> None:
    """What makedumpfile makes of a core; skips what its build does not offer."""
    needs("makedumpfile")
    command = ["makedumpfile", *way.split(), str(core)]
    if "-F" in way:
        with target.open("wb") as out:
            result = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True)
    else:
        result = subprocess.run([*command, str(target)], capture_output=True, text=True)
    told = (result.stdout or "") + result.stderr
    if "disabled" in told or "unsupported" in told:
        pytest.skip(f"this build of makedumpfile has no {way}")
    assert result.returncode == 0, told


def assert_same(path: Path, guest: Capture) -> kallsift.Memory:
    """All that the dump holds is as the guest's own dump has it, and the table is the guest's."""
    with kallsift.open(path) as memory, kallsift.open(guest.dump("elf")) as own:
        for segment in memory.segments:
            for start in range(0, segment.size, AT_ONCE):
                data = segment.read(start, start + AT_ONCE)
                assert np.array_equal(data, own.read(segment.start + start, len(data)))
        assert len(memory.hints.cpus) == len(own.hints.cpus)
        assert memory.hints.cpus[0].registers["cr3"] == own.hints.cpus[0].registers["cr3"]
        assert memory.hints.vmcoreinfo == own.hints.vmcoreinfo
        kernel = kallsift.recover(memory)
        assert kernel.proven
        assert compare(text_of(kernel), guest.core_kallsyms(), wrong_letters(memory, kernel)).same
        return memory


@pytest.mark.parametrize("way", WAYS)
def test_what_makedumpfile_makes(guest: Capture, core: Path, tmp_path: Path, way: str) -> None:
    target = tmp_path / "vmcore"
    made(core, way, target)
    memory = assert_same(target, guest)
    assert memory.container == ("flattened " if "-F" in way else "") + ("ELF core" if "-E" in way else "kdump")
    assert memory.notes == ()


WRITERS = {
    "flattened": ("makedumpfile -c -d 31 -F", "core"),
    "gzip": ("gzip -1 -c", "elf"),
    "zstd": ("zstd -1 -c", "elf"),
}
"""What writes a guest's memory into a pipe, and of which file: that of the fixture, or the guest's own dump."""


@pytest.mark.parametrize("name", WRITERS)
def test_from_a_pipe(guest: Capture, core: Path, name: str) -> None:
    command, source = WRITERS[name]
    path = core if source == "core" else guest.dump(source)
    reader = [sys.executable, "-m", "kallsift", "symbols", "--core", "-"]
    with (
        subprocess.Popen([*command.split(), path], stdout=subprocess.PIPE) as writer,
        subprocess.Popen(reader, stdin=writer.stdout, stdout=subprocess.PIPE) as ours,
    ):
        table, _ = ours.communicate(timeout=300)
    assert (writer.returncode, ours.returncode) == (0, 0)
    assert table == guest.core_kallsyms()


def test_a_split_dump(guest: Capture, core: Path, tmp_path: Path) -> None:
    parts = [tmp_path / name for name in "abc"]
    subprocess.run(["makedumpfile", "-l", "--split", core, *parts], check=True, capture_output=True)
    assert assert_same(parts[0], guest).notes == ()


@pytest.mark.parametrize("packing", ["zlib", "zstd"])
def test_a_kdump_of_ours_is_filtered_once_more(guest: Capture, core: Path, tmp_path: Path, packing: str) -> None:
    ours, theirs = tmp_path / "ours.kdump", tmp_path / "theirs.kdump"
    assert run(["convert", "--packing", packing, str(core), str(ours)]) == 0
    assert_same(ours, guest)
    made(ours, "-c -d 31", theirs)
    assert_same(theirs, guest)


@pytest.mark.parametrize("name", ["converted.elf", "converted.kdump"])
def test_crash_and_drgn_open_it(guest: Capture, core: Path, tmp_path: Path, name: str) -> None:
    path = core
    if name.endswith("kdump"):
        path = tmp_path / name
        assert run(["convert", str(core), str(path)]) == 0
    release = guest.manifest["kernel"]["release"]
    needs("crash")
    told = subprocess.run(["crash", "--osrelease", path], capture_output=True, text=True, check=True).stdout
    assert told.strip() == release
    drgn = pytest.importorskip("drgn")
    program = drgn.Program()
    program.set_core_dump(path)
    with kallsift.open(path) as memory:
        kernel = kallsift.recover(memory)
    # by drgn's own walk of the page table that VMCOREINFO names
    assert release.encode() in program.read(kernel.symbols["init_uts_ns"].address, 400)
    assert program.read(kernel.symbols["linux_banner"].address, 14) == b"Linux version "
