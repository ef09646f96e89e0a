"""A kernel's module loader, and a module that it takes."""

from __future__ import annotations

from typing import Any

from kallsift.addresses import VirtualAddress
from kallsift.modules.exports.exports import Exports, Loaded
from kallsift.modules.exports.ksymtab_entries import EXPORT_SYMBOL, EXPORT_SYMBOL_GPL, Export
from kallsift.modules.insmod.kernel_config import Loader
from tests.modules.module_builder import GLOBAL, TEXT, UNDEFINED

MAGIC = "6.1.0 SMP mod_unload modversions "


def export(name: str, crc: int | None, owner: str = "vmlinux", macro: str = EXPORT_SYMBOL, space: str = "") -> Export:
    return Export(name, VirtualAddress(0xFFFFFFFF81000000 + len(name)), owner, macro, space, crc)


EXPORTS = Exports(
    (
        export("module_layout", 1),
        export("free", 2),
        export("bound", 3, macro=EXPORT_SYMBOL_GPL),
        export("spaced", 4, space="SPACE"),
        export("named", 5, space="module:friend-*,good_module"),
        export("of_other", 6, "other"),
        export("of_coming", 7, "coming"),
        export("of_going", 8, "going"),
        export("uncounted", None),
    ),
    (Loaded("other", "Live"), Loaded("coming", "Loading"), Loaded("going", "Unloading")),
    checksums=True,
)


LOADER = Loader(
    architecture="x86-64",
    bits=64,
    byte_order="<",
    exports=EXPORTS,
    vermagic=MAGIC,
    extended_versions=False,
    forced=False,
    needs_every_version=False,
    lax_namespaces=False,
    checks_signatures=True,
    signed_only=False,
    locked_down=False,
    disabled=False,
    blacklist=("banned",),
)


GOOD: dict[str, Any] = {
    "symbols": [("own", GLOBAL, TEXT), ("free", GLOBAL, UNDEFINED), ("bound", GLOBAL, UNDEFINED)],
    "information": {"license": "GPL", "name": "good", "vermagic": MAGIC},
    "versions": {"module_layout": 1, "free": 2, "bound": 3},
}
