"""Define ``kallsift volatility``: make Volatility 3 use kallsift by itself."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from kallsift.cli.exit_codes import ExitCode
from kallsift.cli.messages import note
from kallsift.cli.output_file import BY_UMASK, output_file
from kallsift.cli.rich_help import HelpedCommand
from kallsift.errors import KallsiftError
from kallsift.memory.memory import printable

EXAMPLES = {
    "kallsift volatility install": "from then on: vol -f memory.kdump linux.pslist, without a symbol file",
    "kallsift volatility install --remove": "undo that",
}

PACKAGE = "kallsift_volatility"

SETTINGS = ".config/volatility3/vol.json"
"""File in the home folder that Volatility reads its defaults from."""

KEY, SEPARATOR = "plugin_dirs", ";"
"""Setting with the folders of plugins, and what stands between two of them."""


@click.command(cls=HelpedCommand, examples=EXAMPLES)
@click.argument("action", type=click.Choice(("install",)))
@click.option("--remove", is_flag=True, help="Remove the folder from Volatility's settings again.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def volatility(action: str, remove: bool, yes: bool) -> int:
    """Make Volatility 3 use kallsift for every Linux dump.

    Adds the folder of the package kallsift-volatility to ~/.config/volatility3/vol.json, and leaves the rest of that
    file as it is. Then Volatility needs no symbol file, and reads dumps that it cannot read otherwise: kdumps,
    compressed AVML, machines with 5-level page tables.

    The exit code is 1 if the answer is no, the package is not installed, or the file is not valid.
    """
    path = Path.home() / SETTINGS
    settings = _settings(path)
    folders = [folder for folder in str(settings.get(KEY) or "").split(SEPARATOR) if folder]
    own = None if remove else str(_folder())
    kept = [folder for folder in folders if folder != own and not _is_own(folder)]
    wanted = kept if own is None else [*kept, own]
    if wanted == folders:
        note(f"kallsift: {path} needs no change")
        return ExitCode.PROVEN
    change = f"remove kallsift's folder from {path}" if own is None else f"add {own} to {path}"
    if not yes and not click.confirm(printable(f"{change[0].upper()}{change[1:]}?"), err=True):
        return ExitCode.NOTHING
    settings = {**settings, KEY: SEPARATOR.join(wanted)} if wanted else _without(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    output_file(path, permissions=BY_UMASK).write([json.dumps(settings, indent=2).encode("ascii") + b"\n"])
    note(f"kallsift: wrote {path}")
    return ExitCode.PROVEN


def _settings(path: Path) -> dict[str, Any]:
    """Return Volatility's settings; nothing where there is no file.

    Raises:
        KallsiftError: if the file is none of settings.
    """
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise KallsiftError(f"{path}: is not JSON ({error}); repair or remove it") from error
    if not isinstance(found, dict):
        raise KallsiftError(f"{path}: is not a JSON object; repair or remove it")
    return found


def _without(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != KEY}


def _folder() -> Path:
    """Return the folder of plugins in the installed package.

    Raises:
        KallsiftError: if it is not installed.
    """
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise KallsiftError("the package kallsift-volatility is not installed; pip install kallsift-volatility")
    return Path(next(iter(found.submodule_search_locations)), "plugins").resolve()


def _is_own(folder: str) -> bool:
    """Tell whether a folder belongs to an installation of the package, perhaps an older one."""
    return Path(folder).parts[-2:] == (PACKAGE, "plugins")
