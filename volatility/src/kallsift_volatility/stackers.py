"""Put kallsift's layers below Volatility's plugins, before Volatility searches by itself."""

from __future__ import annotations

from typing import Any, ClassVar

from volatility3.framework import interfaces
from volatility3.framework.automagic.linux import LinuxSymbolFinder
from volatility3.framework.interfaces.configuration import path_join
from volatility3.framework.layers import intel, physical

from kallsift_volatility.layers import KallsiftLayer, LinuxIntel32eLA57
from kallsift_volatility.recovery import recovered

TRANSLATIONS: dict[tuple[str | None, str | None], type[intel.Intel]] = {
    ("x86-64", "4-level"): intel.LinuxIntel32e,
    ("x86-64", "5-level"): LinuxIntel32eLA57,
    ("x86", "PAE"): intel.LinuxIntelPAE,
    ("x86", "2-level"): intel.LinuxIntel,
}
"""Layers by architecture and paging."""


class KallsiftStacker(interfaces.automagic.StackerLayerInterface):
    """Puts the memory of a dump onto its file."""

    stack_order = 1
    exclusion_list: ClassVar[list[str]] = ["mac", "windows"]

    @classmethod
    def stack(
        cls, context: interfaces.context.ContextInterface, layer_name: str, progress_callback: Any = None
    ) -> interfaces.layers.DataLayerInterface | None:
        """Return the memory of the dump in a file; None if kallsift recovers no kernel that Volatility can read."""
        layer = context.layers[layer_name]
        if not isinstance(layer, physical.FileLayer):
            return None
        found = recovered(layer.config["location"])
        if found is None or (found.kernel.architecture, found.kernel.paging) not in TRANSLATIONS:
            return None
        name = context.layers.free_layer_name("KallsiftLayer")
        config_path = path_join("kallsift", name)
        context.config[path_join(config_path, "location")] = layer.config["location"]
        return KallsiftLayer(context, config_path, name)


class KallsiftIntelStacker(interfaces.automagic.StackerLayerInterface):
    """Puts the kernel's virtual memory onto that memory."""

    stack_order = 2
    exclusion_list: ClassVar[list[str]] = ["mac", "windows"]

    @classmethod
    def stack(
        cls, context: interfaces.context.ContextInterface, layer_name: str, progress_callback: Any = None
    ) -> interfaces.layers.DataLayerInterface | None:
        """Return the kernel's virtual memory."""
        layer = context.layers[layer_name]
        if not isinstance(layer, KallsiftLayer):
            return None
        found = recovered(layer.config["location"])
        if found is None:
            return None
        name = context.layers.free_layer_name("IntelLayer")
        config_path = path_join("kallsift", name)
        values = {
            "memory_layer": layer_name,
            "page_map_offset": found.page_map_offset,
            "kernel_virtual_offset": found.kernel_virtual_offset,
            LinuxSymbolFinder.banner_config_key: found.banner.decode("latin-1"),
        }
        for key, value in values.items():
            context.config[path_join(config_path, key)] = value
        translation = TRANSLATIONS[found.kernel.architecture, found.kernel.paging]
        return translation(context, config_path=config_path, name=name, metadata={"os": "Linux"})
