"""The command as a whole: help, errors in one line, exit codes, and how it behaves in a pipe."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from kallsift.cli import progress_bar
from kallsift.cli.app import COMMANDS, app
from kallsift.cli.options import source as source_options
from tests.cli.conftest import Command, Plant
from tests.output.sample import kernel

# A process of its own whose source is played by a table of two million lines.
PLAYED = """
import sys
from tests.output.sample import kernel, memory
from kallsift.__main__ import main
from kallsift.cli.options import source as source_options
source_options.open_memory = lambda source, **_: memory(source)
source_options.recover = lambda memory, progress=None: kernel([(i, "t", "name") for i in range(200_000)])
sys.argv = ["kallsift", "symbols", "dump"]
main()
"""


WITHOUT_SOURCE = {"volatility"}
"""Commands that read no source."""


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_examples(command: Command, name: str) -> None:
    result = command(name, "--help")
    assert result.code == 0
    assert f"Usage: kallsift {name} [OPTIONS] " in result.out
    assert f"$ kallsift {name} " in result.out
    assert "\x1b" not in result.out
    if name not in WITHOUT_SOURCE:
        assert "[OPTIONS] SOURCE" in result.out
        assert f"$ kallsift {name} memory." in result.out
        assert "--kernel N" in result.out


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("name", COMMANDS)
def test_no_summary_is_cut_off(command: Command, monkeypatch: pytest.MonkeyPatch, name: str, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert isinstance(app, click.Group)
    found = app.get_command(click.Context(app), name)
    assert found is not None
    summary = " ".join((found.help or "").split("\n\n")[0].split())
    assert len(summary) <= 80
    assert summary.endswith(".")
    assert f" {name} {summary} " in " ".join([*command("--help").out.split(), ""])


def test_help_of_the_group(command: Command) -> None:
    result = command("-h")
    assert result.code == 0
    assert all(f"  {name} " in result.out for name in COMMANDS)
    assert "Examples" in result.out


def test_no_command_is_a_usage_error(command: Command) -> None:
    result = command()
    assert (result.code, result.out) == (2, "")
    assert "Usage: kallsift" in result.err


def test_version(command: Command) -> None:
    assert command("--version").out.startswith("kallsift ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuch"],
        ["symbols"],
        ["symbols", "dump", "--format", "nosuch"],
        ["symbols", "dump", "--nosuch"],
        ["symbols", "dump", "--all", "--kernel", "0"],
        ["symbols", "dump", "--kernel", "-1"],
        ["lookup", "dump"],
    ],
)
def test_usage_errors_are_one_line(command: Command, arguments: list[str]) -> None:
    result = command(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("kallsift: ")
    assert result.err.endswith("--help'.\n")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("name", ["symbols", "info", "lookup"])
def test_nothing_recovered_is_one_line(command: Command, plant: Plant, name: str) -> None:
    plant()
    result = command(name, "dump", *(["init"] if name == "lookup" else []))
    assert (result.code, result.out) == (1, "")
    assert result.err == "kallsift: token table: none found in 4096 bytes; is this a Linux memory dump?\n"


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "text"])
def test_sources_that_are_none_are_one_line(command: Command, tmp_path: Path, kind: str) -> None:
    source = {"missing": tmp_path / "no", "folder": tmp_path}.get(kind, tmp_path / "file")
    if kind in ("empty", "text"):
        source.write_text("" if kind == "empty" else "not a dump\n" * 5000)
    result = command("symbols", source)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("kallsift: ")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "out of memory"),
        (OSError(5, "Input/output error", "dump"), 1, "dump: Input/output error"),
        (ValueError("a bug\nof two lines"), 1, "internal error, ValueError: a bug\\nof two lines"),
    ],
)
def test_every_failure_is_one_line_and_debug_tells_more(
    command: Command, plant: Plant, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    plant(kernel())
    monkeypatch.setattr(source_options, "recover", fail)
    short = command("symbols", "dump")
    assert (short.code, short.out, short.err.count("\n")) == (code, "", 1)
    assert short.err.startswith(f"kallsift: {message}")
    assert "Traceback" in command("symbols", "dump", "--debug").err


def test_a_closed_pipe_is_silent() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PLAYED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141


def test_no_bar_is_full_while_the_command_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress_bar, "PATIENCE", 0.0)
    drawn, draw = [], progress_bar._draw

    def drawn_once() -> Any:
        drawn.append(draw())
        return drawn[0]

    monkeypatch.setattr(progress_bar, "_draw", drawn_once)
    with progress_bar.progress_on_terminal() as progress:
        assert progress is not None
        for done, total, percentage in ((1, 4, 25), (4, 4, None), (5, 4, None), (0, 0, None), (2, 4, 50), (3, 4, 75)):
            progress("searching", done, total)
            (task,) = drawn[0][0].tasks
            assert (task.percentage if task.total else None) == percentage
        progress("looking at damaged tables", 1, 0)
        (task,) = drawn[0][0].tasks
        assert (task.description, task.total) == ("looking at damaged tables", None)


def test_progress_waits_for_a_second_and_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with progress_bar.progress_on_terminal() as progress:
        assert progress is None
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress_bar.progress_on_terminal() as progress:
        assert progress is not None
        progress("scan", 1, 2)
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(progress_bar, "PATIENCE", 0.0)
    with progress_bar.progress_on_terminal() as progress:
        assert progress is not None
        progress("[b]scan", 1, 2)
    assert "[b]scan" in capfd.readouterr().err


def test_the_terminal_libraries_are_loaded_only_where_they_are_used() -> None:
    code = "import sys, kallsift.cli.app; print([m for m in ('rich', 'rich_click', 'json', 'csv') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "[]\n"
