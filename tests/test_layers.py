"""Each layer imports only itself and those before it, no modules import each other, and the picture is current."""

from __future__ import annotations

from graphlib import TopologicalSorter
from pathlib import Path

import pytest

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


def test_every_module_has_a_layer() -> None:
    assert {layer_of(path) for path in source_files()} <= MAY_IMPORT.keys() | PACKAGE


@pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_backwards(path: Path) -> None:
    own = layer_of(path)
    if own in PACKAGE:
        return
    # whatever is no layer is a name of the package's own face, such as its version: only the last layer may ask for it
    face = {name for name in imported_layers(path) if name not in MAY_IMPORT} if own == "cli" else set()
    assert imported_layers(path) - face <= MAY_IMPORT[own] | {own}


def test_no_modules_import_each_other() -> None:
    """A circle of imports would be a CycleError. The package itself only names what its modules hold."""
    files = [path for path in source_files() if path.parent != SOURCE or path.name != "__init__.py"]
    TopologicalSorter({module_name(path): imported_when_loaded(path) - {"kallsift"} for path in files}).prepare()


def test_the_picture_is_current() -> None:
    assert PICTURE.read_text("utf-8") == page(), "run: make architecture"
