"""Define the option that names what a command writes to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

WHOLE = "Write to FILE; no partial file is left after an error."


def output_option(help: str = WHOLE, *, metavar: str = "FILE", required: bool = False) -> Callable[..., Any]:
    """Return the decorator that adds ``-o``, which a command receives as the path ``output``."""
    path = click.Path(path_type=Path)
    return click.option("-o", "--output", type=path, required=required, metavar=metavar, help=help)
