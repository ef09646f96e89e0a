"""Describe a source in which no symbol table was found, or none that can be used."""

from __future__ import annotations

import re
from itertools import islice

from kallsift.kernel.checks.vmcoreinfo import Vmcoreinfo, scattered
from kallsift.memory.memory import AddressSpace, Memory, printable
from kallsift.memory.segments import BytesSegment

MARK = b"kallsyms_"
"""Beginning of strings in every kernel with a symbol table: names of functions and of exports."""

MAX_TEXTS = 8
"""Highest number of VMCOREINFO texts that are asked."""

START_KERNEL_MAP = 0xFFFFFFFF80000000
"""``__START_KERNEL_map`` (arch/x86/include/asm/page_64_types.h), which ``phys_base`` counts from."""

_VERSION = re.compile(rb"Linux version [0-9][!-~]{0,63}")
"""Pattern of the beginning of linux_banner (init/version.c)."""


def recognised(memory: Memory) -> str | None:
    """Return the kernel that a file holds, and why it has no table, as a text.

    None if there is no banner.

    Args:
        memory: an image that was unpacked, or a file without a header.
    """
    parts = [segment.read() for segment in memory.segments if isinstance(segment, BytesSegment)]
    found = next((match for data in parts if (match := _VERSION.search(data.data))), None)
    if found is None:
        return None
    architecture = memory.image.architecture if memory.image else None
    packaging = memory.image.packaging if memory.image else ()
    kernel = printable(found.group().decode("ascii"))
    kernel += f" ({architecture})" if architecture else ""
    kernel += f", unpacked from {', '.join(packaging)}" if packaging else ""
    mark = re.compile(re.escape(MARK))
    if any(mark.search(data.data) for data in parts):
        return f"{kernel}; it has kallsyms, but its token table is lost, or in an unknown form"
    return f'{kernel}; it was built without kallsyms: no token table, no "{MARK.decode()}" string'


def behind_the_end(memory: Memory) -> str | None:
    """Return a text that names a kernel whose code lies behind the end of a dump, by a VMCOREINFO in it.

    None if there is none.
    """
    if memory.space is not AddressSpace.PHYSICAL or memory.image is not None or not memory.segments:
        return None
    end = memory.segments[-1].end
    for text in islice(scattered(memory), MAX_TEXTS):
        start = _physical_start(text)
        if start is not None and start >= end:
            release = printable(text.values["OSRELEASE"])
            return (
                f"the VMCOREINFO at {text.origin} says that the code of {release} begins at {start:#x}, and the dump "
                f"ends at {end:#x}: it seems to be cut short"
            )
    return None


def _physical_start(text: Vmcoreinfo) -> int | None:
    """Return the physical address of ``_stext`` by the numbers of x86-64 and of arm64 (their vmcore_info.c)."""
    virt = text.symbol("_stext")
    phys_base, voffset = (text.values.get(f"NUMBER({name})", "") for name in ("phys_base", "kimage_voffset"))
    if virt is not None and re.fullmatch("-?[0-9]{1,20}", phys_base):
        return virt - START_KERNEL_MAP + int(phys_base)
    if virt is not None and re.fullmatch("0x[0-9a-fA-F]{1,16}", voffset):
        return virt - int(voffset, 16) & (1 << 64) - 1
    return None
