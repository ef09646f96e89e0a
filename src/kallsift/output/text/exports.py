"""Write a kernel's exports as lines of ``Module.symvers``, or as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from kallsift.kallsyms.escapes import escaped
from kallsift.modules.exports.exports import Exports
from kallsift.modules.exports.ksymtab_entries import Export


def symvers_lines(exports: Iterable[Export]) -> Iterator[str]:
    """Yield a line for each export, as ``modpost`` writes it.

    The line has checksum, name, owner, macro and namespace with tabs between. A checksum that the kernel does not keep
    is 0, as in ``Module.symvers``. A module is called by its name, not by its path in the kernel's sources.
    """
    for export in exports:
        name, owner, namespace = (escaped(text) for text in (export.name, export.owner, export.namespace))
        yield f"0x{export.crc or 0:08x}\t{name}\t{owner}\t{export.macro}\t{namespace}\n"


def exports_document(exports: Exports) -> dict[str, Any]:
    """Return a kernel's exports as values that JSON can express."""
    return {
        "missing": list(exports.missing),
        "exports": [
            {
                "name": export.name,
                "address": None if export.address is None else f"{export.address:#x}",
                "owner": export.owner,
                "macro": export.macro,
                "gpl_only": export.gpl_only,
                "namespace": export.namespace,
                "crc": None if export.crc is None else f"0x{export.crc:08x}",
            }
            for export in exports
        ],
    }
