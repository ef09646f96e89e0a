"""Each layer imports only itself and those before it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "kallsift"

BELOW_KERNEL = {"addresses", "arrays", "budget", "errors", "lanes", "memory", "image", "kallsyms", "machine"}

MAY_IMPORT = {
    "addresses": set[str](),
    "budget": set[str](),
    "arrays": set[str](),
    "errors": set[str](),
    "lanes": set[str](),
    "memory": {"addresses", "arrays", "budget", "errors", "lanes"},
    "image": {"addresses", "arrays", "budget", "errors", "lanes", "memory"},
    "kallsyms": {"addresses", "arrays", "budget", "errors", "lanes", "memory"},
    "machine": {"addresses", "arrays", "budget", "errors", "lanes", "memory"},
    "kernel": BELOW_KERNEL,
    "modules": BELOW_KERNEL | {"kernel"},
    "questions": BELOW_KERNEL | {"kernel", "modules"},
    "output": BELOW_KERNEL | {"kernel", "modules", "questions"},
    "cli": BELOW_KERNEL | {"kernel", "modules", "questions", "output"},
}
"""What each layer may import beside itself, in the order of the way of the data."""

PACKAGE = {"__init__", "__main__"}
"""Modules above all layers."""


def modules() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if path.relative_to(SOURCE).parts[0] != "__pycache__")


def layer(path: Path) -> str:
    """The layer that a module belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The layers that a module imports from, at any depth of its code."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports hide the layer"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    own = [name.split(".") for name in names if name.split(".")[0] == "kallsift"]
    return {parts[1] if len(parts) > 1 else "__init__" for parts in own}


def test_every_module_has_a_layer() -> None:
    assert {layer(path) for path in modules()} <= MAY_IMPORT.keys() | PACKAGE


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_backwards(path: Path) -> None:
    own = layer(path)
    if own in PACKAGE:
        return
    # whatever is no layer is a name of the package's own face, such as its version: only the last layer may ask for it
    face = {name for name in imported(path) if name not in MAY_IMPORT} if own == "cli" else set()
    assert imported(path) - face <= MAY_IMPORT[own] | {own}
