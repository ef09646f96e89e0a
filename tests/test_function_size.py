"""Functions stay small enough to be read at once: few parameters, few lines, and little nesting."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = (ROOT / "src", ROOT / "volatility" / "src")

MAX_PARAMETERS = 6
"""Highest number of parameters, without ``self`` and ``cls``."""

MAX_LINES = 60
"""Highest number of lines, without the docstring."""

MAX_NESTING = 4
"""Highest number of blocks within each other; an ``elif`` is no deeper than its ``if``."""

BLOCKS = (
    ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match,
)  # fmt: skip
OTHER_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: str) -> Iterator[Function]:
    """Yield all functions, methods and inner functions of a module."""
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, Function))


def parameters(function: Function) -> int:
    """Count the parameters that a caller gives, those of ``*rest`` and ``**rest`` as none."""
    given = function.args
    names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def lines(function: Function) -> int:
    """Count the lines from ``def`` to the end, without the docstring."""
    first, last = function.body[0], function.end_lineno or function.lineno
    documented = 0
    if ast.get_docstring(function) is not None:
        documented = (first.end_lineno or first.lineno) - first.lineno + 1
    return last - function.lineno + 1 - documented


def nesting(node: ast.AST) -> int:
    """Count the blocks within each other, without those of inner functions."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, OTHER_SCOPES):
            continue
        # an ``elif`` is an ``if`` alone in the other branch, in the column of the first one
        is_elif = (
            isinstance(node, ast.If)
            and isinstance(child, ast.If)
            and node.orelse == [child]
            and node.col_offset == child.col_offset
        )
        deepest = max(deepest, nesting(child) + (isinstance(child, BLOCKS) and not is_elif))
    return deepest


def excesses(source: str) -> list[str]:
    """Say of each function of a module what of it is above the limits."""
    return [
        f"{function.name} (line {function.lineno}): {count} {what}, at most {limit}"
        for function in functions(source)
        for what, count, limit in (
            ("parameters", parameters(function), MAX_PARAMETERS),
            ("lines", lines(function), MAX_LINES),
            ("blocks within each other", nesting(function), MAX_NESTING),
        )
        if count > limit
    ]


def test_all_functions_are_small() -> None:
    files = [path for folder in SOURCES for path in folder.rglob("*.py")]
    assert len(files) > 100
    found = [f"{path.relative_to(ROOT)}: {excess}" for path in files for excess in excesses(path.read_text("utf-8"))]
    assert found == []


NESTED = """
def deep(items):
    with items:
        for item in items:
            while item:
                if item > 1:
                    {}
                elif item:
                    pass
                else:
                    {}
"""


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(a, b, /, c, d, *, e, f): pass", []),
        ("def f(a, b, /, c, d, *rest, e, f, **more): pass", []),
        ("def f(a, b, /, c, d, *, e, f, g): pass", ["f (line 1): 7 parameters, at most 6"]),
        ("class C:\n def f(self, a, b, c, d, e, f): pass", []),
        ("class C:\n def f(self, a, b, c, d, e, f, g): pass", ["f (line 2): 7 parameters, at most 6"]),
        ("def f():\n" + " pass\n" * 59, []),
        ("def f():\n" + " pass\n" * 60, ["f (line 1): 61 lines, at most 60"]),
        ('def f():\n """\n' + "\n" * 80 + ' """\n' + " pass\n" * 59, []),
        ('def f():\n """\n' + "\n" * 80 + ' """\n' + " pass\n" * 60, ["f (line 1): 61 lines, at most 60"]),
        ("async def f():\n" + " pass\n" * 60, ["f (line 1): 61 lines, at most 60"]),
        (NESTED.format("pass", "pass"), []),
        (NESTED.format("try: pass\n                    finally: pass", "pass"), ["deep"]),
        (NESTED.format("pass", "if items: pass"), ["deep"]),
        (NESTED.format("pass", "def inner():\n                        if items: pass"), []),
    ],
)
def test_what_is_counted(source: str, expected: list[str]) -> None:
    deep = ["deep (line 2): 5 blocks within each other, at most 4"]
    assert excesses(source) == (deep if expected == ["deep"] else expected)
