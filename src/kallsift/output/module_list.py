"""A kernel's modules as text: as ``/proc/modules`` prints them, as a table, and what ``/sys/module`` shows of each.

What is not known is a question mark, so that it differs from what there is none of, a hyphen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kallsift.kernel.inventory import Inventory, LoadedModule
from kallsift.kernel.module_parameters import Parameter
from kallsift.kernel.module_structures import STATES
from kallsift.memory.model import printable

UNKNOWN, NONE = "?", "-"

PERMANENT = "[permanent]"
SIGNS = {"Loading": "+", "Unloading": "-"}
"""What ``/proc/modules`` writes behind the letters of a module's flags."""

HEADINGS = ("module", "base", "size", "refs", "state", "taints", "version", "list", "used by")
RIGHT = {"size", "refs"}


def proc_modules(inventory: Inventory, modules: Sequence[LoadedModule]) -> Iterator[str]:
    """The lines of ``/proc/modules`` (``m_show()`` in kernel/module/procfs.c), which has listed modules alone."""
    for module in modules:
        if not module.listed or module.state == STATES[-1]:
            continue
        users = UNKNOWN if module.users is None else "".join(f"{printable(name)}," for name in module.users)
        if module.permanent and module.users is not None:
            users += f"{PERMANENT},"
        # a kernel that cannot unload modules counts no references
        refs = _unless(module.refcount, inventory.unknown, "refcount")
        taints = ""
        if module.taints is None:
            taints = f" {UNKNOWN}"
        elif module.taints:
            taints = f" ({module.taints}{SIGNS.get(module.state or '', '')})"
        base = UNKNOWN if module.base is None else f"0x{module.base:0{2 * inventory.word_size}x}"
        fields = (_name(module), _known(module.size), refs, users or NONE, _known(module.state), base)
        yield " ".join(fields) + taints


def module_table(inventory: Inventory, modules: Sequence[LoadedModule]) -> Iterator[str]:
    """One line a module under a line of headings, in aligned columns; those that the list lacks come last."""
    rows = [HEADINGS, *(_row(module, inventory) for module in modules)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    for row in rows:
        cells = (
            text.rjust(width) if heading in RIGHT else text.ljust(width)
            for heading, text, width in zip(HEADINGS, row, widths, strict=True)
        )
        yield "  ".join(cells).rstrip()


def _row(module: LoadedModule, inventory: Inventory) -> tuple[str, ...]:
    users = None if module.users is None else ",".join((*module.users, *((PERMANENT,) if module.permanent else ())))
    unlisted = f"NO ({', '.join(module.found_by)})"
    return (
        _name(module),
        UNKNOWN if module.base is None else f"0x{module.base:0{2 * inventory.word_size}x}",
        _known(module.size),
        _unless(module.refcount, inventory.unknown, "refcount"),
        _known(module.state),
        _unless(module.taints, inventory.unknown, "taints"),
        _unless(module.version, inventory.unknown, "version"),
        "yes" if module.listed else unlisted,
        _unless(users, inventory.unknown, "users"),
    )


def section_lines(inventory: Inventory, modules: Sequence[LoadedModule]) -> Iterator[str]:
    """``module<TAB>section<TAB>0xaddress``, the address as ``/sys/module/MODULE/sections/SECTION`` prints it.

    Raises:
        KallsiftError: if they cannot be read.
    """
    for module in modules:
        for section in module.sections or ():
            yield f"{_name(module)}\t{printable(section.name)}\t0x{section.address:0{2 * inventory.word_size}x}"


def parameter_lines(inventory: Inventory, modules: Sequence[LoadedModule]) -> Iterator[str]:
    """``module<TAB>parameter<TAB>type<TAB>value``, the value as ``/sys/module/MODULE/parameters/PARAMETER`` prints it.

    Raises:
        KallsiftError: if they cannot be read.
    """
    for module in modules:
        for parameter in module.parameters or ():
            value = UNKNOWN if parameter.value is None else printable(parameter.value)
            yield f"{_name(module)}\t{printable(parameter.name)}\t{parameter.type or UNKNOWN}\t{value}"


def modules_document(inventory: Inventory, modules: Sequence[LoadedModule]) -> dict[str, Any]:
    """All that is known of modules, as values that JSON can express; what is not known is None.

    Raises:
        KallsiftError: if something cannot be read.
    """
    return {
        "unknown": list(inventory.unknown),
        "missing": list(inventory.missing),
        "modules": [_document(module) for module in modules],
    }


def _document(module: LoadedModule) -> dict[str, Any]:
    return {
        "name": module.name,
        "listed": module.listed,
        "found_by": list(module.found_by),
        "address": f"{module.address:#x}",
        "base": _hex(module.base),
        "size": module.size,
        "state": module.state,
        "refcount": module.refcount,
        "users": _list(module.users, str),
        "permanent": module.permanent,
        "taints": module.taints,
        "version": module.version,
        "srcversion": module.srcversion,
        "build_id": module.build_id,
        "arguments": module.arguments,
        "regions": _list(module.regions, lambda one: {"name": one.name, "base": _hex(one.base), "size": one.size}),
        "sections": _list(module.sections, lambda one: {"name": one.name, "address": _hex(one.address)}),
        "parameters": _list(module.parameters, _parameter_document),
    }


def _parameter_document(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "type": parameter.type,
        "value": parameter.value,
        "mode": f"{parameter.mode:04o}",
    }


def _list(values: Sequence[Any] | None, document: Callable[[Any], Any]) -> list[Any] | None:
    return None if values is None else [document(value) for value in values]


def _hex(number: int | None) -> str | None:
    return None if number is None else f"{number:#x}"


def _name(module: LoadedModule) -> str:
    return UNKNOWN if module.name is None else printable(module.name)


def _known(value: object | None) -> str:
    return UNKNOWN if value is None else printable(str(value))


def _unless(value: object | None, unknown: Sequence[str], name: str) -> str:
    """A fact; a hyphen where there is none of it."""
    if value is None:
        return UNKNOWN if name in unknown else NONE
    return printable(str(value)) or NONE
