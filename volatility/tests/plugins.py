"""The plugins of the installed Volatility for Linux, and what to give those that want arguments."""

from __future__ import annotations

import re
from dataclasses import dataclass

import volatility3.plugins
from truth import Truth
from volatility3 import framework
from volatility3.framework import constants, deprecation

ARGUMENTS: dict[str, tuple[str, ...]] = {
    "linux.module_extract.ModuleExtract": ("--base", "{module}"),
    "linux.pagecache.InodePages": ("--find", "/etc/labopen.txt"),
    "linux.vmaregexscan.VmaRegExScan": ("--pattern", "LAB-ARG-MARKER-[0-9a-f]+"),
    "linux.vmayarascan.VmaYaraScan": ("--yara-string", "LAB-ARG-MARKER"),
}
"""Arguments of plugins that do nothing without any."""


@dataclass(frozen=True)
class Plugin:
    """A plugin and its arguments.

    Attributes:
        name: as ``vol`` takes it.
        arguments: the words after it, in which ``{module}`` is the address of a module's structure.
    """

    name: str
    arguments: tuple[str, ...]

    def words(self, truth: Truth) -> list[str]:
        """Return the arguments for one guest."""
        return [word.format(module=truth.fact("labrootkit.module")) for word in self.arguments]


def load_plugins() -> None:
    """Import all plugins, so that a child that is forked later need not.

    Raises:
        ImportError: if some of those for Linux lack a library.
    """
    volatility3.plugins.__path__ = constants.PLUGINS_PATH
    failures = framework.import_files(volatility3.plugins, True)
    if lacking := [name for name in failures if re.search(r"\.linux\.", name)]:
        raise ImportError(f"cannot import {', '.join(lacking)}: pip install -e './volatility[test]'")


def linux_plugins() -> list[Plugin]:
    """Return all plugins for Linux, but for second names of plugins that were renamed."""
    load_plugins()
    return [
        Plugin(name, ARGUMENTS.get(name, ()))
        for name, kind in sorted(framework.list_plugins().items())
        if name.startswith("linux.") and not issubclass(kind, deprecation.PluginRenameClass)
    ]
