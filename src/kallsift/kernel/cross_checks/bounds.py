"""List the symbols that the linker script puts around sources of names and addresses.

Source: include/asm-generic/vmlinux.lds.h.
"""

from __future__ import annotations

EXPORT_ENDS = ("", "_gpl", "_gpl_future", "_unused", "_unused_gpl")
"""Suffixes of the names of the sections of exports; the last three ended with 5.12."""

PCI_FIXUPS = ("early", "header", "final", "enable", "resume", "suspend", "resume_early", "suspend_late")
"""Ends of the names of the sections of PCI quirks."""

SECTIONS_OF_ENTRIES = (
    "__param",
    "__dyndbg",
    "_bpf_raw_tp",
    "__tracepoint_str",
    "__tracepoints_ptrs",
    "ftrace_events",
    "ftrace_eval_maps",
    "syscalls_metadata",
    "kprobe_blacklist",
    "error_injection_whitelist",
)
"""Names of sections between ``__start_`` and ``__stop_`` to which macros add an entry each, under a symbol."""

LINKER_ARRAYS = (
    *((f"__start_{name}".encode(), f"__stop_{name}".encode()) for name in SECTIONS_OF_ENTRIES),
    *((f"__start_pci_fixups_{end}".encode(), f"__end_pci_fixups_{end}".encode()) for end in PCI_FIXUPS),
    (b"__start_once", b"__end_once"),
    (b"__setup_start", b"__setup_end"),
    (b"__initcall_start", b"__initcall_end"),
    (b"__static_call_text_start", b"__static_call_text_end"),
)
"""Symbols at the beginning and the end of arrays of which each entry has a symbol."""

BOUNDS = (
    *(f"__{edge}___ksymtab{end}".encode() for end in EXPORT_ENDS for edge in ("start", "stop")),
    *(name for pair in LINKER_ARRAYS for name in pair),
    b"__start___kflagstab",
    b"__start_BTF",
    b"__stop_BTF",
    b"__start_mcount_loc",
    b"__stop_mcount_loc",
    b"__start_orc_unwind_ip",
    b"__stop_orc_unwind_ip",
    b"__start_orc_unwind",
    b"__start___jump_table",
    b"__stop___jump_table",
    b"__start_static_call_sites",
    b"__stop_static_call_sites",
    b"ftrace_pages_start",
    b"_stext",
    b"_etext",
)
"""Symbols that bound other sources of names and addresses, or lead to them."""
