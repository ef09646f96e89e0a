"""Each layer imports only itself and those before it, no modules import each other, and the picture is current.

No test module imports another one: what two of them need stands in a module of its own.
"""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

from tests.architecture import (
    MAY_IMPORT,
    SOURCE,
    imported_layers,
    imported_when_loaded,
    layer_of,
    module_name,
    page,
    source_files,
)

PACKAGE = {"__init__", "__main__"}
"""Modules above all layers."""

PICTURE = Path(__file__).parents[1] / "docs" / "architecture.md"

TESTS = Path(__file__).parent


def test_every_module_has_a_layer() -> None:
    assert {layer_of(path) for path in source_files()} <= MAY_IMPORT.keys() | PACKAGE


def test_imports_point_backwards() -> None:
    found = {module_name(path): forward_imports(path) for path in source_files()}
    assert {name: layers for name, layers in found.items() if layers} == {}


def forward_imports(path: Path) -> frozenset[str]:
    """Collect the layers that a module imports although they are not before its own."""
    own = layer_of(path)
    if own in PACKAGE:
        return frozenset()
    # whatever is no layer is a name of the package's own face, such as its version: only the last layer may ask for it
    face = {name for name in imported_layers(path) if name not in MAY_IMPORT} if own == "cli" else set()
    return imported_layers(path) - face - MAY_IMPORT[own] - {own}


def test_no_modules_import_each_other() -> None:
    """A circle of imports would be a CycleError. The package itself only names what its modules hold."""
    files = [path for path in source_files() if path.parent != SOURCE or path.name != "__init__.py"]
    TopologicalSorter({module_name(path): imported_when_loaded(path) - {"kallsift"} for path in files}).prepare()


def test_no_test_module_imports_another() -> None:
    """Who reads or changes one need not know the others, and a file of tests can run without them."""
    named = [
        (path.relative_to(TESTS).as_posix(), name)
        for path in sorted(TESTS.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path)))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in imported_names(node)
    ]
    assert ("test_layers.py", "tests.architecture.page") in named
    assert [(path, name) for path, name in named if ".test_" in f".{name}"] == []


def imported_names(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Spell what an import statement names, with the module that it is taken from."""
    before = f"{node.module or ''}." if isinstance(node, ast.ImportFrom) else ""
    return [f"{before}{alias.name}" for alias in node.names]


def test_the_picture_is_current() -> None:
    assert PICTURE.read_text("utf-8") == page(), "run: make architecture"
