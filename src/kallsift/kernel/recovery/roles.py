"""Read from its own variables what became of a kernel: whether it panicked, or was started to save one that did.

kernel/panic.c: ``panic_cpu`` is -1 until a processor panics (since 4.5). kernel/crash_dump.c: ``elfcorehdr_addr`` is -1
except in a capture kernel (kdump), to which the command line gives it. kernel/kexec_core.c: ``crashk_res`` is the
memory that is reserved for a capture kernel; ``kexec_in_progress`` (since 3.13) tells that another kernel is started.
"""

from __future__ import annotations

import numpy as np

from kallsift.arch.paging import PagingMode
from kallsift.kernel.kernel import Kernel, Role, State
from kallsift.kernel.placement.pointers import PAGE, Words
from kallsift.memory.memory import AddressSpace

NONE_YET = (1 << 64) - 1
MAX_PROCESSORS = 1 << 16


def role_of(kernel: Kernel) -> Role:
    """Return the role of a kernel by its own variables; ordinary if none is listed."""
    address = _variable(kernel, "elfcorehdr_addr", 8)
    if address not in (None, 0, NONE_YET):
        return Role.CAPTURE
    processor = _variable(kernel, "panic_cpu", 4)
    if processor is not None and processor < MAX_PROCESSORS:
        return Role.PANICKED
    if _variable(kernel, "kexec_in_progress", 1) == 1:
        return Role.REPLACED
    return Role.ORDINARY


def crash_memory(kernel: Kernel) -> tuple[int, int] | None:
    """Return the range of memory that a kernel reserves for its capture kernel.

    None if it reserves none.
    """
    width = 8 if kernel.symbols.word_size == 8 or kernel.paging in ("PAE", "LPAE") else 4
    start, last = (_variable(kernel, "crashk_res", width, field * width) for field in (0, 1))
    return (start, last + 1) if start is not None and last is not None and start < last else None


def ram_end(kernel: Kernel) -> int:
    """Return the end of a kernel's RAM by its variable ``max_pfn`` (mm/memblock.c).

    0 if nothing tells.
    """
    page = kernel.mapping.page_size if isinstance(kernel.mapping, PagingMode) else PAGE
    return (_variable(kernel, "max_pfn", kernel.symbols.word_size) or 0) * page


def may_lack_hole(kernel: Kernel) -> bool:
    """Return whether a kernel's RAM can have holes that its memory lacks.

    It can if its memory is bare RAM that ends before the kernel's RAM does. If nothing tells where that ends, it can if
    no page table maps the kernel: nothing has shown yet how the RAM lies.
    """
    memory = kernel.memory
    if memory.space is not AddressSpace.PHYSICAL or memory.image is not None or len(memory.segments) != 1:
        return False
    if kernel.state is not State.RUNNING or memory.segments[0].start:
        return False
    end = ram_end(kernel)
    return end > memory.segments[0].end if end else not isinstance(kernel.mapping, PagingMode)


def _variable(kernel: Kernel, name: str, width: int, offset: int = 0) -> int | None:
    """Return a number in the image at a symbol; None if it is not listed or not there."""
    index = kernel.symbols.find(name)
    if index is None:
        return None
    words = Words(kernel.symbols.word_size, kernel.byte_order)
    place = kernel.symbols.symbol(index).address + offset - kernel.distance & words.mask
    dtype = np.dtype(f"{kernel.byte_order}u{width}")
    values, held = kernel.memory.words(np.array([place], np.uint64), dtype)
    return int(values[0]) if held[0] else None
