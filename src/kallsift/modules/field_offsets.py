"""Where in ``struct module`` the facts about a module stand: from the kernel's types, or from what must be true.

The kernel's own types (BTF) say it outright. Where it carries none, `module_equations` finds what it can; what neither
tells is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from kallsift.kernel.access.btf import BtfError, kernel_types
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.kernel import Kernel
from kallsift.modules.memory_regions import RegionPlace, typed_regions
from kallsift.modules.struct_module import NAME, Structures

MAX_SIZE = 1 << 16
"""Bytes of the structure at most; the largest so far has some 2 KiB."""


@dataclass(frozen=True)
class Fields:
    """Places in bytes from the beginning of ``struct module``; None for what is not known, or not there.

    Attributes:
        regions: the parts of its memory.
        kobject: of ``mkobj.kobj``, which begins with a pointer to its name.
        owner: of ``mkobj.mod``, which points to the structure itself.
        version: of the pointer to it.
        srcversion: of the pointer to it.
        parameters: of the pointer to the array of them (``kp``).
        parameter_count: 32 bits (``num_kp``).
        init: of the pointer to the function that ran first.
        exit: of the pointer to the function that runs last.
        taints: of a word of flags.
        bug_list: of its links in the list of modules that have tables of BUG().
        sections: of the pointer to what ``/sys/module/NAME/sections`` shows (``sect_attrs``).
        arguments: of the pointer to the string that it was loaded with (``args``).
        users: of the list of ``struct module_use`` of those that use it (``source_list``).
        uses: of the list of those that it uses (``target_list``).
        refcount: 32 bits, one more than what is shown (``refcnt``).
    """

    regions: tuple[RegionPlace, ...] = ()
    kobject: int | None = None
    owner: int | None = None
    version: int | None = None
    srcversion: int | None = None
    parameters: int | None = None
    parameter_count: int | None = None
    init: int | None = None
    exit: int | None = None
    taints: int | None = None
    bug_list: int | None = None
    sections: int | None = None
    arguments: int | None = None
    users: int | None = None
    uses: int | None = None
    refcount: int | None = None

    @property
    def back_pointers(self) -> tuple[int, ...]:
        """Where pointers to the structure's own beginning stand."""
        nodes = tuple(region.node for region in self.regions if region.node is not None)
        return nodes if self.owner is None else (self.owner, *nodes)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of the fields that have no place, but for a list that is not there: taints end where it would begin."""
        absent = ("bug_list",) if self.taints is not None else ()
        names = (field.name for field in fields(self) if field.name not in absent)
        return tuple(name for name in names if getattr(self, name) in (None, ()))


MEMBERS = {
    "version": "version",
    "srcversion": "srcversion",
    "kp": "parameters",
    "num_kp": "parameter_count",
    "init": "init",
    "exit": "exit",
    "taints": "taints",
    "bug_list": "bug_list",
    "sect_attrs": "sections",
    "args": "arguments",
    "source_list": "users",
    "target_list": "uses",
    "refcnt": "refcount",
}
"""Members of ``struct module`` by the kernel's names, and as `Fields` has them."""


def typed_fields(kernel: Kernel, memory: VirtualMemory, structures: Structures) -> Fields | None:
    """The fields as the kernel's types tell of them; None where it carries no types, or they do not fit its modules.

    They fit if most of the modules point back to themselves where the types say so.
    """
    fields = _told(kernel, memory)
    if fields is None or not len(structures):
        return fields
    places = structures.addresses[:, None] + np.array(fields.back_pointers, np.uint64)
    values = memory.values(places.ravel())[0].reshape(places.shape)
    agreeing = (values == structures.addresses[:, None]).all(axis=1)
    return fields if fields.back_pointers and 2 * int(agreeing.sum()) > len(structures) else None


def _told(kernel: Kernel, memory: VirtualMemory) -> Fields | None:
    """What the types say, whether it is true or not."""
    try:
        types = kernel_types(kernel, memory)
        module = types.struct("module")
        if module is None or (name := module.members.get("name")) is None or name.offset != NAME * memory.words.size:
            return None
        places = {ours: module.members[theirs].offset for theirs, ours in MEMBERS.items() if theirs in module.members}
        if "mkobj" in module.members and (inner := types.struct_of(module.members["mkobj"].type)) is not None:
            outer = module.members["mkobj"].offset
            for theirs, ours in (("kobj", "kobject"), ("mod", "owner")):
                if theirs in inner.members:
                    places[ours] = outer + inner.members[theirs].offset
        regions = typed_regions(types)
        told = [*places.values(), *(place for region in regions for place in (region.base, region.node or 0))]
        return Fields(regions, **places) if max(told, default=0) < min(module.size, MAX_SIZE) else None
    except BtfError:
        return None
