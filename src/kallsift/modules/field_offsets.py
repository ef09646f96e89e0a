"""Locate the facts about a module in ``struct module`` by the kernel's own types (BTF).

Where the kernel has no BTF, `field_inference` finds the fields that it can. A field that neither of them finds is
unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from kallsift.kernel.access.btf_blob import BtfError
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.kernel import Kernel
from kallsift.modules.memory_regions import RegionPlace, typed_regions
from kallsift.modules.struct_module import NAME, Structures
from kallsift.types.find import kernel_types

MAX_SIZE = 1 << 16
"""Highest size of the structure in bytes; the largest so far has some 2 KiB."""


@dataclass(frozen=True)
class ModuleLayout:
    """Offsets of fields in ``struct module``, in bytes.

    The offset is None for a field that is unknown or does not exist.

    Attributes:
        regions: fields that describe the parts of the module's memory.
        kobject: ``mkobj.kobj``, which begins with a pointer to its name.
        owner: ``mkobj.mod``, which points to the structure itself.
        version: pointer to the version string.
        srcversion: pointer to the checksum of the source.
        parameters: pointer to the array of parameters (``kp``).
        parameter_count: number of parameters (``num_kp``), 32 bits.
        init: pointer to the function that runs first.
        exit: pointer to the function that runs last.
        taints: word of flags.
        bug_list: links in the list of modules that have tables of BUG().
        sections: pointer to the attributes in ``/sys/module/NAME/sections`` (``sect_attrs``).
        arguments: pointer to the string of parameters that the module was loaded with (``args``).
        users: list of ``struct module_use`` of the modules that use this one (``source_list``).
        uses: list of ``struct module_use`` of the modules that this one uses (``target_list``).
        refcount: reference count, 32 bits, one more than ``/proc/modules`` shows (``refcnt``).
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
        """Offsets of the pointers to the structure's own beginning."""
        nodes = tuple(region.node for region in self.regions if region.node is not None)
        return nodes if self.owner is None else (self.owner, *nodes)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of the fields without an offset.

        ``bug_list`` is not among them if the taints are known: it stands two words behind them where the kernel has it.
        """
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
"""The kernel's names of members of ``struct module``, and the names in `ModuleLayout`."""


def layout_from_btf(kernel: Kernel, memory: VirtualMemory, structures: Structures) -> ModuleLayout | None:
    """Return the fields as the kernel's types describe them; None if they do not.

    The answer is None where the kernel has no types, or they do not fit its modules. They fit if more than half of the
    modules have pointers to themselves at all offsets where the types say so.
    """
    fields = _told(kernel, memory)
    if fields is None or not len(structures):
        return fields
    places = structures.addresses[:, None] + np.array(fields.back_pointers, np.uint64)
    values = memory.values(places.ravel())[0].reshape(places.shape)
    agreeing = (values == structures.addresses[:, None]).all(axis=1)
    return fields if fields.back_pointers and 2 * int(agreeing.sum()) > len(structures) else None


def _told(kernel: Kernel, memory: VirtualMemory) -> ModuleLayout | None:
    """Return the fields that the types describe, without a check against the modules."""
    try:
        types = kernel_types(kernel, memory)
        module = types.get("struct module")
        if module is None or (name := module.get("name")) is None or name.offset != NAME * memory.words.size:
            return None
        places = {ours: member.offset for theirs, ours in MEMBERS.items() if (member := module.get(theirs)) is not None}
        if (outer := module.get("mkobj")) is not None:
            for theirs, ours in (("kobj", "kobject"), ("mod", "owner")):
                if (inner := outer.type.get(theirs)) is not None:
                    places[ours] = outer.offset + inner.offset
        regions = typed_regions(types)
        offsets = [*places.values(), *(place for region in regions for place in (region.base, region.node or 0))]
        return ModuleLayout(regions, **places) if max(offsets, default=0) < min(module.size, MAX_SIZE) else None
    except BtfError:
        return None
