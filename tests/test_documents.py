"""Documents for readers: links lead somewhere, and the commands, options, files and names of examples exist."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import click
import numpy as np
import pytest

import kallsift
from kallsift.cli.app import COMMANDS, app
from kallsift.kallsyms.evidence import CheckId
from tests.document_examples import ROOT, python_of, run_examples
from tests.kernel.made_machine import Machine
from tests.kernel.made_up import made_up
from tests.memory.builders import lime

PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "tests").rglob("*.md")})

LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
CODE_SPAN = re.compile(r"(`+)(.+?)\1")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)

SOURCE_FILE = re.compile(r"[\w./-]*\w\.(?:py|sh|toml)")

CONTRIBUTING = ROOT / "CONTRIBUTING.md"

MADE_UP = ("ram1.py", "test_ram1.py", "tsv.py", "NAME.py")
"""Files that CONTRIBUTING.md adds in its examples."""

STARTS = ("$", "#", "|", "||", "&&", "sudo", "|&")
"""What can stand before a command on its line: a prompt, an operator of the shell, or sudo."""

PLACEHOLDERS = {"COMMAND"}
"""What a page writes for any command."""


def _named(path: Path) -> str:
    """Name a page as the tests show it."""
    return str(path.relative_to(ROOT))


@cache
def _anchors(path: Path) -> frozenset[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    plain = (re.sub(r"[`*\\]|\]\([^)]*\)|\[", "", heading) for heading in HEADING.findall(path.read_text("utf-8")))
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain)


def _commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each kallsift command in the code of a page, without redirections and what follows a pipe."""
    fenced = False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        codes = [line.strip()] if fenced or line.startswith("    ") else [span for _, span in CODE_SPAN.findall(line)]
        for code in codes:
            if re.search(r"\bkallsift [a-z]+ ?", code):
                yield from _commands_of(code)


def _commands_of(code: str) -> Iterator[list[str]]:
    """Yield the words of each kallsift command on a line of shell."""
    lexer = shlex.shlex(code.removeprefix("$ "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # a sentence with an apostrophe, no shell
        return
    for index, word in enumerate(words):
        if word == "kallsift" and (not index or words[index - 1] in STARTS) and index + 1 < len(words):
            behind = words[index + 1 :]
            end = next((at for at, each in enumerate(behind) if set(each) <= set("();<>|&")), len(behind))
            yield behind[:end]


def examples() -> list[tuple[Path, list[str]]]:
    """List all commands of all pages."""
    return [(path, words) for path in PAGES for words in _commands(path.read_text("utf-8"))]


@cache
def _source_files() -> tuple[str, ...]:
    """List the files that a page can name by the end of their path."""
    return tuple(
        f"/{path.relative_to(ROOT)}" for top in ("src", "tests", "bench") for path in (ROOT / top).rglob("*.*")
    )


@pytest.mark.parametrize("path", PAGES, ids=_named)
def test_links_lead_to_files_and_headings(path: Path) -> None:
    for target in LINK.findall(CODE_SPAN.sub("", path.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        page = path.parent / name if name else path
        assert page.exists(), f"{target} leads to no file"
        assert not anchor or anchor in _anchors(page), f"{target} leads to no heading"


@pytest.mark.parametrize(("path", "words"), examples(), ids=lambda part: _named(part) if isinstance(part, Path) else "")
def test_examples_name_what_exists(path: Path, words: list[str]) -> None:
    name, *arguments = words
    if name in PLACEHOLDERS:
        return
    with app.make_context("kallsift", [name], resilient_parsing=True) as above:
        command = app.get_command(above, name)
        assert command, f"{name} is none of {', '.join(COMMANDS)}"
        given, left, _ = command.make_parser(click.Context(command, **command.context_settings)).parse_args(arguments)
    assert not left, f"{name} takes no {left}"
    for parameter in command.params:
        if isinstance(parameter.type, click.Choice) and given.get(parameter.name or "") is not None:
            parameter.type.convert(given[parameter.name or ""], parameter, None)


@pytest.mark.parametrize("path", PAGES, ids=_named)
def test_source_files_that_are_named_exist(path: Path) -> None:
    spans = (span for _, span in CODE_SPAN.findall(path.read_text("utf-8")))
    files = [name for name in filter(SOURCE_FILE.fullmatch, spans) if not name.endswith(MADE_UP)]
    known = (*_source_files(), "/pyproject.toml")
    assert [name for name in files if not any(file.endswith(f"/{name}") for file in known)] == []


@pytest.mark.parametrize("path", [path for path in PAGES if python_of(path.read_text("utf-8"))], ids=_named)
def test_python_names_what_exists(path: Path) -> None:
    for code in python_of(path.read_text("utf-8")):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("kallsift"):
                if f"{node.module.rpartition('.')[2]}.py" in MADE_UP:
                    continue
                module = import_module(node.module)
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "kallsift":
                assert hasattr(kallsift, node.attr)


def test_the_modules_that_contributors_are_shown_work() -> None:
    """The examples of CONTRIBUTING.md are copied, so they must run as they stand."""
    ram1, tsv = (
        module_of(next(code for code in python_of(CONTRIBUTING.read_text("utf-8")) if code.startswith(f'"""{title}')))
        for title in ("RAM1 dumps", "Columns between tabs")
    )
    header = b"RAM1" + (0x1000).to_bytes(8, "little")
    assert ram1.probe(header)
    with ram1.open("made", np.frombuffer(header + b"memory", np.uint8), lambda: None) as memory:
        assert memory.read(0x1000, 6).tobytes() == b"memory"
    with pytest.raises(kallsift.KallsiftError, match="ends before any memory"):
        ram1.open("made", np.frombuffer(header, np.uint8), lambda: None)
    kernel = made_up()
    lines = b"".join(tsv.tsv(kernel)).splitlines()
    assert len(lines) == len(kernel.symbols)
    assert lines[0].count(b"\t") == 2


def module_of(code: str) -> ModuleType:
    """A module of some source text."""
    module = ModuleType("example")
    exec(compile(dedent(code), "example", "exec"), module.__dict__)
    return module


@pytest.mark.parametrize(("page", "end"), [("README.md", "\0"), ("docs/python.md", "```python\ntable")])
def test_examples_run(tmp_path: Path, page: str, end: str) -> None:
    """Those that a made-up machine can answer and that need no other package; tests/real runs all."""
    (tmp_path / "memory.lime").write_bytes(lime([(0, Machine().data.tobytes())]))
    left = run_examples(page, tmp_path, {}, end)
    assert left["kernel"].proven
    assert page != "docs/python.md" or len(left["columns"]["name"]) == len(left["symbols"])


def test_every_check_has_a_row_of_evidence() -> None:
    page = (ROOT / "docs" / "evidence.md").read_text("utf-8").replace("\\", "")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| ")]
    assert [name for name in CheckId if not any(name in row for row in rows)] == []


def test_examples_are_found() -> None:
    assert sum(page == ROOT / "README.md" for page, _ in examples()) >= 5
