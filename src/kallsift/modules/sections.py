"""Read the sections of a module as ``/sys/module/NAME/sections`` shows them, with their load addresses.

``struct module_sect_attrs`` begins with a ``struct attribute_group`` called "sections". This group points to an array
of pointers to attributes, each of which begins with a pointer to its name (kernel/module/sysfs.c,
include/linux/sysfs.h). The offset of the array in the group, and of the address in an attribute, changed in 5.8 and
6.14 and depend on the configuration. They are found by the section that holds ``struct module`` itself, because its
address is known beforehand.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np

from kallsift.errors import UnmappedError
from kallsift.kallsyms.escapes import escaped
from kallsift.kernel.access.virtual_memory import VirtualMemory

GROUP = b"sections"

THIS_MODULE = ".gnu.linkonce.this_module"
"""Name of the section that holds the module's structure."""

BUILD_ID = ".note.gnu.build-id"

MAX_SECTIONS = 1 << 10
"""Highest number of sections of a module; some have a hundred."""

MAX_ASKED = 64
"""Highest number of modules that are tried to find the form; the first one shows it unless it is damaged."""

MAX_NAME = 256
"""Highest number of characters of a section's name."""

GROUP_WORDS = range(1, 9)
"""Possible offsets of the pointer to the array in the group, in words."""

ATTRIBUTE_WORDS = range(1, 24)
"""Possible offsets of the section's address in an attribute, in words; lockdep makes attributes longer."""

NOTE_HEADER = 12
NOTE_TYPE = 3
"""NT_GNU_BUILD_ID (elf.h)."""

MAX_BUILD_ID = 64


@dataclass(frozen=True, repr=False)
class ModuleSection:
    """A section of a module: its name and load address.

    Init sections are freed after loading.
    """

    name: str
    address: int

    def __repr__(self) -> str:
        return f"<Section {escaped(self.name)} at {self.address:#x}>"


@dataclass(frozen=True)
class SectionForm:
    """Offsets in the structures that describe the sections.

    Attributes:
        array: offset of the pointer to the array of pointers, in words from the group's beginning.
        address: offset of a section's address, in words from its attribute's beginning.
    """

    array: int
    address: int


def find_form(memory: VirtualMemory, modules: Iterable[tuple[int, int]]) -> SectionForm | None:
    """Return the form that places a module's structure in the section for it.

    Args:
        memory: the kernel's memory.
        modules: address of the structure and of its group, for some modules.

    Returns:
        The form of the first module that has one; None if no module has one.
    """
    for address, group in islice(modules, MAX_ASKED):
        for array in GROUP_WORDS:
            try:
                names, attributes = _attributes(memory, group, array)
            except UnmappedError:
                continue
            if THIS_MODULE not in names:
                continue
            attribute = attributes[names.index(THIS_MODULE)]
            for word in ATTRIBUTE_WORDS:
                if memory.values(np.array([attribute + word * memory.words.size], np.uint64))[0][0] == address:
                    return SectionForm(array, word)
    return None


def sections(memory: VirtualMemory, group: int, form: SectionForm) -> tuple[ModuleSection, ...]:
    """Return all sections of a module in the order of its file.

    Raises:
        UnmappedError: if they cannot be read.
    """
    names, attributes = _attributes(memory, group, form.array)
    places = np.array(attributes, np.uint64) + np.uint64(form.address * memory.words.size)
    addresses, held = memory.values(places)
    if not held.all():
        raise UnmappedError(int(places[int(np.argmin(held))]), memory.words.size)
    return tuple(ModuleSection(name, address) for name, address in zip(names, addresses.tolist(), strict=True))


def _attributes(memory: VirtualMemory, group: int, array: int) -> tuple[list[str], list[int]]:
    """Return the names and addresses of a group's attributes.

    Raises:
        UnmappedError: if they cannot be read, or the array does not end.
    """
    size = memory.words.size
    start = memory.value(group + array * size)
    places = np.uint64(start) + np.arange(MAX_SECTIONS, dtype=np.uint64) * np.uint64(size)
    pointers, held = memory.values(places)
    ends = np.flatnonzero(~held | (pointers == 0))
    if not len(ends) or not held[ends[0]] or start == 0:
        raise UnmappedError(start, size)
    pointers = pointers[: ends[0]]
    texts, held = memory.values(pointers)
    if not held.all():
        raise UnmappedError(start, size)
    return [memory.string(text, MAX_NAME).decode("latin-1") for text in texts.tolist()], pointers.tolist()


def build_id(memory: VirtualMemory, found: Iterable[ModuleSection]) -> str | None:
    """Return the build ID in a module's note in hexadecimal; None if it has none.

    Raises:
        UnmappedError: if it has one that cannot be read.
    """
    start = next((section.address for section in found if section.name == BUILD_ID), None)
    if start is None:
        return None
    name, size, kind = (memory.value(start + 4 * word, 4) for word in range(3))
    if (
        (name, kind) != (4, NOTE_TYPE)
        or not 0 < size <= MAX_BUILD_ID
        or memory.string(start + NOTE_HEADER, 4) != b"GNU"
    ):
        raise UnmappedError(start, NOTE_HEADER)
    return memory.read(start + NOTE_HEADER + 4, size).tobytes().hex()
