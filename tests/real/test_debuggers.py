"""DWARF of real guests, in the debuggers that it is made for, and against what bpftool and the guest say."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from kallsift.kernel.access.btf_blob import BtfError
from kallsift.types.module_types import modules_with_types
from tests.components import needs
from tests.lab.tools import run
from tests.real.conftest import GUESTS, Taken
from tests.real.debuggers import debugger
from tests.real.listed import running

STRUCTURES = 60
"""How many structures are compared, besides those of these names."""

NAMES = ("task_struct", "module", "mm_struct", "file", "inode", "dentry", "super_block", "rq", "net", "page")

WITH_TASKS = [name for name in GUESTS if name.startswith("amd64")]
FOR_CRASH = [name for name in GUESTS if name.startswith("amd64-5.10")]
"""Guests that crash 8.0.2 reads with any vmlinux; later kernels need a later crash (docs/debuggers.md)."""


@pytest.fixture(scope="module")
def written(taken: Taken, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The file of a guest, written by the command, once for all tests."""
    folder = tmp_path_factory.mktemp("dwarf")

    @cache
    def write(guest: str, *options: str) -> Path:
        dump = taken(guest).dump("elf")
        try:
            assert running(dump).types
        except BtfError as error:
            pytest.skip(str(error))
        file = folder / "".join((guest, *options))
        command = [sys.executable, "-m", "kallsift", "elf", str(dump), "--types", *options, "-o", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        return file

    return write


def in_gdb(guest: str, file: Path, *commands: str) -> str:
    """What gdb prints."""
    needs(debugger(guest))
    arguments = [part for command in commands for part in ("-ex", command)]
    out = run([debugger(guest), "-q", "-batch", "-nx", *arguments, file], timeout=300)
    return out.decode()


@pytest.mark.parametrize("guest", GUESTS)
def test_gdb(written: Any, guest: str) -> None:
    file = written(guest)
    commands = ["ptype struct task_struct", "p sizeof(struct module)", "info line vfs_read", "ptype vfs_read"]
    text = in_gdb(guest, file, *commands, "p init_task.comm")
    assert "    struct list_head tasks;\n" in text
    assert re.search(r"^No line number information available for address 0x[0-9a-f]+ <vfs_read>$", text, re.M)
    assert re.search(r"^type = (long|ssize_t) \(struct file \*, char \*, size_t, loff_t \*\)$", text, re.M)
    assert '= "swapper' in text


def structures(guest: str, taken: Taken, folder: Path) -> dict[str, tuple[int, dict[str, int]]]:
    """Size and byte offsets of members of structures, as bpftool has them: those of one name only, no bit fields."""
    blob = folder / "btf"
    blob.write_bytes(running(taken(guest).dump("elf")).types.btf.blob.data.tobytes())
    rows = json.loads(run(["bpftool", "-j", "btf", "dump", "file", blob], timeout=600))["types"]
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["kind"] == "STRUCT" and row["name"] != "(anon)":
            found.setdefault(row["name"], []).append(row)
    single = {name: of_name[0] for name, of_name in found.items() if len(of_name) == 1}
    some = sorted(single)[:: max(1, len(single) // STRUCTURES)]
    return {
        name: (
            single[name]["size"],
            {
                each["name"]: each["bits_offset"] // 8
                for each in single[name]["members"]
                if each["name"] != "(anon)" and not each.get("bitfield_size")
            },
        )
        for name in {*some, *NAMES} & single.keys()
    }


@pytest.mark.parametrize("guest", GUESTS)
def test_structures_are_as_bpftool_prints_them(taken: Taken, written: Any, tmp_path: Path, guest: str) -> None:
    file = written(guest)
    wanted = structures(guest, taken, tmp_path)
    assert len(wanted) >= 50
    asked = [(name, member) for name, (_, members) in wanted.items() for member in members]
    commands = [f"output/d (long)sizeof(struct {name})" for name in wanted]
    commands += [f"output/d (long)&((struct {name} *)0)->{member}" for name, member in asked]
    numbers = in_gdb(guest, file, *(part for command in commands for part in (command, "echo \\n"))).split()
    sizes = [size for size, _ in wanted.values()]
    assert [int(number) for number in numbers] == sizes + [wanted[name][1][member] for name, member in asked]


@pytest.mark.parametrize("guest", GUESTS)
def test_binutils_have_no_complaint(written: Any, guest: str) -> None:
    for command in (["readelf", "--debug-dump=info"], ["objdump", "--dwarf=info"]):
        done = subprocess.run([*command, written(guest)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True)
        assert done.stderr == b""


@pytest.mark.parametrize("guest", GUESTS)
def test_types_of_modules(taken: Taken, written: Any, guest: str) -> None:
    dump = taken(guest).dump("elf")
    try:
        assert "xfs" in modules_with_types(running(dump).types)
    except BtfError as error:
        pytest.skip(str(error))
    file = written(guest, "--modules")
    text = in_gdb(guest, file, "ptype xfs_iread_extents", "info line xfs_iread_extents", "ptype struct xfs_inode")
    assert "type = int (struct xfs_trans *, struct xfs_inode *, int)" in text
    found = running(dump).lookup("xfs:xfs_iread_extents")
    assert found is not None
    assert re.search(rf"address 0x0*{found.symbol.address:x} <xfs_iread_extents>", text)
    assert "    struct xfs_mount *i_mount;\n" in text


def told_processes(taken: Taken, guest: str) -> dict[int, str]:
    """Names of the processes by number, as the guest itself listed them."""
    rows = (line.split("\t") for line in taken(guest).truth("processes.tsv").decode().splitlines())
    return {int(row[0]): row[3] for row in rows if row[0].isdigit()}


DRGN = """\
import json, sys
from drgn.helpers.linux import *
tasks, frames = {}, {}
for task in for_each_task(prog):
    tasks[task.pid.value_()] = task.comm.string_().decode()
    frames[task.pid.value_()] = [frame.name for frame in prog.stack_trace(task)]
print(json.dumps([tasks, frames]))
"""


@pytest.mark.parametrize("guest", WITH_TASKS)
def test_drgn_lists_tasks_and_their_stacks(taken: Taken, written: Any, tmp_path: Path, guest: str) -> None:
    if importlib.util.find_spec("drgn") is None:
        pytest.skip("drgn is not installed (x86-64 only)")
    script = tmp_path / "tasks.py"
    script.write_text(DRGN)
    file, dump = written(guest, "--unslid"), taken(guest).dump("elf")
    out = run([sys.executable, "-m", "drgn", "-q", "-c", dump, "-s", file, script], timeout=300)
    tasks, frames = json.loads(out.decode().splitlines()[-1])
    told = told_processes(taken, guest)
    # processes come and go between the guest's own list and the dump; workers get new names
    assert len(told.keys() & {int(pid) for pid in tasks}) > len(told) * 0.9
    assert tasks["1"] == told[1]
    sleeping = [each for each in frames.values() if each and each[0] in ("__schedule", "context_switch")]
    ends = [any("ret_from_fork" in str(name) or "entry_SYSCALL" in str(name) for name in each) for each in sleeping]
    assert len(sleeping) > 50
    assert all(ends)


@pytest.mark.parametrize("guest", FOR_CRASH)
def test_crash(taken: Taken, written: Any, guest: str) -> None:
    needs("crash")
    commands = b"ps\nmount\nfiles 1\nnet\nkmem -i\nmod\nvm 1\nquit\n"
    text = run(
        ["crash", "-s", written(guest, "--unslid"), taken(guest).dump("elf")], timeout=300, stdin=commands
    ).decode("latin-1")
    listed = {int(match[1]) for match in re.finditer(r"^>? +(\d+) +\d+ +\d+ +[0-9a-f]{16} ", text, re.M)}
    told = told_processes(taken, guest)
    assert len(told.keys() & listed) > len(told) * 0.9
    for line in (r" proc +proc +/proc", r" lo +127\.0\.0\.1", r"TOTAL MEM +\d+", r" xfs +ffff", r"ROOT: / +CWD: /"):
        assert re.search(line, text), line
    assert re.search(r"^ +VMA +START +END", text, re.M)


@pytest.mark.parametrize("guest", GUESTS)
def test_pahole(written: Any, guest: str) -> None:
    needs("pahole", package="dwarves")
    text = run(["pahole", "-C", "list_head", written(guest)], timeout=300).decode()
    assert "/* size: 16, cachelines: 1, members: 2 */" in text
