"""Draw the architecture from the imports of the source: the text of docs/architecture.md.

python -m tests.architecture > docs/architecture.md    (make architecture)
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "kallsift"

SHARED = ("addresses", "arrays", "budget", "by_name", "byte_search", "errors", "lanes", "optional_package", "threads")
"""Single modules that stand below all packages."""

FACADE = "facade"
"""The one module above the packages that answer: it imports all but `cli`, and none of them imports it."""

PACKAGES = (
    "compression",
    "memory",
    "image",
    "kallsyms",
    "arch",
    "kernel",
    "types",
    "modules",
    "analysis",
    "output",
    "cli",
)
"""Packages in the order of the way of the data: each may import itself and those that `MAY_IMPORT` names."""

BELOW_KERNEL = {*SHARED, "compression", "memory", "image", "kallsyms", "arch"}

MAY_IMPORT: dict[str, set[str]] = {
    **{name: set() for name in SHARED},
    "compression": {*SHARED},
    "memory": {*SHARED, "compression"},
    "image": {*SHARED, "compression", "memory"},
    "kallsyms": {*SHARED, "memory"},
    "arch": {*SHARED, "memory"},
    "kernel": BELOW_KERNEL,
    "types": BELOW_KERNEL | {"kernel"},
    "modules": BELOW_KERNEL | {"kernel", "types"},
    "analysis": BELOW_KERNEL | {"kernel", "types", "modules"},
    "output": BELOW_KERNEL | {"kernel", "types", "modules", "analysis"},
    FACADE: BELOW_KERNEL | {"kernel", "types", "modules", "analysis", "output"},
    "cli": BELOW_KERNEL | {"kernel", "types", "modules", "analysis", "output"},
}
"""What each layer may import beside itself. A layer is a package or a shared module."""

HEAD = """\
# The architecture

Written by `make architecture` from the import statements of `src/kallsift`. A test fails when this page is not current.

An arrow means "imports". An arrow that follows from two others is left out; the table has all of them. A package may
import only what stands before it in the table; `tests/test_layers.py` fails otherwise. [design.md](design.md) says how
each package works.

"""


def source_files() -> list[Path]:
    """List every Python file of the package, in order."""
    return sorted(SOURCE.rglob("*.py"))


def layer_of(path: Path) -> str:
    """Name the layer that a file belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@cache
def imported_layers(path: Path) -> frozenset[str]:
    """Collect the layers that a file imports from, at any depth of its code."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports hide the layer"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    own = [name.split(".") for name in names if name.split(".")[0] == "kallsift"]
    return frozenset(parts[1] if len(parts) > 1 else "__init__" for parts in own)


def imported_when_loaded(path: Path) -> frozenset[str]:
    """Collect the modules of the package that are imported as soon as a file is, and not where one is needed later."""
    names = set()
    for node in ast.parse(path.read_text("utf-8"), str(path)).body:
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "kallsift":
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return frozenset(names & module_names())


@cache
def module_names() -> frozenset[str]:
    """List all modules of the package."""
    return frozenset(map(module_name, source_files()))


def module_name(path: Path) -> str:
    """Name the module that a file holds, as import statements do."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def page() -> str:
    """Write docs/architecture.md: a graph of the packages in Mermaid's language, and a table."""
    imports = {name: _imports_of(name) for name in PACKAGES}
    lines = ["```mermaid", "flowchart TD"]
    lines += [f'    {name}["{name}"]' for name in PACKAGES]
    lines += [f"    {name} --> {below}" for name in PACKAGES for below in _direct(name, imports)]
    lines += ["```", "", "| package | its job | imports |", "|---|---|---|"]
    for name in PACKAGES:
        beside = [other for other in PACKAGES if other in imports[name]]
        lines.append(f"| `{name}` | {_job(SOURCE / name / '__init__.py')} | {', '.join(beside) or '-'} |")
    lines += ["", f"Above them, beside `cli`, stands `{FACADE}.py`: {_job(SOURCE / f'{FACADE}.py')}"]
    lines += ["", "Below all packages stand single modules, which every package may import:", ""]
    lines += ["| module | its job |", "|---|---|"]
    lines += [f"| `{name}.py` | {_job(SOURCE / f'{name}.py')} |" for name in SHARED]
    return HEAD + "\n".join(lines) + "\n"


def _imports_of(package: str) -> set[str]:
    """Collect the layers that the files of a package import, itself left out."""
    files = (path for path in source_files() if layer_of(path) == package)
    return set().union(*map(imported_layers, files)) - {package}


def _direct(name: str, imports: dict[str, set[str]]) -> list[str]:
    """List the packages that one imports and that no other package which it imports leads to."""
    below = [other for other in PACKAGES if other in imports[name]]
    return [other for other in below if not any(other in imports[between] for between in below)]


def _job(path: Path) -> str:
    """Return the first paragraph of a file's docstring, on one line."""
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return " ".join(text.split("\n\n", maxsplit=1)[0].split())


if __name__ == "__main__":
    print(page(), end="")
