"""VMCS pages, extended page tables and MSR lists as a hypervisor has them in memory, around a guest that really ran.

Real processors' layouts are secret, so fields are put at places of a seed's choice; KVM's own for hypervisors inside
of its guests (struct vmcs12, whose offsets are published in arch/x86/kvm/vmx/vmcs12.h) stands beside.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping

PAGE = 4096
GUEST_AT = 1 << 32
"""Where in the host's memory the guest's begins."""

KVM_REVISION = 0x11E57ED0
KVM_OFFSETS = {
    "vm_exit_msr_store": 64,
    "vm_exit_msr_load": 72,
    "vm_entry_msr_load": 80,
    "ept_pointer": 120,
    "link": 176,
    "guest_cr0": 424,
    "guest_cr3": 432,
    "guest_cr4": 440,
    "guest_gs_base": 488,
    "guest_tr_base": 504,
    "guest_gdtr_base": 512,
    "guest_idtr_base": 520,
    "guest_rsp": 536,
    "guest_rip": 544,
    "guest_rflags": 552,
    "guest_sysenter_eip": 576,
    "host_cr0": 584,
    "host_cr3": 592,
    "host_cr4": 600,
    "host_gs_base": 616,
    "host_tr_base": 624,
    "host_gdtr_base": 632,
    "host_idtr_base": 640,
    "host_sysenter_eip": 656,
    "host_rsp": 664,
    "host_rip": 672,
}


def places(seed: int) -> dict[str, int]:
    """A layout of a processor that nobody knows: fields of eight bytes that do not overlap, at multiples of four."""
    chooser = random.Random(seed)
    slots = chooser.sample(range(1, PAGE // 16), len(KVM_OFFSETS))
    return {name: 16 * slot + chooser.choice((0, 4, 8)) for name, slot in zip(KVM_OFFSETS, slots, strict=True)}


def vmcs(revision: int, layout: Mapping[str, int], fields: Mapping[str, int]) -> bytes:
    """One page."""
    page = bytearray(PAGE)
    struct.pack_into("<II", page, 0, revision, 0)
    for name, value in fields.items():
        struct.pack_into("<Q", page, layout[name], value)
    return bytes(page)


def msr_list(entries: Mapping[int, int]) -> bytes:
    """A page with a list of model-specific registers."""
    return b"".join(struct.pack("<IIQ", number, 0, value) for number, value in entries.items()).ljust(PAGE, b"\0")


def ept(at: int, size: int) -> tuple[bytes, int]:
    """Tables, to lie at an address, that map a guest's memory of some size at `GUEST_AT`; and the pointer to them."""
    top = struct.pack("<Q", at + PAGE | 0x107).ljust(PAGE, b"\0")
    second = struct.pack("<Q", at + 2 * PAGE | 0x107).ljust(PAGE, b"\0")
    # pages of 2 MiB, write-back, accessed and dirty
    third = b"".join(struct.pack("<Q", GUEST_AT + start | 0xBB7 & ~0x800) for start in range(0, size, 2 << 20))
    return top + second + third.ljust(PAGE, b"\0"), at | 0x5E
