"""``kallsift volatility install``: one setting of Volatility's, put in after a question, and taken out again."""

from __future__ import annotations

import io
import json
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import pytest

from kallsift.cli.commands import volatility
from tests.cli.conftest import Command


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, and a package that is installed."""
    monkeypatch.setenv("HOME", str(tmp_path))
    package = tmp_path / "site" / volatility.PACKAGE
    found = SimpleNamespace(submodule_search_locations=[str(package)])
    monkeypatch.setattr(volatility, "find_spec", lambda _: found)
    return tmp_path


def written(home: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((home / volatility.SETTINGS).read_bytes())
    return found


def test_put_in_and_taken_out(command: Command, home: Path) -> None:
    own = str(home / "site" / volatility.PACKAGE / "plugins")
    result = command("volatility", "install", "--yes")
    assert (result.code, result.out, result.err) == (0, "", f"kallsift: wrote {home / volatility.SETTINGS}\n")
    assert written(home) == {"plugin_dirs": own}
    assert "needs no change" in command("volatility", "install", "--yes").err
    assert command("volatility", "install", "--remove", "--yes").code == 0
    assert written(home) == {}


def test_what_else_is_there_stays(command: Command, home: Path) -> None:
    path = home / volatility.SETTINGS
    path.parent.mkdir(parents=True)
    older = f"/old/{volatility.PACKAGE}/plugins"
    path.write_text(json.dumps({"quiet": True, "plugin_dirs": f"/mine;{older}"}))
    assert command("volatility", "install", "--yes").code == 0
    own = str(home / "site" / volatility.PACKAGE / "plugins")
    assert written(home) == {"quiet": True, "plugin_dirs": f"/mine;{own}"}
    assert command("volatility", "install", "--remove", "--yes").code == 0
    assert written(home) == {"quiet": True, "plugin_dirs": "/mine"}


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("\n", 1), ("", 130), ("y\n", 0)])
def test_the_question(command: Command, home: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    result = command("volatility", "install")
    assert (result.code, result.out) == (code, "")
    assert "vol.json? [y/N]: " in result.err
    assert (home / volatility.SETTINGS).exists() == (code == 0)


def test_files_that_are_no_settings(command: Command, home: Path) -> None:
    path = home / volatility.SETTINGS
    path.parent.mkdir(parents=True)
    for text in ("{", "[]"):
        path.write_text(text)
        result = command("volatility", "install", "--yes")
        assert result.code == 1
        assert "repair or remove it" in result.err
        assert path.read_text() == text


def test_without_the_package(command: Command, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: ModuleSpec | None = None
    monkeypatch.setattr(volatility, "find_spec", lambda _: found)
    result = command("volatility", "install", "--yes")
    assert result.code == 1
    assert "pip install kallsift-volatility" in result.err
