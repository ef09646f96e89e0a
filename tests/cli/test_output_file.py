"""Results never harm what is read: each test is an attack on the source, on an existing file, or on the folder."""

from __future__ import annotations

import ast
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from kallsift.cli.output_file import BY_UMASK, PRIVATE, output_file
from kallsift.errors import OverwriteError
from kallsift.memory.input_files import FileRecord, recorded_files
from kallsift.output.symbols.kallsyms import kallsyms_text
from tests.cli.conftest import Command, Plant
from tests.memory.builders import lime
from tests.memory.writers.kdump import Kdump, kdump
from tests.memory.writers.vmware import state
from tests.output.sample import kernel

DATA = b"evidence" * 1024
DUMP = lime([(0x1000, DATA)])
SOURCE = Path(__file__).parents[2] / "src" / "kallsift"
MAIN = (sys.executable, "-c", "from kallsift.__main__ import main; main()")
VMCOREINFO = b"OSRELEASE=6.1.0\n"


def shell(script: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a script in which ``kallsift`` is the command, and whose ``$1`` ... are the arguments."""
    script = f'kallsift() {{ "{MAIN[0]}" -c "{MAIN[2]}" "$@"; }}\n{script}'
    command = ["bash", "-c", script, "bash", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=60)


def refused(result: subprocess.CompletedProcess[bytes]) -> str:
    """Return the one line that says why a command was refused."""
    line = result.stderr.decode()
    assert (result.returncode, line.count("\n"), result.stdout) == (2, 1, b""), line
    return line


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with sources of several kinds."""
    (tmp_path / "m.raw").write_bytes(DATA)
    (tmp_path / "m.lime").write_bytes(DUMP)
    (tmp_path / "a.vmem").write_bytes(DATA)
    (tmp_path / "a.vmss").write_bytes(state({"memory": b"\0\0"}))
    (tmp_path / "vi").write_bytes(VMCOREINFO)
    (tmp_path / "kallsyms").write_bytes(b"".join(kallsyms_text(kernel())))
    pages = {number: bytes([number]) * 4096 for number in range(1, 9)}
    for name, first, end in (("part.1", 0, 4), ("part.2", 4, 9)):
        (tmp_path / name).write_bytes(kdump(pages, Kdump(split=(first, end))))
    os.link(tmp_path / "m.raw", tmp_path / "hard")
    (tmp_path / "soft").symlink_to("m.raw")
    (tmp_path / "folder").mkdir()
    (tmp_path / "elsewhere").symlink_to(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "harmed"),
    [
        ("symbols m.raw -o m.raw", "m.raw"),
        ("symbols m.raw@0 -o m.raw", "m.raw"),
        ("symbols m.raw@0,vi@0x100000 -o vi", "vi"),
        ("symbols m.raw -o hard", "m.raw"),
        ("symbols hard -o m.raw", "m.raw"),
        ("symbols m.raw -o soft", "m.raw"),
        ("symbols soft -o m.raw", "m.raw"),
        ("symbols m.raw -o elsewhere/m.raw", "m.raw"),
        ("symbols m.raw -o folder/../m.raw", "m.raw"),
        ("symbols a.vmem -o a.vmss", "a.vmss"),
        ("symbols a.vmss -o a.vmem", "a.vmem"),
        ("convert part.1 part.2 --format raw", "part.2"),
        ("convert --as-is m.raw hard --format raw", "m.raw"),
        ("extract m.raw 0 1 -o soft", "m.raw"),
        ("extract m.lime 0x1000 1 -o m.lime", "m.lime"),
        ("elf m.raw -o hard", "m.raw"),
        ("symbols m.lime --vmcoreinfo vi -o vi", "vi"),
        ("symbols vi --all -o vi", "vi"),
    ],
)
def test_nothing_that_is_read_is_overwritten(command: Command, folder: Path, arguments: str, harmed: str) -> None:
    before = (folder / harmed).read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = command(*arguments.split())
    assert (result.code, result.out) == (2, "")
    assert "name another file for the result" in result.err
    assert result.err.count("\n") == 1
    assert (folder / harmed).read_bytes() == before
    assert not list(folder.glob(".*"))


def test_the_file_of_one_of_several_kernels_is_no_source_either(command: Command, plant: Plant, folder: Path) -> None:
    plant(kernel(), kernel())
    (folder / "m.raw").rename(folder / "m.1")
    result = command("symbols", folder / "m.1", "--all", "-o", folder / "m")
    assert result.code == 2
    assert (folder / "m.1").read_bytes() == DATA


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("script", "harmed"),
    [
        ("kallsift symbols - -o m.raw < m.raw", "m.raw"),
        ("kallsift extract - 0 8 -o /dev/fd/0 < m.raw", "m.raw"),
        ("kallsift extract m.raw 0 8 >> m.raw", "m.raw"),
        ("kallsift extract m.raw 0 8 -o /dev/stdout 1<> m.raw", "m.raw"),
        ("kallsift extract m.raw 0 8 -o /dev/fd/3 3<> hard", "m.raw"),
        ("kallsift symbols m.raw 2>> m.raw", "m.raw"),
        ("kallsift symbolize kallsyms vi >> vi", "vi"),
        ("kallsift symbolize kallsyms vi >> kallsyms", "kallsyms"),
    ],
)
def test_nor_by_way_of_the_shell(folder: Path, script: str, harmed: str) -> None:
    before = (folder / harmed).read_bytes()
    result = shell(script, folder)
    if "2>>" in script:
        # what says so is all that can be in it
        assert result.returncode == 2
        assert (folder / harmed).read_bytes().startswith(before)
    else:
        assert "name another file for the result" in refused(result)
        assert (folder / harmed).read_bytes() == before


def test_messages_name_both(command: Command, folder: Path) -> None:
    line = command("symbols", folder / "m.raw", "-o", folder / "hard").err
    assert line == (
        f"kallsift: {folder}/hard: writing there would change {folder}/m.raw, which is read by this command; "
        "name another file for the result\n"
    )
    line = command("symbols", folder / "m.raw", "-o", folder / "m.raw").err
    assert line == f"kallsift: {folder}/m.raw: is read by this command; name another file for the result\n"


def test_what_a_loop_device_shows_is_no_destination(command: Command, folder: Path) -> None:
    image = folder / "image"
    image.write_bytes(DATA * 64)
    made = subprocess.run(["losetup", "-f", "--show", image], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip("no loop device can be made here")
    try:
        assert command("extract", made.stdout.strip(), "0", "8", "-o", image).code == 2
    finally:
        subprocess.run(["losetup", "-d", made.stdout.strip()], check=True)
    assert image.read_bytes() == DATA * 64


def status(mode: int, inode: int, device: int, shown: int = 0) -> os.stat_result:
    """What stat(2) would say; ``shown`` is the device that a device file stands for."""
    return os.stat_result((mode, inode, device, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, shown))


def test_a_file_on_the_disk_that_is_read_is_no_destination() -> None:
    disk = status(stat.S_IFBLK | 0o600, 5, 1, shown=0x801)
    for mode in (stat.S_IFREG, stat.S_IFDIR):
        record = FileRecord()
        record.add_input("/dev/sda1", disk)
        with pytest.raises(OverwriteError, match="/dev/sda1"):
            record.add_output("/mnt/out", status(mode, 9, 0x801))
    record = FileRecord()
    record.add_output("standard output", status(stat.S_IFBLK, 6, 1, shown=0x801))
    with pytest.raises(OverwriteError, match="standard output"):
        record.add_input("/dev/other", disk)
    with pytest.raises(OverwriteError, match=r"m\.raw"):
        record.add_input("m.raw", status(stat.S_IFREG, 7, 0x801))


def test_a_source_that_takes_the_name_meanwhile_stays(folder: Path) -> None:
    with recorded_files() as record:
        target = output_file(folder / "new", permissions=BY_UMASK)
        record.add_input("m.raw", (folder / "m.raw").stat())

        def chunks() -> Iterator[bytes]:
            os.link(folder / "m.raw", folder / "new")
            yield b"result"

        with pytest.raises(OverwriteError):
            target.write(chunks())
    assert (folder / "new").read_bytes() == DATA
    assert not list(folder.glob(".*"))


def test_the_temporary_name_is_nobodys_guess(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def chunks() -> Iterator[bytes]:
        (partial,) = folder.glob(".*")
        seen.append(partial.name)
        assert stat.S_IMODE(partial.stat().st_mode) == 0o600
        yield b"result"

    for _ in range(2):
        output_file(folder / "out", permissions=PRIVATE).write(chunks())
    assert len(set(seen)) == 2
    assert all(len(name) > 32 for name in seen)
    # even who guesses it gets nothing, and loses nothing
    monkeypatch.setattr(os, "urandom", lambda size: b"guessed")
    trap = folder / f".kallsift-{b'guessed'.hex()}.part"
    trap.symlink_to("m.raw")
    with pytest.raises(FileExistsError):
        output_file(folder / "out", permissions=PRIVATE).write([b"other"])
    assert trap.is_symlink()
    assert (folder / "m.raw").read_bytes() == DATA
    assert (folder / "out").read_bytes() == b"result"


def test_a_name_may_have_255_bytes(folder: Path) -> None:
    output_file(folder / ("n" * 255), permissions=PRIVATE).write([b"result"])
    assert (folder / ("n" * 255)).read_bytes() == b"result"


# a suite that runs in the background, or under nohup, was started with these signals ignored
SLOW = """
import signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
from kallsift.cli.commands import extract
def chunks(*_):
    yield b"x" * (1 << 20)
    time.sleep(60)
extract._chunks = chunks
from kallsift.__main__ import main
main()
"""


@pytest.mark.sampled(1)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_leave_nothing_behind(folder: Path, number: signal.Signals) -> None:
    (folder / "out").write_bytes(b"before")
    names = {path.name for path in folder.iterdir()}
    command = [sys.executable, "-c", SLOW, "extract", "m.lime", "0x1000", "1", "-o", "out"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not list(folder.glob(".*.part")) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert list(folder.glob(".*.part"))
        process.send_signal(number)
        assert process.wait(30) == 128 + number
    assert {path.name for path in folder.iterdir()} == names
    assert (folder / "out").read_bytes() == b"before"


def test_nohup_is_respected(folder: Path) -> None:
    code = "import signal; from kallsift.cli.signals import *; exit_on_signals(); signal.raise_signal(signal.SIGHUP)"
    result = shell(f"trap '' HUP; \"{sys.executable}\" -c '{code}'; echo $?", folder)
    assert result.stdout == b"0\n"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o604, 0o777])
def test_an_existing_file_keeps_mode_and_owner(folder: Path, mode: int) -> None:
    target = folder / "out"
    target.write_bytes(b"before")
    if os.getuid() == 0:
        os.chown(target, 1234, 4321)
    target.chmod(mode)
    before = target.stat()
    output_file(target, permissions=BY_UMASK).write([b"result"])
    after = target.stat()
    assert target.read_bytes() == b"result"
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


@pytest.mark.parametrize(("lacking", "left"), [("owner", 0o600), ("group", 0o604)])
def test_whose_owner_cannot_be_kept_is_not_shown_to_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch, lacking: str, left: int
) -> None:
    target = folder / "out"
    target.write_bytes(b"before")
    target.chmod(0o664)

    def fchown(_descriptor: int, user: int, group: int) -> None:
        if (user if lacking == "owner" else group) != -1:
            raise PermissionError

    monkeypatch.setattr(os, "fchown", fchown)
    output_file(target, permissions=BY_UMASK).write([b"result"])
    assert stat.S_IMODE(target.stat().st_mode) == left


def test_new_files_with_memory_in_them_are_private(command: Command, plant: Plant, folder: Path) -> None:
    old = os.umask(0o022)
    try:
        for arguments in (
            ("extract", folder / "m.lime", "0x1000", "8", "-o", folder / "page"),
            ("convert", "--as-is", folder / "m.lime", folder / "core.elf"),
            ("convert", "--as-is", folder / "m.lime", folder / "core.kdump"),
        ):
            assert command(*arguments).code == 0
        plant(kernel())
        assert command("symbols", "dump", "-o", folder / "kallsyms").code == 0
    finally:
        os.umask(old)
    for name, mode in {"page": 0o600, "core.elf": 0o600, "core.kdump": 0o600, "kallsyms": 0o644}.items():
        assert stat.S_IMODE((folder / name).stat().st_mode) == mode, name


@pytest.mark.sampled(2)
@pytest.mark.parametrize("target", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link", "/dev/fd/7"])
def test_an_open_descriptor_goes_on_where_it_stands(folder: Path, target: str) -> None:
    (folder / "link").symlink_to("/dev/stdout")
    (folder / "out").write_bytes(b"before ")
    script = f"{{ printf 'head '; kallsift extract m.lime 0x1000 8 -o {target}; printf ' tail'; }} >> out 7>&1"
    result = shell(script, folder)
    assert (result.returncode, result.stderr) == (0, b"")
    assert (folder / "out").read_bytes() == b"before head evidence tail"


def test_a_dump_goes_to_standard_output(folder: Path) -> None:
    result = shell("kallsift convert --as-is m.lime - --format lime | cmp - m.lime", folder)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    line = refused(shell("kallsift convert --as-is m.lime - --format kdump", folder))
    assert "but this format needs one" in line
    assert "--all" in refused(shell("kallsift elf m.lime --all -o -", folder))


def test_devices_and_pipes_are_written_as_they_are(command: Command, folder: Path) -> None:
    assert command("extract", folder / "m.lime", "0x1000", "8", "-o", "/dev/null").code == 0
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    result = command("extract", folder / "m.lime", "0x1000", "8", "-o", "/dev/full")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert result.err.startswith("kallsift: /dev/full: No space left on device")
    assert shell("mkfifo pipe; kallsift extract m.lime 0x1000 8 -o pipe & cat pipe; wait", folder).stdout == b"evidence"


def test_what_is_no_file_is_refused_in_one_line(command: Command, folder: Path) -> None:
    (folder / "loop").symlink_to("pool")
    (folder / "pool").symlink_to("loop")
    (folder / "long").symlink_to("n" * 300)
    (folder / "protected").write_bytes(b"before")
    (folder / "protected").chmod(0o444)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
        for name, reason in {
            "loop": "Too many levels of symbolic links; name another file",
            "loop/out": "Too many levels of symbolic links; name another file",
            "long": "File name too long",
            "folder": "is a folder",
            "missing/out": "There is no folder",
            "m.raw/out": "There is no folder",
            "protected": "is write-protected",
            "socket": "is a socket",
            "/dev/fd/99": "Bad file descriptor",
        }.items():
            result = command("extract", folder / "m.lime", "0x1000", "8", "-o", folder / name)
            assert (result.code, result.err.count("\n")) == (2, 1), (name, result.err)
            assert reason in result.err, (name, result.err)
    blocks = [path for path in Path("/dev").iterdir() if path.is_block_device()]
    if blocks:
        with pytest.raises(click.UsageError, match="is a block device"):
            output_file(blocks[0], permissions=PRIVATE)


def test_a_link_to_nothing_leads_to_a_new_file(command: Command, folder: Path) -> None:
    (folder / "link").symlink_to("folder/new")
    assert command("extract", folder / "m.lime", "0x1000", "8", "-o", folder / "link").code == 0
    assert (folder / "link").is_symlink()
    assert (folder / "folder" / "new").read_bytes() == b"evidence"


OPENERS = {
    "cli/output_file.py": "the one way to write",
    "cli/app.py": "/dev/null",
    "cli/standard_streams.py": "/dev/null",
    "cli/commands/volatility.py": "Volatility's settings, which it reads in order to write them anew",
    "memory/input_files.py": "the one way to read",
    "memory/formats/registry.py": "records what it maps",
    "memory/live/qemu.py": "the map of a process",
    "memory/live_file.py": "memory that changes; /proc/kcore is recorded where it is opened",
    "memory/file_faults.py": "memory of this process",
}
"""Modules that open files themselves, and what."""

METHODS = {"open", "write_text", "write_bytes", "read_text", "read_bytes", "mkstemp", "NamedTemporaryFile"}
OPENING = {"os", "io", "path", "Path", "tempfile", "file", "log"}


def test_there_is_no_second_way_to_open_a_file() -> None:
    """What opens a file elsewhere would be unknown to the guard."""
    files = [path for path in sorted(SOURCE.rglob("*.py")) if str(path.relative_to(SOURCE)) not in OPENERS]
    assert len(files) > len(OPENERS)
    assert [place for path in files for place in opened_files(path)] == []


def opened_files(path: Path) -> Iterator[str]:
    """Yield where a module opens files itself."""
    tree = ast.parse(path.read_text("utf-8"))
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported = {alias.asname or alias.name for node in froms for alias in node.names}
    for node in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        function = node.func
        if isinstance(function, ast.Name) and function.id == "open" and "open" not in own | imported:
            yield f"{path}:{node.lineno}"
        if isinstance(function, ast.Attribute) and function.attr in METHODS:
            name = function.value.id if isinstance(function.value, ast.Name) else ast.unparse(function.value)
            if name in OPENING or name.startswith("Path("):
                yield f"{path}:{node.lineno}"


def test_a_module_that_opens_a_file_is_found(tmp_path: Path) -> None:
    (module := tmp_path / "module.py").write_text("open('a')\nos.open('a', 0)\nPath('a').read_text()\nmine.open()\n")
    assert list(opened_files(module)) == [f"{module}:1", f"{module}:2", f"{module}:3"]
