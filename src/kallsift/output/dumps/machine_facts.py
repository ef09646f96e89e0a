"""Gather the facts about a machine that a converted dump states besides the bytes.

They come from the source's container, from memory, or from the recovered kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kallsift.arch.paging import PagingMode, Windows
from kallsift.errors import KallsiftError
from kallsift.image.formats.machine_ids import ELF_MACHINES
from kallsift.kernel.access.virtual_memory import VirtualMemory, virtual_memory
from kallsift.kernel.checks.vmcoreinfo import MAX_SIZE, Vmcoreinfo, parse, scattered
from kallsift.kernel.kernel import Kernel
from kallsift.memory.formats.core_notes import CoreNotes
from kallsift.memory.formats.elf_notes import ByteOrder
from kallsift.memory.memory import CpuState, Memory
from kallsift.output.elf.build_id import find_build_id

PAGE = 4096
WORD = (1 << 64) - 1
X86_64_TEXT = 0xFFFF_FFFF_8000_0000
"""Virtual address of physical address 0 in an x86-64 image that was not moved.

It is __START_KERNEL_map in the kernel.
"""

SYMBOLS = (
    "init_uts_ns",
    "node_online_map",
    "_stext",
    "vmap_area_list",
    "mem_map",
    "contig_page_data",
    "node_data",
    "prb",
    "clear_seq",
    "kallsyms_names",
    "kallsyms_num_syms",
    "kallsyms_token_table",
    "kallsyms_token_index",
    "kallsyms_offsets",
    "kallsyms_relative_base",
    "kallsyms_addresses",
)
"""Symbols that kernels name in VMCOREINFO by their own addresses.

Source: kernel/vmcore_info.c.
"""


@dataclass(frozen=True)
class Facts:
    """Facts about a machine.

    Attributes:
        architecture: its name in `kallsift.arch`; None if unknown.
        byte_order: ``"<"`` or ``">"``.
        word_size: bytes of an address.
        page_size: bytes of a page.
        cpus: processor states.
        vmcoreinfo: the text of VMCOREINFO; None if there is none.
        origin: source of that text: ``"note"``, ``"memory"`` or ``"rebuilt"``; None if there is none.
        banner: the ``Linux version ...`` line; None if unknown.
        phys_base: distance of x86-64's image above its usual physical address; 0 elsewhere.
        core: the notes of the source that hold registers; None if it has none.
    """

    architecture: str | None = None
    byte_order: ByteOrder = "<"
    word_size: int = 8
    page_size: int = PAGE
    cpus: tuple[CpuState, ...] = ()
    vmcoreinfo: bytes | None = None
    origin: str | None = None
    banner: str | None = None
    phys_base: int = 0
    core: CoreNotes | None = None


def memory_facts(memory: Memory, kernel: Kernel | None) -> Facts:
    """Return all known facts about the machine of a memory.

    Args:
        memory: the memory.
        kernel: the kernel that runs in it; None if none was recovered.
    """
    cpus, core = memory.hints.cpus, memory.hints.core
    if kernel is None:
        text = memory.hints.vmcoreinfo
        registers = cpus[0].registers if cpus else {}
        architecture = "x86-64" if "cr3" in registers else "arm64" if {"ttbr1", "pstate"} & registers.keys() else None
        order: ByteOrder = "<"
        word_size = 8
        if core is not None:
            architecture = ELF_MACHINES.get((core.machine, core.bits or 64), architecture)
            order, word_size = ">" if core.byte_order == ">" else "<", (core.bits or 64) // 8
        origin = "note" if text else None
        phys_base = _stated(text, "NUMBER(phys_base)")
        page_size = _page_size(text)
        return Facts(architecture, order, word_size, page_size, cpus, text, origin, phys_base=phys_base, core=core)
    text, origin = _vmcoreinfo(memory, kernel)
    return Facts(
        architecture=kernel.architecture,
        byte_order=">" if kernel.byte_order == ">" else "<",
        word_size=kernel.symbols.word_size,
        page_size=_page_size(text),
        cpus=cpus,
        vmcoreinfo=text,
        origin=origin,
        banner=kernel.banner,
        phys_base=_phys_base(kernel),
        core=core,
    )


def _page_size(text: bytes | None) -> int:
    size = _stated(text, "PAGESIZE")
    return size if PAGE <= size <= 1 << 16 and not size & (size - 1) else PAGE


def _stated(text: bytes | None, key: str) -> int:
    """Return the decimal number that a VMCOREINFO gives for a key; 0 if there is none."""
    info = parse(text, "note") if text else None
    stated = info.values.get(key, "") if info else ""
    return int(stated) if re.fullmatch("-?[0-9]{1,19}", stated) else 0


def _vmcoreinfo(memory: Memory, kernel: Kernel) -> tuple[bytes, str]:
    """Return the text of VMCOREINFO and its origin: the first text of this kernel."""
    noted = memory.hints.vmcoreinfo
    if noted is not None and _of(kernel, parse(noted, "note")):
        return noted, "note"
    try:
        virtual = virtual_memory(kernel)
        for text in _in_memory(kernel, virtual):
            if _of(kernel, parse(text, "memory")):
                return text, "memory"
        return _rebuilt(kernel, virtual), "rebuilt"
    except KallsiftError:
        return _rebuilt(kernel, None), "rebuilt"


def _of(kernel: Kernel, info: Vmcoreinfo | None) -> bool:
    """Tell whether a text belongs to this kernel.

    It must give the kernel's own address for the beginning of its code, or else of its first page table.
    """
    for name in ("_stext", "swapper_pg_dir"):
        stated = info.symbol(name) if info else None
        own = [symbol.address for symbol in kernel.symbols.all(name)]
        if stated is not None and own:
            return stated in own
    return False


def _in_memory(kernel: Kernel, virtual: VirtualMemory) -> Iterator[bytes]:
    """Yield the text that the kernel's own pointer leads to.

    The text is in a page of its own since 4.13, in an array before. If the symbol table lacks the pointer, all texts in
    the memory are yielded.
    """
    pointers = kernel.symbols.all("vmcoreinfo_data")
    for symbol in pointers:
        for address in (virtual.value(symbol.address), symbol.address):
            try:
                yield virtual.string(address, MAX_SIZE).split(b"\0")[0]
            except KallsiftError:
                continue
    if not pointers:
        for found in scattered(kernel.memory):
            yield kernel.memory.window(int(found.origin, 16), 0, MAX_SIZE).data.tobytes().split(b"\0")[0]


def _phys_base(kernel: Kernel) -> int:
    if kernel.architecture != "x86-64" or kernel.virtual_base is None or kernel.physical_base is None:
        return 0
    return kernel.physical_base - (kernel.virtual_base - X86_64_TEXT)


def _rebuilt(kernel: Kernel, virtual: VirtualMemory | None) -> bytes:
    """Rebuild the VMCOREINFO text of a kernel, as far as it was recovered.

    The sizes of its structures are missing, and all offsets in them but one.
    """
    words = (kernel.banner or "").split()
    lines = [f"OSRELEASE={words[2] if len(words) > 2 else 'unknown'}"]
    held = tuple((table.virtual, table.virtual + table.size) for table in kernel.tables)
    note = find_build_id(kernel, held) if kernel.symbols.find("__start_notes") is not None else None
    if note is not None:
        lines.append(f"BUILD-ID={note.build_id.hex()}")
    mapping = kernel.mapping
    lines.append(f"PAGESIZE={PAGE if mapping is None or isinstance(mapping, Windows) else mapping.page_size}")
    if kernel.page_table_root is not None:
        # x86-64 uses this name here too, although its symbol is called otherwise
        lines.append(f"SYMBOL(swapper_pg_dir)={kernel.page_table_root + kernel.distance & WORD:x}")
    lines += [f"SYMBOL({name})={symbol.address:x}" for name in SYMBOLS for symbol in list(kernel.symbols.all(name))[:1]]
    if virtual is not None and (offset := _name_offset(kernel, virtual)) is not None:
        lines.append(f"OFFSET(uts_namespace.name)={offset}")
    if kernel.architecture == "x86-64":
        lines.append(f"NUMBER(phys_base)={_phys_base(kernel)}")
        lines.append(f"NUMBER(pgtable_l5_enabled)={int(kernel.paging == '5-level')}")
        if kernel.attribute_bits:
            lines.append(f"NUMBER(sme_mask)={kernel.attribute_bits}")
    if kernel.architecture == "arm64":
        lines.append(f"NUMBER(kimage_voffset)={kernel.distance & WORD:#x}")
        if isinstance(mapping, PagingMode):
            lines.append(f"NUMBER(TCR_EL1_T1SZ)={64 - mapping.virtual_bits:#x}")
    if kernel.kaslr_slide is not None:
        lines.append(f"KERNELOFFSET={kernel.kaslr_slide & WORD:x}")
    return "".join(f"{line}\n" for line in lines).encode("latin-1", "replace")


def _name_offset(kernel: Kernel, virtual: VirtualMemory) -> int | None:
    """Return the offset of the names in ``init_uts_ns``; None if it is not found.

    The first name is always ``Linux``.
    """
    for symbol in kernel.symbols.all("init_uts_ns"):
        place = virtual.read(symbol.address, 64).tobytes().find(b"Linux\0")
        if place >= 0:
            return place
    return None
