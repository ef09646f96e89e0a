"""Write the symbol file of a dump into Volatility's cache, if Volatility has none of that kernel."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, ClassVar

from volatility3 import symbols
from volatility3.framework import constants, interfaces
from volatility3.framework.automagic import symbol_cache
from volatility3.framework.configuration import requirements

import kallsift
from kallsift.errors import KallsiftError
from kallsift.output.isf.writer import Producer, file_name, packed, symbol_file
from kallsift.types.module_types import loaded_types
from kallsift_volatility.recovery import Recovered, recovered

logger = logging.getLogger(__name__)

LOCATION = "automagic.LayerStacker.single_location"
"""Key of the dump's URL, which ``vol -f`` sets."""


class KallsiftMagic(interfaces.automagic.AutomagicInterface):
    """Makes the symbol file before layers are stacked (priority 10), and after Volatility looked for files (0)."""

    priority = 5
    exclusion_list: ClassVar[list[str]] = ["mac", "windows"]

    def __call__(
        self,
        context: interfaces.context.ContextInterface,
        config_path: str,
        requirement: interfaces.configuration.RequirementInterface,
        progress_callback: Any = None,
    ) -> None:
        """Write the symbol file of the dump, unless nothing asks for one or there is one."""
        location = context.config.get(LOCATION, None)
        wanted = self.find_requirements(context, config_path, requirement, requirements.SymbolTableRequirement)
        if location is None or not wanted:
            return
        found = recovered(location)
        if found is None:
            return
        cache = symbol_cache.SqliteCache(str(Path(constants.CACHE_PATH, constants.IDENTIFIERS_FILENAME)))
        if cache.find_location(found.banner, "linux") is not None:
            return
        folder = Path(constants.CACHE_PATH, "symbols")
        try:
            write_symbols(found, folder / "linux")
        except (KallsiftError, OSError) as error:
            logger.warning("kallsift cannot make a symbol file: %s", error)
            return
        if str(folder) not in symbols.__path__:
            symbols.__path__.append(str(folder))
        cache.update(progress_callback)


def write_symbols(found: Recovered, folder: Path) -> Path:
    """Write the symbol file of a kernel, and return its path.

    Raises:
        KallsiftError: if the kernel carries no types.
        OSError: if it cannot be written.
    """
    types = found.kernel.types
    modules, errors = loaded_types(types)
    for error in errors:
        logger.warning("kallsift leaves out the types of a module: %s", error)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(found.kernel)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as stream:
            stream.writelines(packed(symbol_file(types, modules, Producer("kallsift", kallsift.__version__))))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
