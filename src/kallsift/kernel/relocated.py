"""Tell memory that was cut out of a machine from an image in a file: a kernel that moved is not as the linker made it.

Text and read-only data of a kernel that ran have nothing else that says so: no page table, no lists, no data. But a
kernel that chose its own address (KASLR) has all its pointers there, and no file has.
"""

from __future__ import annotations

from dataclasses import replace

from kallsift.kallsyms.evidence import Check
from kallsift.kallsyms.table import SymbolTable
from kallsift.kernel.model import Kernel, State
from kallsift.kernel.slide import FARTHEST
from kallsift.kernel.unplaced import likely_architecture
from kallsift.machine.registry import FIRST_FUNCTIONS, LINK_BASES, word_sizes_of
from kallsift.memory.model import AddressSpace

CHECK = "link address"


def as_built(kernel: Kernel) -> Kernel:
    """Return a kernel as it is, unless it is taken for an image in a file and lies where only one that ran does.

    Asked where no header gives the address that the image is linked at, of architectures whose kernels are linked at
    one address in nearly all configurations.
    """
    memory = kernel.memory
    if kernel.state is not State.IMAGE or not kernel.is_placed or memory.space is not AddressSpace.FILE:
        return kernel
    if memory.image is None or memory.image.base is not None:
        return kernel
    architecture = kernel.architecture or _named_architecture(kernel.symbols)
    if architecture is None or architecture not in LINK_BASES:
        return kernel
    name, linked = LINK_BASES[architecture]
    if kernel.symbols.word_size not in word_sizes_of(architecture) or name not in kernel.symbols:
        return kernel
    address = kernel.symbols[name].address
    slide = address - linked & (1 << 8 * kernel.symbols.word_size) - 1
    if not 0 < slide < FARTHEST:
        return kernel
    detail = (
        f"{name} is at {address:#x}, while kernels of {architecture} are linked at {linked:#x}: "
        "it moved when it ran, unless it was built for that address, and nothing here confirms either"
    )
    evidence = (*kernel.evidence, Check.that(CHECK, False, detail, is_quoted=True))
    return replace(kernel, state=State.STALE, kaslr_slide=slide, evidence=evidence)


def _named_architecture(symbols: SymbolTable) -> str | None:
    """Return the architecture that names of symbols tell; None where none does."""
    for architecture, name in FIRST_FUNCTIONS.items():
        if name in symbols:
            return architecture
    return likely_architecture(symbols)
