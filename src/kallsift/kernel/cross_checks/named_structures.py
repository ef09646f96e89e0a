"""List the structures of the kernel's macros that are named after the targets of their words, and read them.

TRACE_EVENT, SYSCALL_DEFINE, NOKPROBE_SYMBOL and others (include/trace/, include/linux/tracepoint.h,
include/linux/syscalls.h, include/asm-generic/kprobes.h) make a structure called ``PREFIX_x``, one word of which is the
address of ``OTHER_x``; in some, another word is the address of the text ``x``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kernel.cross_checks.at_addresses import first_at, named_at
from kallsift.kernel.cross_checks.name_keys import PREFIXES, Names, whole_keys
from kallsift.kernel.placement.placement import Placement
from kallsift.kernel.placement.pointer_targets import without_code_bit
from kallsift.memory.memory import Memory

MIN_MEMBERS = 32
"""Lowest number of structures that must point where their names say to make a rule."""

MAX_LOOKED_AT = 64
"""Highest number of exceptions to a rule that are examined one by one."""


@dataclass(frozen=True)
class Holder:
    """Structures whose names begin alike, and the targets of their words.

    Attributes:
        prefix: the beginning of their names.
        targets: beginnings of the targets' names, which continue as the structure's name does; an empty one stands for
            a plain name.
        before_text: text before the rest of the name in a string that a word points to; None if no word does.
    """

    prefix: bytes
    targets: tuple[bytes, ...] = ()
    before_text: bytes | None = None


OF_TRACEPOINTS = (b"__SCK__tp_func_", b"__SCT__tp_func_", b"__traceiter_", b"__probestub_", b"__tpstrtab_")

HOLDERS = (
    Holder(b"__tracepoint_", OF_TRACEPOINTS, b""),
    Holder(b"__bpf_trace_tp_map_", (b"__tracepoint_",)),
    Holder(b"__event_", (b"event_",)),
    Holder(b"__event_enter_", (b"event_enter_",)),
    Holder(b"__event_exit_", (b"event_exit_",)),
    Holder(b"event_", (b"__tracepoint_",)),
    Holder(b"event_enter_", (b"__syscall_meta_",)),
    Holder(b"event_exit_", (b"__syscall_meta_",)),
    Holder(b"event_class_", (b"trace_event_raw_event_", b"perf_trace_", b"trace_event_fields_")),
    Holder(b"trace_event_type_funcs_", (b"trace_raw_output_",)),
    Holder(b"__p_syscall_meta_", (b"__syscall_meta_",)),
    Holder(b"__syscall_meta_", (b"event_enter_", b"event_exit_", b"types_", b"args_"), b"sys"),
    Holder(b"TRACE_SYSTEM_", (b"__TRACE_SYSTEM_",)),
    Holder(b"__TRACE_SYSTEM_", (), b""),
    Holder(b"__param_", (b"__param_str_",)),
    Holder(b"__setup_", (b"__setup_str_",)),
    Holder(b"_kbl_addr_", (b"",)),
    Holder(b"_eil_addr_", (b"",)),
)


@dataclass(frozen=True, eq=False)
class Inquiry:
    """The kernel that is checked, and the results.

    Attributes:
        memory: the memory with its image.
        placement: its placement, with the symbols.
        table: names of the symbols.
        confirmed: shape (n,), bool; the symbols whose names and addresses are confirmed.
        broken: index of each symbol that is contradicted, and a sentence about it.
    """

    memory: Memory
    placement: Placement
    table: Names
    confirmed: NDArray[np.bool_]
    broken: list[tuple[int, str]]

    def physical(self, addresses: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return the addresses in the source of virtual addresses."""
        return self.placement.words.wrap(addresses - np.uint64(self.placement.distance))

    def words(self, addresses: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return the words at virtual addresses, zero where the memory has none."""
        values, _held = self.memory.words(self.physical(addresses), self.placement.words.dtype)
        return without_code_bit(values, self.placement.symbols) if self.placement.code_bit else values

    def first_at(self, addresses: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the index of the first symbol at each address.

        -1 where there is none, or where the address is 0.
        """
        return np.where(addresses > 0, first_at(self.placement.symbols, addresses), -1)

    def named_at(self, there: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the index of the symbol of a given name at each address.

        ``there`` are the indices of the first symbols at these addresses.
        """
        return named_at(self.table, self.placement.symbols, there, keys)

    def wanted(self, members: NDArray[np.int64], target: bytes) -> NDArray[np.uint64]:
        """Return the keys of the names that words of some structures should point to."""
        stems = self.table.stems[members]
        if not target:
            return stems
        return whole_keys(stems, np.full(len(members), PREFIXES.index(target) + 1, np.uint8))
