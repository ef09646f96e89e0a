"""Tell the types of symbols: BTF has those of functions and per-CPU variables; of others, known names have theirs.

What an entry of the table below says holds only if the type has room before the next symbol. Where a name had several
types, the first that the kernel has and that fits is taken; no release decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kallsift.kallsyms.symbol_table import Symbol
from kallsift.kernel.access.btf_blob import BtfError, Kind
from kallsift.kernel.access.image_sections import PER_CPU, address_of
from kallsift.types.btf import PER_CPU_SECTION
from kallsift.types.derived import derived
from kallsift.types.type import Type
from kallsift.types.types import Types

SPELLED = re.compile(r"(?P<base>[\w ]*\w) ?(?P<stars>\**)(?P<array>\[\])?")
"""A type as the table writes it: ``[]`` is as long as there is room."""

MAX_VARIABLES = 1 << 16
"""Highest number of variables of a section that are looked at; a kernel has some hundreds."""

FUNCTION_LETTERS = "TtWw"
"""Letters of symbols that are functions."""

UNNAMED = "struct with "
"""What begins the entry of a structure without a name: its members follow."""

_NAMES_BY_TYPE: dict[str, str] = {
    "struct list_head": "modules net_namespace_list slab_caches super_blocks pci_root_buses vmap_area_list "
    "tty_drivers bpf_kallsyms ftrace_mod_maps ftrace_ops_trampoline_list btf_modules",
    "struct task_struct": "init_task",
    "struct mm_struct": "init_mm",
    "struct files_struct": "init_files",
    "struct pid_namespace": "init_pid_ns",
    "struct user_namespace": "init_user_ns",
    "struct uts_namespace": "init_uts_ns",
    "struct ipc_namespace": "init_ipc_ns",
    "struct net": "init_net",
    "struct nsproxy": "init_nsproxy",
    "struct css_set": "init_css_set",
    "struct cgroup_root": "cgrp_dfl_root",
    "struct idr": "prog_idr map_idr link_idr btf_idr",
    "unsigned long": "page_offset_base vmemmap_base vmalloc_base max_pfn max_low_pfn min_low_pfn "
    "__highest_present_section_nr tainted_mask module_addr_min module_addr_max",
    "unsigned int": "nr_cpu_ids nr_node_ids log_buf_len nr_swapfiles total_nr_irqs kallsyms_num_syms",
    "int": "cap_last_cap nr_vmap_nodes nr_irqs hugetlb_max_hstate num_registered_fb",
    "struct printk_ringbuffer *": "prb",
    "char *": "log_buf saved_command_line",
    "struct kset *": "module_kset",
    "struct vmap_node *": "vmap_nodes",
    "struct ftrace_ops *": "ftrace_ops_list",
    "struct ftrace_ops": "ftrace_list_end",
    "struct fb_info *[]": "registered_fb",
    "struct seq_operations": "raw_seq_ops raw6_seq_ops udp_seq_ops udp6_seq_ops tcp4_seq_ops tcp6_seq_ops arp_seq_ops "
    "unix_seq_ops packet_seq_ops",
    "struct kernfs_node *": "sysfs_root_kn",
    "struct kmem_cache *": "task_struct_cachep",
    "unsigned long[]": "__per_cpu_offset",
    "gate_desc[]": "idt_table",
    "void *[]": "sys_call_table",
    "struct pglist_data *[]": "node_data",
    "nodemask_t[]": "node_states",
    "struct hstate[]": "hstates",
    "struct swap_info_struct *[]": "swap_info",
    "atomic_long_t[]": "vm_node_stat vm_zone_stat",
    "struct tk_data[]": "timekeeper_data",
    "struct taint_flag[]": "taint_flags",
    "struct mod_tree_root": "mod_tree",
    "struct resource": "iomem_resource ioport_resource",
    "u64": "jiffies_64",
    "struct inet_hashinfo": "tcp_hashinfo",
    "struct file_operations": "socket_file_ops",
    "struct dentry_operations": "sockfs_dentry_operations",
    "struct atomic_notifier_head": "keyboard_notifier_list",
    "struct cpumask": "__cpu_online_mask __cpu_possible_mask __cpu_present_mask",
}

SYMBOL_TYPES: dict[str, tuple[str, ...]] = {
    **{name: (type_,) for type_, names in _NAMES_BY_TYPE.items() for name in names.split()},
    "tk_core": ("struct tk_data", f"{UNNAMED}seq timekeeper"),
    "__start___tracepoints_ptrs": ("tracepoint_ptr_t[]", "int[]"),
    "irq_desc_tree": ("struct radix_tree_root", "struct xarray"),
    "runqueues": ("struct rq",),
}
"""Possible types of well-known symbols."""


def typed_symbol(types: Types, name: str) -> tuple[Symbol, Type] | None:
    """Return the symbol of a name whose type is known, and its type.

    None where nothing tells the type, or not of which of several symbols of the name.
    """
    symbols = types.kernel.symbols.all(name)
    if not symbols:
        return None
    function = types.function(name)
    if function is not None:
        return next((symbol for symbol in symbols if symbol.type in FUNCTION_LETTERS), symbols[0]), function
    try:
        variable = _per_cpu(types, name, symbols)
    except BtfError:
        variable = None
    return well_known(types, name) if variable is None else variable


def known_variables(types: Types) -> Iterator[tuple[Symbol, Type]]:
    """Yield the symbols whose types the table knows, each with its type."""
    for name in SYMBOL_TYPES:
        known = well_known(types, name)
        if known is not None:
            yield known


def per_cpu_variables(types: Types) -> Iterator[tuple[str, int, int]]:
    """Yield the variables of sections: name, offset in the section, number of the type.

    Other sections than that of per-CPU variables can have some too; the place of the symbol of the name tells them
    apart. Damaged ones are left out.
    """
    btf = types.btf
    for section in btf.of_kind(Kind.DATASEC).tolist():
        for number, offset, _ in btf.records(section)[:MAX_VARIABLES].tolist():
            try:
                if btf.info(number)[0] is Kind.VAR:
                    yield btf.name(number), offset, btf.third(number)
            except BtfError:
                continue


def well_known(types: Types, name: str) -> tuple[Symbol, Type] | None:
    """Return the only symbol of a name that the table's type fits, or None."""
    symbols = types.kernel.symbols.all(name) if name in SYMBOL_TYPES else ()
    fitting = ((symbol, _known(types, name, _room(types, symbol))) for symbol in symbols)
    found = [(symbol, type_) for symbol, type_ in fitting if type_ is not None]
    return found[0] if len(found) == 1 else None


def _per_cpu(types: Types, name: str, symbols: tuple[Symbol, ...]) -> tuple[Symbol, Type] | None:
    """Return a per-CPU variable and its type; the section of it says where it stands."""
    start = address_of(types.kernel, PER_CPU[0])
    numbers = {number for number in types.btf.named(name) if Type(types.btf, number).kind is Kind.VAR}
    if not numbers or start is None:
        return None
    by_offset = {symbol.address - start: symbol for symbol in symbols}
    found = {
        (number, offset)
        for number, offset, _ in types.btf.variables(PER_CPU_SECTION)
        if number in numbers and offset in by_offset
    }
    if len(found) != 1:
        return None
    number, offset = found.pop()
    type_ = Type(types.btf, number).target
    return (by_offset[offset], type_) if type_.size else None


def _room(types: Types, symbol: Symbol) -> int:
    """Return the bytes up to the next symbol; 0 behind the last one."""
    location = types.kernel.symbols.at(symbol.address)
    return 0 if location is None or location.size is None else location.size


def _known(types: Types, name: str, room: int) -> Type | None:
    """Return the first type that the table has for a name, that the kernel has, and that the room is enough for."""
    for spelled in SYMBOL_TYPES[name]:
        try:
            found = _spelled(types, spelled, room)
            if found is not None and 0 < found.size <= room:
                return found
        except BtfError:
            continue
    return None


def _spelled(types: Types, spelled: str, room: int) -> Type | None:
    """Return the type that an entry of the table means; None if the kernel has no such type."""
    if spelled.startswith(UNNAMED):
        return _unnamed(types, spelled.removeprefix(UNNAMED).split())
    match = SPELLED.fullmatch(spelled)
    assert match is not None
    base = Type(types.btf, 0) if match["base"] == "void" else types.get(match["base"])
    if base is None:
        return None
    if match["array"] is None:
        return derived(base, len(match["stars"]), None)
    element = derived(base, len(match["stars"]), None).size
    return derived(base, len(match["stars"]), room // element if element else 0)


def _unnamed(types: Types, members: list[str]) -> Type | None:
    """Return the structure without a name that has just these members; None if not one has."""
    numbers = types.btf.with_record(members[-1], Kind.STRUCT)
    found = [Type(types.btf, number) for number in numbers]
    found = [type_ for type_ in found if not type_.name and [member.name for member in type_.members] == members]
    return found[0] if len(found) == 1 else None
