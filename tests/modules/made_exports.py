"""Exports made by hand: with and without a checksum, of the kernel and of a module."""

from __future__ import annotations

from kallsift.addresses import VirtualAddress
from kallsift.modules.exports.exports import Exports, Loaded
from kallsift.modules.exports.ksymtab_entries import Export

FOUND = Exports(
    (
        Export("printk", VirtualAddress(0xFFFFFFFF81000010), "vmlinux", "EXPORT_SYMBOL", "", 0x92997ED8),
        Export("sp\x1bace", VirtualAddress(0x20), "vmlinux", "EXPORT_SYMBOL_GPL", "NS", None),
        Export("helper", VirtualAddress(0x30), "other", "EXPORT_SYMBOL", "", 1),
    ),
    (Loaded("other", "Live"), Loaded("silent", "Live")),
)
