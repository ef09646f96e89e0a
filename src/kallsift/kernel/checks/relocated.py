"""Tell memory that was cut out of a machine from an image in a file, by whether the kernel in it has run.

The kernel's data tell this, if they are there. Text and read-only data of a kernel that ran do not: they have no page
table and no lists. But a kernel that chose its own address (KASLR) has relocated all pointers in them; in a file they
are not relocated.
"""

from __future__ import annotations

from dataclasses import replace

from kallsift.arch.registry import FIRST_FUNCTIONS, LINK_BASES, LINK_RULES, word_sizes_of
from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kallsyms.symbol_table import SymbolTable
from kallsift.kernel.checks.initial_data import initial_data_check
from kallsift.kernel.kernel import Kernel, State
from kallsift.kernel.recovery.unplaced import likely_architecture
from kallsift.memory.memory import AddressSpace

MAX_HEAD = 2 << 20
"""Highest number of bytes of code before ``_stext`` where the table does not list the image's beginning."""


def as_built(kernel: Kernel) -> Kernel:
    """Return a kernel unchanged unless it is taken for an image but ran or moved.

    Such a kernel becomes a stale copy. The check is made where no header gives the address that the image is linked at.
    The kernel's address is compared only on architectures whose kernels are linked at one address in nearly all
    configurations, and only where the data do not tell.
    """
    memory = kernel.memory
    if kernel.state is not State.IMAGE or not kernel.is_placed or memory.space is not AddressSpace.FILE:
        return kernel
    if memory.image is None or memory.image.base is not None:
        return kernel
    check = initial_data_check(kernel)
    slide: int | None = 0
    if check.outcome is not Outcome.PASSED:
        detail, slide = _moved(kernel)
        if check.outcome is Outcome.ABSENT and detail is not None:
            check = Check.that(CheckId.LINK_ADDRESS, False, detail)
    if check.outcome is not Outcome.FAILED:
        return replace(kernel, evidence=(*kernel.evidence, check))
    evidence = (*kernel.evidence, replace(check, is_quoted=True))
    return replace(kernel, state=State.STALE, kaslr_slide=slide, evidence=evidence)


def _moved(kernel: Kernel) -> tuple[str | None, int | None]:
    """Return the evidence that a kernel is not at its link address, and its slide.

    The evidence is None where there is none; the slide is None where it is unknown.
    """
    symbols = kernel.symbols
    architecture = kernel.architecture or _named_architecture(symbols)
    if architecture is None or symbols.word_size not in word_sizes_of(architecture):
        return None, None
    listed, linked = LINK_BASES.get(architecture, ("_text", None))
    name = next((name for name in (listed, "_stext") if name in symbols), None)
    if name is None or architecture not in LINK_RULES:
        return None, None
    address = symbols[name].address
    # without the listed symbol, up to MAX_HEAD bytes of code may lie before _stext
    first = address if name == listed else address & -MAX_HEAD
    if LINK_RULES[architecture](first):
        return None, 0
    where = "" if linked is None else f" at {linked:#x}"
    detail = (
        f"{name} is at {address:#x}, where kernels of {architecture} are not linked{where}: "
        "either it moved when it ran, or it was built for that address; nothing in the source confirms either"
    )
    return detail, None if linked is None else first - linked


def _named_architecture(symbols: SymbolTable) -> str | None:
    """Return the architecture that names of symbols tell; None where none does."""
    for architecture, name in FIRST_FUNCTIONS.items():
        if name in symbols:
            return architecture
    return likely_architecture(symbols)
