"""Infer the offsets of the fields of ``struct module`` in a kernel without types (BTF).

A field is found where an equation holds for all modules in the list at one offset and at no other. Where it holds at
no offset, or at several, the field is unknown. Neighbours that stand side by side in every release
(include/linux/module.h) follow from a field that was found, if their values make sense.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import UnmappedError
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.kernel import Kernel
from kallsift.modules import parameters as module_parameters
from kallsift.modules.field_offsets import ModuleLayout, layout_from_btf
from kallsift.modules.memory_regions import RegionPlace, solved_regions
from kallsift.modules.module_reader import TAINTS
from kallsift.modules.sections import GROUP, find_form, sections
from kallsift.modules.struct_module import KOBJECT_WORDS, NAME, STATES, ModulesError, Structures, numbers_at
from kallsift.modules.symbol_tables import symbol_reader

INITIAL_TEXT = ".init.text"
MOST_INITIAL = 1 << 20
"""Highest number of bytes of initial code."""

CACHE_LINE = 256
"""Highest size of a cache line in bytes.

The fields for the parts of memory begin at the cache line behind the pointer to the init function.
"""

SAMPLE = 32
"""Number of modules whose sections are read to find a field."""

SOURCE_VERSION = re.compile(rb"[0-9A-F]{16,40}")
"""A checksum of the module's source (scripts/mod/sumversion.c)."""

MOST_FLAGS = 1 << 32
MAX_TEXT = 256

Mask = NDArray[np.bool_]


def infer_layout(memory: VirtualMemory, structures: Structures) -> ModuleLayout:
    """Return the fields that can be inferred from these modules."""
    whole = _complete(memory, structures)
    return _Solver(memory, whole).fields() if len(whole) else ModuleLayout()


def region_places(kernel: Kernel, memory: VirtualMemory, structures: Structures) -> tuple[RegionPlace, ...]:
    """Return the fields for the modules' memory, by the types or by inference.

    The kernel's types are preferred; the result is empty if neither way finds the fields.
    """
    typed = layout_from_btf(kernel, memory, structures)
    if typed is not None:
        return typed.regions
    whole = _complete(memory, structures)
    return _Solver(memory, whole).regions() if len(whole) else ()


def _complete(memory: VirtualMemory, structures: Structures) -> Structures:
    """Return the live modules.

    The fields of a module that is still being loaded need not make sense yet.
    """
    states, held = memory.values(structures.addresses, memory.words.int_dtype)
    live = held & (states == STATES.index("Live"))
    return Structures(structures.addresses[live], structures.words[live])


@dataclass(frozen=True, eq=False)
class _Solver:
    """The equations for the modules of one kernel.

    Attributes:
        memory: the kernel's memory.
        structures: the modules' structures, as words of shape (n, m).
    """

    memory: VirtualMemory
    structures: Structures

    @property
    def _size(self) -> int:
        return self.memory.words.size

    @property
    def _words(self) -> NDArray[np.uint64]:
        return self.structures.words

    @property
    def _addresses(self) -> NDArray[np.uint64]:
        return self.structures.addresses

    @property
    def _places(self) -> NDArray[np.uint64]:
        """Address of each word, shape (n, m)."""
        columns = np.arange(self._words.shape[1], dtype=np.uint64) * np.uint64(self._size)
        return self.memory.words.wrap(self._addresses[:, None] + columns)

    def _at(self, pointers: NDArray[np.uint64], words: int = 0) -> NDArray[np.uint64]:
        """Return the words at a distance in words behind pointers.

        The result has the pointers' shape; 0 stands where nothing is mapped.
        """
        places = self.memory.words.wrap(pointers + np.uint64(words * self._size))
        return self.memory.values(places.ravel())[0].reshape(pointers.shape)

    def _numbers(self, offset: int) -> NDArray[np.uint64]:
        """Return the 32-bit number at one offset of each structure."""
        return numbers_at(self.memory, self.structures, offset)

    def _texts(self, pointers: NDArray[np.uint64]) -> list[bytes] | None:
        """Return the strings that pointers lead to; None unless all can be read."""
        try:
            return [self.memory.string(pointer, MAX_TEXT) for pointer in pointers.tolist()]
        except UnmappedError:
            return None

    def fields(self) -> ModuleLayout:
        """Return the fields that can be inferred, each by its own equation."""
        kobject, owner = self._kobject
        group = self._group()
        found: dict[str, Any] = {"kobject": kobject, "owner": owner, "regions": self.regions()}
        found |= self._bugs(kobject) | self._versions() | self._uses() | self._parameters()
        if group is not None:
            found |= {"sections": group * self._size, "arguments": self._arguments(group)}
            found["init"] = self._init(group, found["regions"])
        return ModuleLayout(**found)

    def regions(self) -> tuple[RegionPlace, ...]:
        """Return the fields for the parts of memory.

        Every pointer to the structure itself but ``mkobj.mod`` may be in a node of the modules' tree.
        """
        _, owner = self._kobject
        nodes = [column for column in self._own if column * self._size != owner]
        return solved_regions(self.memory, self.structures, nodes)

    @cached_property
    def _own(self) -> list[int]:
        """Columns of the words that point to the structure itself."""
        found: list[int] = np.flatnonzero((self._words == self._addresses[:, None]).all(axis=0)).tolist()
        return found

    @cached_property
    def _kobject(self) -> tuple[int | None, int | None]:
        """Offsets of ``mkobj.kobj`` and of ``mkobj.mod`` behind it.

        Both are None if they are not found. ``mkobj.kobj`` has the module's name, and a set and a type that all modules
        share.
        """
        names = self._texts(self._addresses + np.uint64(NAME * self._size))
        for owner in self._own if names else ():
            for back in KOBJECT_WORDS:
                start = owner - back
                if start < 4 or not all(self._same(start + column) for column in (4, 5)):
                    continue
                if self._texts(self._words[:, start]) == names:
                    return start * self._size, owner * self._size
        return None, None

    def _same(self, column: int) -> bool:
        values = self._words[:, column]
        return bool(values[0] != 0 and (values == values[0]).all())

    def _bugs(self, kobject: int | None) -> dict[str, int]:
        """Return the offsets of the list of BUG() tables and of the taints.

        Modules are in this list besides the main one. Before its links stand the taints, then the number of entries.
        """
        beside = {1, kobject // self._size + 1 if kobject is not None else 1}
        nexts, places = self._words, self._places
        good = []
        for column in np.flatnonzero(self._linked.all(axis=0)).tolist():
            # all but one lead to another module; this module can be missing from the kernel's list
            among = np.isin(nexts[:, column], places[:, column]).sum()
            if column not in beside and 2 * int(among) + 2 > len(self._addresses) and self._is_bug_list(column):
                good.append(column * self._size)
        if len(good) != 1:
            return self._taints_alone()
        return {"bug_list": good[0], "taints": good[0] - 2 * self._size}

    @cached_property
    def _linked(self) -> Mask:
        """Mask of the words that are links in non-empty lists, shape (n, m - 2)."""
        columns = self._words.shape[1] - 2
        nexts, places = self._words[:, :columns], self._places[:, :columns]
        backs = self._at(self._words[:, 1 : columns + 1])
        return np.asarray((self._at(nexts, 1) == places) & (backs == places) & (nexts != places))

    def _taints_alone(self) -> dict[str, int]:
        """Return the offset of the taints in a kernel without a list of BUG() tables.

        There the taints stand right before the pointer to the description of the module's symbols. In a kernel with
        that list, the pointer to the table of BUG() stands there instead.
        """
        try:
            pointer = symbol_reader(self.memory, self.structures).pointer
        except ModulesError:
            return {}
        if pointer is None or pointer < 3 or pointer - 3 >= self._linked.shape[1]:
            return {}
        flags = (self._words[:, pointer - 1] < 1 << len(TAINTS)).all()
        return {"taints": (pointer - 1) * self._size} if flags and not self._linked[:, pointer - 3].any() else {}

    def _is_bug_list(self, column: int) -> bool:
        """Tell whether the fields around these links are those of a list of BUG() tables.

        Right before the links is the length of the table to which the pointer behind them leads; before it are flags.
        """
        counts, tables = self._numbers((column - 1) * self._size), self._words[:, column + 2]
        return bool(((counts == 0) == (tables == 0)).all() and (self._words[:, column - 2] < MOST_FLAGS).all())

    def _group(self) -> int | None:
        """Return the column of the pointer to a group of attributes called "sections"."""
        names = self._at(self._words)
        candidates = []
        for column in range(self._words.shape[1] - 2):
            some = names[self._words[:, column] != 0, column]
            if 2 * len(some) > len(names) and some[0] and (some == some[0]).all():
                text = self._texts(some[:1])
                if text == [GROUP]:
                    candidates.append(column)
        return candidates[0] if len(candidates) == 1 else None

    def _arguments(self, group: int) -> int | None:
        """Return the offset of the pointer to the string that each module was loaded with.

        Behind the pointer to the sections is the one to the notes, and then this one.
        """
        texts = self._texts(self._words[:, group + 2])
        good = texts is not None and all(text.isascii() and (not text or text.decode().isprintable()) for text in texts)
        return (group + 2) * self._size if good else None

    def _init(self, group: int, regions: tuple[RegionPlace, ...]) -> int | None:
        """Return the offset of the pointer to the init function.

        It is the one word before the fields for memory that leads into the section of initial code, in modules that
        have one.
        """
        initial = list(self._initial_texts(group))
        if not initial or not regions:
            return None
        stop = regions[0].base // self._size
        words = self._words[[row for row, _ in initial], max(0, stop - CACHE_LINE // self._size) : stop]
        starts = np.array([start for _, start in initial], np.uint64)
        inside = self.memory.words.wrap(words - starts[:, None]) < np.uint64(MOST_INITIAL)
        fitting = np.flatnonzero((inside | (words == 0)).all(axis=0) & (2 * inside.sum(axis=0) > len(initial)))
        return (stop - words.shape[1] + int(fitting[0])) * self._size if len(fitting) == 1 else None

    def _initial_texts(self, group: int) -> Iterator[tuple[int, int]]:
        """Yield the row of a module with initial code, and the address of that code."""
        groups = self._words[:, group].tolist()
        known = [(address, place) for address, place in zip(self._addresses.tolist(), groups, strict=True) if place]
        form = find_form(self.memory, known)
        for row, place in enumerate(groups[:SAMPLE]):
            try:
                found = sections(self.memory, place, form) if form is not None and place else ()
            except UnmappedError:
                continue
            yield from ((row, section.address) for section in found if section.name == INITIAL_TEXT)

    def _versions(self) -> dict[str, int]:
        """Return the offsets of the source checksum and of the version before it.

        The checksum's pointer leads to such a checksum in every module where it is not 0.
        """
        good = []
        for column in range(1, self._words.shape[1]):
            some = self._words[:, column] != 0
            if not some.any():
                continue
            texts = self._texts(self._words[some, column][:1])
            if texts is None or not SOURCE_VERSION.fullmatch(texts[0]):
                continue
            texts = self._texts(self._words[some, column])
            if texts is not None and all(SOURCE_VERSION.fullmatch(text) for text in texts):
                good.append(column)
        if len(good) != 1:
            return {}
        found, before = {"srcversion": good[0] * self._size}, self._words[:, good[0] - 1]
        texts = self._texts(before[before != 0])
        if texts is not None and all(text.isascii() and text.decode().isprintable() for text in texts):
            found["version"] = (good[0] - 1) * self._size
        return found

    def _uses(self) -> dict[str, int]:
        """Return the offsets of the lists of users and uses, and of two fields behind.

        The two lists stand side by side; behind them are the pointer to the exit function and the reference count.
        """
        last = self._words.shape[1] - 5
        users, uses = self._is_use(0, 5), self._is_use(2, 4)
        fitting = np.flatnonzero((users[:, :last] & uses[:, 2:][:, :last]).all(axis=0)).tolist()
        if len(fitting) != 1:
            return {}
        names = ("users", "uses", "exit", "refcount")
        return {name: (fitting[0] + word) * self._size for name, word in zip(names, (0, 2, 4, 5), strict=True)}

    def _is_use(self, before: int, module: int) -> Mask:
        """Return which words are heads of lists of ``struct module_use``.

        The mask has the shape (n, m - 1).

        Args:
            before: words of ``struct module_use`` before the links of this list.
            module: words from its beginning to the pointer to the module whose list this is.
        """
        nexts, backs, places = self._words[:, :-1], self._words[:, 1:], self._places[:, :-1]
        empty = (nexts == places) & (backs == places)
        linked = (self._at(nexts, 1) == places) & (self._at(backs) == places)
        return np.asarray(empty | (linked & (self._at(nexts, module - before) == self._addresses[:, None])))

    def _parameters(self) -> dict[str, int]:
        """Return the offsets of the pointer to the parameters and of their number.

        The first and the last element of the array point to their module. The number stands behind the pointer to the
        array.
        """
        good = []
        for column in range(self._words.shape[1] - 1):
            starts, counts = self._words[:, column], self._numbers((column + 1) * self._size)
            some = counts > 0
            if not some.any() or (counts > module_parameters.MAX_PARAMETERS).any() or (starts[~some] != 0).any():
                continue
            last = starts + (counts - np.uint64(1)) * np.uint64(module_parameters.WORDS * self._size)
            owners = np.stack((self._at(starts[some], 1), self._at(last[some], 1)), axis=1)
            if (owners == self._addresses[some, None]).all():
                good.append(column * self._size)
        if len(good) != 1:
            return {}
        return {"parameters": good[0], "parameter_count": good[0] + self._size}
