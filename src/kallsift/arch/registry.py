"""List the architectures whose address translation is known, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

from kallsift.arch import arm, arm64, loongarch64, mips, ppc64, riscv, s390x, x86
from kallsift.arch.address_space import AreaPlan
from kallsift.arch.paging import Mapping, PagingMode, Segmented, Windows

MODES: tuple[PagingMode, ...] = (
    *x86.MODES,
    *arm64.MODES,
    *arm.MODES,
    *riscv.MODES,
    *s390x.MODES,
    *ppc64.MODES,
)

# LoongArch's windows are also parts of xkphys of mips; both translate these addresses alike
WINDOWS: tuple[Windows, ...] = (*loongarch64.WINDOWS, *mips.WINDOWS, *ppc64.WINDOWS)

ROOT_SYMBOLS: tuple[str, ...] = (*x86.ROOT_SYMBOLS,)
"""Symbols of the kernel's own top table; on all other architectures it is ``swapper_pg_dir``."""

ROOT_REGISTERS: dict[str, int] = {"cr3": ~0xFFF & (1 << 52) - 1, "ttbr1": ~1 & (1 << 48) - 1}
"""Registers with the physical address of the top table in use, and the mask of the address's bits."""

LINK_BASES: dict[str, tuple[str, int]] = {
    "x86-64": ("_text", x86.LINK_BASE),
    "x86": ("_text", x86.LINK_BASE_32),
    "riscv64": ("_start", riscv.LINK_BASE),
    "s390x": ("_text", s390x.LINK_BASE),
    "ppc64": ("_text", ppc64.LINK_BASE),
}
"""Symbols and their link addresses, for architectures where few configurations change these."""

TEXT_BASES: dict[str, int] = {
    **{architecture: address for architecture, (_, address) in LINK_BASES.items()},
    "arm": 0xC000_8000,
    "arm64": 0xFFFF_8000_8000_0000,
    "loongarch64": 0x9000_0000_0020_0000,
    "mips": 0x8010_0000,
    "mips64": 0xFFFF_FFFF_8010_0000,
    "ppc": 0xC000_0000,
    "sparc64": 0x40_4000,
}
"""Link address of ``_text`` in most configurations.

Sources: KIMAGE_VADDR (arch/arm64/include/asm/memory.h, since 6.5), PAGE_OFFSET + TEXT_OFFSET (arch/arm/Makefile),
VMLINUX_LOAD_ADDRESS (arch/loongarch/Makefile), load-y (arch/mips/*/Platform), PAGE_OFFSET (arch/powerpc), the linker
script of arch/sparc/kernel.
"""


def _from(base: int, reach: int = 1 << 30) -> Callable[[int], bool]:
    """Return the rule for kernels that are linked at one address.

    Addresses less than a GiB above it are refused. With another split of the address space, the link address differs by
    a GiB.
    """
    return lambda address: not 0 < address - base < reach


LINK_RULES: dict[str, Callable[[int], bool]] = {
    **{architecture: _from(address) for architecture, (_, address) in LINK_BASES.items()},
    "s390x": _from(s390x.LINK_BASE, 1 << 64),
    "loongarch64": _from(TEXT_BASES["loongarch64"]),
    "arm64": arm64.is_link_address,
}
"""Functions that tell whether an image's first byte can be linked at an address, for architectures with KASLR."""

NAME_MARKS: dict[str, bytes] = {
    "x86-64": b"__x64_sys_",
    "x86": b"__ia32_sys_",
    "arm64": b"__arm64_sys_",
    "riscv64": b"__riscv_sys_",
    "s390x": b"__s390x_sys_",
    "ppc64": b"opal_",
    "loongarch64": b"loongarch_",
    "mips": b"mips_",
}
"""Parts of symbol names that only kernels of one architecture have.

They come from SYSCALL_DEFINEx (asm/syscall_wrapper.h), and others.
"""

FIRST_FUNCTIONS: dict[str, str] = {"x86-64": "x86_64_start_kernel", "x86": "i386_start_kernel"}
"""Functions that only kernels of one architecture have (arch/x86/kernel/head64.c and head_32.c)."""

UNMOVED: frozenset[str] = frozenset({"arm"})
"""Architectures whose kernels always run at their link addresses."""


AREA_PLANS: tuple[AreaPlan, ...] = (
    *x86.AREA_PLANS,
    *arm64.AREA_PLANS,
    *arm.AREA_PLANS,
    *riscv.AREA_PLANS,
    *s390x.AREA_PLANS,
    *ppc64.AREA_PLANS,
)


def area_plans(architecture: str | None, paging: str | None) -> tuple[AreaPlan, ...]:
    """Return the plans of an architecture's address space in a paging mode."""
    return tuple(
        plan for plan in AREA_PLANS if plan.architecture == architecture and (not plan.paging or paging in plan.paging)
    )


def word_sizes_of(architecture: str | None) -> frozenset[int]:
    """Return the sizes of a word in bytes that kernels of an architecture have.

    The result is empty if the architecture is unknown.
    """
    known: tuple[PagingMode | Windows, ...] = (*MODES, *WINDOWS)
    return frozenset(one.word_size for one in known if one.architecture == architecture)


def modes(word_size: int, byte_order: str) -> tuple[PagingMode, ...]:
    """Return the page tables of kernels with this word size and byte order."""
    return tuple(mode for mode in MODES if mode.word_size == word_size and byte_order in mode.byte_orders)


def windows(word_size: int, byte_order: str) -> tuple[Windows, ...]:
    """Return the windows of processors for kernels with this word size and byte order."""
    return tuple(one for one in WINDOWS if one.word_size == word_size and byte_order in one.byte_orders)


def segmented(beside: Windows, byte_order: str) -> tuple[tuple[Segmented, ...], ...]:
    """Return the kinds of page tables that can stand beside the given windows.

    They are grouped by the tables' shape, for kernels of one byte order.
    """
    return tuple(group for group in _segmented() if group[0].windows is beside and byte_order in group[0].byte_orders)


def _segmented() -> Iterator[tuple[Segmented, ...]]:
    """Yield, by the shape of the tables, the possible formats of their entries."""
    yield from mips.segmented()
    yield from loongarch64.SEGMENTED


def mapping_named(architecture: str | None, name: str | None, byte_order: str) -> Mapping | None:
    """Return the page tables, windows or both of a name; None if there are none.

    The mapping must be one of kernels with this architecture and byte order.
    """
    known: Iterator[Mapping] = chain(MODES, WINDOWS, (one for group in _segmented() for one in group))
    wanted = (one for one in known if (one.architecture, one.name) == (architecture, name))
    return next((one for one in wanted if byte_order in one.byte_orders), None)
