"""Find the parts of a kernel's image by the symbols that its linker script puts around them.

Where only text is listed, the kernel's own resources give some parts: ``/proc/iomem`` prints them, as ``Kernel data``
for example.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kallsift.errors import UnmappedError
from kallsift.kernel.access.string_search import places_of
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.kernel import Kernel
from kallsift.kernel.placement.pointers import AFTER, BEFORE, PAGE, pointers_between

BOUNDARIES: tuple[tuple[str, str, str], ...] = (
    ("image", "_text", "_end"),
    ("text", "_stext", "_etext"),
    ("entry text", "__entry_text_start", "__entry_text_end"),
    ("irqentry text", "__irqentry_text_start", "__irqentry_text_end"),
    ("softirqentry text", "__softirqentry_text_start", "__softirqentry_text_end"),
    ("noinstr text", "__noinstr_text_start", "__noinstr_text_end"),
    ("sched text", "__sched_text_start", "__sched_text_end"),
    ("lock text", "__lock_text_start", "__lock_text_end"),
    ("kprobes text", "__kprobes_text_start", "__kprobes_text_end"),
    ("rodata", "__start_rodata", "__end_rodata"),
    ("exception table", "__start___ex_table", "__stop___ex_table"),
    ("exports", "__start___ksymtab", "__stop___ksymtab"),
    ("GPL exports", "__start___ksymtab_gpl", "__stop___ksymtab_gpl"),
    ("BTF", "__start_BTF", "__stop_BTF"),
    ("read-only after init", "__start_ro_after_init", "__end_ro_after_init"),
    ("init", "__init_begin", "__init_end"),
    ("init text", "_sinittext", "_einittext"),
    ("per-CPU template", "__per_cpu_start", "__per_cpu_end"),
    ("data", "_sdata", "_edata"),
    ("bss", "__bss_start", "__bss_stop"),
    ("brk", "__brk_base", "__brk_limit"),
)
"""Name, first symbol and the symbol behind the last byte (include/asm-generic/sections.h and vmlinux.lds.h)."""

PER_CPU = ("__per_cpu_start", "__per_cpu_end", "__per_cpu_load")
"""Symbols of the per-CPU area where per-CPU symbols are offsets (x86-64 up to 6.14); the third is the template's
address."""

RESOURCES = {"text": "Kernel code", "rodata": "Kernel rodata", "data": "Kernel data", "bss": "Kernel bss"}
"""Names of parts of the image in ``struct resource``, whose first members are start, last address and name.

On some architectures the code or the data include the read-only data."""

MAX_PLACES = 8


@dataclass(frozen=True)
class ImagePart:
    """A part of an image.

    Attributes:
        name: name of its contents.
        start: its first address.
        end: the address behind it.
        basis: the symbols, or the resource, that bound it.
    """

    name: str
    start: int
    end: int
    basis: str


def sections(kernel: Kernel, memory: VirtualMemory | None) -> tuple[ImagePart, ...]:
    """Return the parts of an image that are not empty.

    Args:
        kernel: the kernel with the image.
        memory: its virtual memory, for its resources; None to use symbols only.
    """
    found = {section.name: section for section in _bounded_by_symbols(kernel)}
    if memory is not None:
        for name, resource in RESOURCES.items():
            section = None if name in found else _resource(kernel, memory, resource)
            if section is not None:
                found[resource] = section
    return tuple(found.values())


def address_of(kernel: Kernel, name: str) -> int | None:
    """Return the address of the first symbol of a name; None without one."""
    index = kernel.symbols.find(name)
    return None if index is None else int(kernel.symbols.addresses[index])


def _bounded_by_symbols(kernel: Kernel) -> Iterator[ImagePart]:
    for name, first, last in BOUNDARIES:
        start, end, basis = address_of(kernel, first), address_of(kernel, last), f"[{first}, {last})"
        if start is None or end is None:
            continue
        if (first, last) == PER_CPU[:2] and (load := address_of(kernel, PER_CPU[2])) is not None:
            start, end, basis = load, load + end - start, f"[{PER_CPU[2]}, + {last} - {first})"
        if end > start:
            yield ImagePart(name, start, end, basis)


def _resource(kernel: Kernel, memory: VirtualMemory, resource: str) -> ImagePart | None:
    """Return the part that one of the kernel's resources gives, or None.

    None if there is no such resource, or if its bounds are not in the image.
    """
    words = memory.words
    window = kernel.memory.around(kernel.tables[0].physical, BEFORE, AFTER)
    for place in places_of(window, b"\0" + resource.encode() + b"\0", MAX_PLACES):
        address = place + 1 + kernel.distance & words.mask
        for pointer in pointers_between(window, words, address, address).places[:MAX_PLACES].tolist():
            # physical addresses can be wider than virtual ones
            for size in {words.size, 8}:
                try:
                    at = pointer + kernel.distance & words.mask
                    start, last = memory.value(at - 2 * size, size), memory.value(at - size, size)
                except UnmappedError:
                    continue
                if window.start <= start < last < window.end and start % PAGE == 0:
                    virtual = start + kernel.distance & words.mask
                    return ImagePart(resource, virtual, virtual + last + 1 - start, "struct resource")
    return None
