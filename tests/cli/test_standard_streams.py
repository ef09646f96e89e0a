"""Standard streams that are closed, full or dumb, interrupts, and completion: as shells and users bring them about."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kallsift.cli.standard_streams import has_escapes
from tests.cli.conftest import Command
from tests.memory.builders import lime

START = "from kallsift.__main__ import main; main()"
CONTENT = b"first range"


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    path = tmp_path / "memory.lime"
    path.write_bytes(lime([(0x1000, CONTENT)]))
    return path


def run(
    *arguments: str | Path, closed: tuple[int, ...] = (), code: str = START, variables: dict[str, str] | None = None
) -> tuple[int, bytes, bytes]:
    """Runs the command in a process of its own that lacks some descriptors; its code, output and messages."""

    def close() -> None:
        for descriptor in closed:
            os.close(descriptor)

    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, check=False, timeout=60, preexec_fn=close, env={**os.environ, **(variables or {})}
    )
    return done.returncode, done.stdout, done.stderr


def test_a_closed_output_is_one_line(dump: Path) -> None:
    code, out, err = run("extract", dump, "0x1000", "11", closed=(1,))
    assert (code, out) == (1, b"")
    assert err.startswith(b"kallsift: ")
    assert err.endswith(b"Bad file descriptor; standard output is closed; redirect it to a file or a pipe\n")
    assert err.count(b"\n") == 1


def test_a_closed_output_does_not_matter_to_a_file(dump: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    assert run("extract", dump, "0x1000", "11", "-o", target, closed=(1,)) == (0, b"", b"")
    assert target.read_bytes() == CONTENT


@pytest.mark.sampled(1)
@pytest.mark.parametrize("closed", [(2,), (0, 2)])
def test_messages_never_land_in_a_file(dump: Path, tmp_path: Path, closed: tuple[int, ...]) -> None:
    target = tmp_path / "out"
    # the warning that no kernel tells what lies where would go to the first file that is opened
    raw = tmp_path / "memory.raw"
    raw.write_bytes(CONTENT.ljust(8192, b"\0"))
    assert run("extract", raw, "0", "11", "-o", target, closed=closed)[0] == 3
    assert target.read_bytes() == CONTENT
    assert raw.read_bytes() == CONTENT.ljust(8192, b"\0")
    assert run("extract", dump, "0x1000", "11", closed=closed) == (0, CONTENT, b"")


def test_all_three_closed(dump: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    assert run("extract", dump, "0x1000", "11", "-o", target, closed=(0, 1, 2)) == (0, b"", b"")
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("command", [("--help",), ("extract", "DUMP", "0x1000", "11")])
def test_a_full_disk_behind_the_output_is_one_line(dump: Path, command: tuple[str, ...]) -> None:
    arguments = [dump if each == "DUMP" else each for each in command]
    code = f"import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1); {START}"
    result, out, err = run(*arguments, code=code)
    assert (result, out) == (1, b"")
    assert err.startswith(b"kallsift: ")
    assert err.endswith(b"No space left on device; free some space, or write to another disk\n")
    assert err.count(b"\n") == 1


@pytest.mark.sampled(1)
@pytest.mark.parametrize("module", ["click", "kallsift.cli.app", "kallsift.cli.commands.symbols"])
def test_an_interrupt_during_imports_is_no_traceback(dump: Path, module: str) -> None:
    # a suite that runs in the background was started with the signal ignored, and so are its children
    code = f"""
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class Interrupt:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
{START}
"""
    result, out, err = run("symbols", dump, code=code)
    assert out == b""
    assert (result, err) in ((-signal.SIGINT, b""), (130, b"kallsift: interrupted\n"))


def test_a_background_job_ignores_interrupts() -> None:
    code = f"""
import os, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from kallsift.cli import app
app.run = lambda _: os.kill(os.getpid(), signal.SIGINT) or 0
{START}
"""
    assert run(code=code) == (0, b"", b"")


@pytest.mark.parametrize(("term", "expected"), [("dumb", False), ("xterm", True)])
def test_a_dumb_terminal_gets_no_escapes(monkeypatch: pytest.MonkeyPatch, term: str, expected: bool) -> None:
    monkeypatch.setenv("TERM", term)
    assert has_escapes() is expected
    terminal, other = os.openpty()
    environment = {**os.environ, "TERM": term}
    with subprocess.Popen([sys.executable, "-c", START, "symbols", "--help"], stdout=other, env=environment):
        os.close(other)
        shown = b""
        # a terminal that nobody writes to any more is an error to read
        with contextlib.suppress(OSError):
            while piece := os.read(terminal, 1 << 16):
                shown += piece
    os.close(terminal)
    assert b"Usage" in shown
    assert (b"\x1b[" in shown) is expected


Complete = Callable[[str], list[str]]


@pytest.fixture
def complete(command: Command, monkeypatch: pytest.MonkeyPatch) -> Complete:
    def completions(line: str) -> list[str]:
        monkeypatch.setenv("_KALLSIFT_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - (not line.endswith(" "))))
        result = command()
        assert (result.code, result.err) == (0, "")
        return result.out.split()

    return completions


def test_shells_complete(complete: Complete) -> None:
    assert complete("kallsift sym") == ["plain,symbols", "plain,symbolize"]
    assert complete("kallsift symbols dump --form") == ["plain,--format"]
    assert "plain,csv" in complete("kallsift symbols dump --format ")
    assert complete("kallsift symbols mem") == complete("kallsift diff dump mem") == ["file,mem"]


def test_completion_in_a_process_of_its_own() -> None:
    asked = {"_KALLSIFT_COMPLETE": "bash_complete", "COMP_WORDS": "kallsift sym", "COMP_CWORD": "1"}
    assert run(variables=asked) == (0, b"plain,symbols\nplain,symbolize\n", b"")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(command: Command, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    monkeypatch.setenv("_KALLSIFT_COMPLETE", f"{shell}_source")
    result = command()
    assert result.code == 0
    assert "_kallsift_completion" in result.out
