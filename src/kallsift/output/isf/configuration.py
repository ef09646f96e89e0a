"""Write what Volatility would find out of a dump as its own configuration, for ``vol -c``."""

from __future__ import annotations

import json
from pathlib import Path

from kallsift.errors import KallsiftError
from kallsift.kernel.kernel import Kernel
from kallsift.output.isf.symbols import banner_data

FRAMEWORK = "volatility3.framework"

TRANSLATIONS = {
    ("x86-64", "4-level"): "intel.LinuxIntel32e",
    ("x86", "PAE"): "intel.LinuxIntelPAE",
    ("x86", "2-level"): "intel.LinuxIntel",
}
"""Volatility's classes by architecture and paging; it has none for others."""

CONTAINERS = {"raw": None, "LiME": "lime.LimeLayer", "ELF core": "elf.Elf64Layer"}
"""Volatility's classes by container; None where the file itself is the memory."""


def volatility_configuration(kernel: Kernel, source: Path, container: str, symbols: Path) -> str:
    """Return the configuration as text.

    Args:
        kernel: the kernel.
        source: the dump.
        container: its format.
        symbols: the symbol file of this kernel.

    Raises:
        KallsiftError: if Volatility can read no such memory, or what it needs is unknown.
    """
    translation = TRANSLATIONS.get((kernel.architecture or "", kernel.paging or ""))
    if translation is None:
        raise KallsiftError(
            f"Volatility has no layer for {kernel.architecture or 'an unknown architecture'} with "
            f"{kernel.paging or 'unknown'} page tables; leave out --config"
        )
    if container not in CONTAINERS:
        raise KallsiftError(
            f"Volatility needs more than a configuration for {container}; write a LiME dump first: kallsift convert"
        )
    banner = banner_data(kernel)
    if kernel.page_table_root is None or kernel.kaslr_slide is None or banner is None:
        raise KallsiftError(
            "page table, KASLR slide and banner are not all known, so no configuration can be written; leave "
            "out --config"
        )
    layer = "kernel.layer_name"
    memory, file = f"{layer}.memory_layer", f"{FRAMEWORK}.layers.physical.FileLayer"
    segments = CONTAINERS[container]
    values: dict[str, str | int] = {
        "kernel.class": f"{FRAMEWORK}.contexts.Module",
        "kernel.offset": kernel.kaslr_slide,
        f"{layer}.class": f"{FRAMEWORK}.layers.{translation}",
        f"{layer}.kernel_banner": banner.decode("latin-1"),
        f"{layer}.kernel_virtual_offset": kernel.kaslr_slide,
        f"{layer}.page_map_offset": kernel.page_table_root,
        "kernel.symbol_table_name.class": f"{FRAMEWORK}.symbols.linux.LinuxKernelIntermedSymbols",
        "kernel.symbol_table_name.isf_url": symbols.resolve().as_uri(),
        "kernel.symbol_table_name.symbol_mask": (1 << (48 if kernel.symbols.word_size == 8 else 32)) - 1,
    }
    if segments is not None:
        values[f"{memory}.class"] = f"{FRAMEWORK}.layers.{segments}"
        memory += ".base_layer"
    values |= {f"{memory}.class": file, f"{memory}.location": source.resolve().as_uri()}
    return json.dumps(values, indent=2, sort_keys=True) + "\n"
