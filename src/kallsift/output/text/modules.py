"""Write a kernel's modules as text.

The forms are the lines of ``/proc/modules``, a table, and the contents of ``/sys/module``. Unknown facts are a question
mark, to distinguish them from facts that do not exist, a hyphen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kallsift.kallsyms.escapes import escaped, escaped_text
from kallsift.modules.inventory import Inventory, LoadedModule
from kallsift.modules.parameters import ModuleParameter
from kallsift.modules.struct_module import STATES

UNKNOWN, NONE = "?", "-"

PERMANENT = "[permanent]"
SIGNS = {"Loading": "+", "Unloading": "-"}
"""Sign that ``/proc/modules`` writes behind a module's flags, by state."""

MADE_OF = {"base": ("regions",), "size": ("regions",), "permanent": ("permanent", "init", "exit")}
"""Facts that follow from other facts, with these."""

HEADINGS = ("module", "base", "size", "refs", "state", "taints", "version", "list", "used by")
RIGHT = {"size", "refs"}


def proc_modules(inventory: Inventory, modules: Sequence[LoadedModule]) -> Iterator[str]:
    """Yield the lines of ``/proc/modules``, which has only listed modules.

    Source: ``m_show()`` in kernel/module/procfs.c.
    """
    for module in modules:
        if not module.listed or module.state == STATES[-1]:
            continue
        taints = _fact(inventory, module, "taints")
        if module.taints:
            taints = f"({taints}{SIGNS.get(module.state or '', '')})"
        fields = [
            *(_fact(inventory, module, name) for name in ("name", "size", "refcount")),
            "".join(f"{user}," for user in _users(inventory, module)) or NONE,
            _fact(inventory, module, "state"),
            _base(inventory, module),
        ]
        yield " ".join(fields if taints == NONE else [*fields, taints])


def module_table(inventory: Inventory, modules: Sequence[LoadedModule]) -> Iterator[str]:
    """Yield one line a module below a line of headings, in aligned columns.

    Modules that the kernel's list lacks come last, as in an `Inventory`.
    """
    rows = [HEADINGS, *(_row(module, inventory) for module in modules)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    for row in rows:
        cells = (
            text.rjust(width) if heading in RIGHT else text.ljust(width)
            for heading, text, width in zip(HEADINGS, row, widths, strict=True)
        )
        yield "  ".join(cells).rstrip()


def _row(module: LoadedModule, inventory: Inventory) -> tuple[str, ...]:
    return (
        _fact(inventory, module, "name"),
        _base(inventory, module),
        *(_fact(inventory, module, name) for name in ("size", "refcount", "state", "taints", "version")),
        "yes" if module.listed else f"NO ({', '.join(module.found_by)})",
        ",".join(_users(inventory, module)) or NONE,
    )


def section_lines(inventory: Inventory, modules: Sequence[LoadedModule]) -> Iterator[str]:
    """Yield ``module<TAB>section<TAB>0xaddress`` for each section.

    The address is as ``/sys/module/MODULE/sections/SECTION`` prints it.
    """
    for module in modules:
        name = _fact(inventory, module, "name")
        for section in module.sections or ():
            yield f"{name}\t{escaped(section.name)}\t0x{section.address:0{2 * inventory.word_size}x}"


def parameter_lines(inventory: Inventory, modules: Sequence[LoadedModule]) -> Iterator[str]:
    """Yield ``module<TAB>parameter<TAB>type<TAB>value`` for each parameter.

    The value is as ``/sys/module/MODULE/parameters/PARAMETER`` prints it.
    """
    for module in modules:
        name = _fact(inventory, module, "name")
        for parameter in module.parameters or ():
            value = UNKNOWN if parameter.value is None else escaped_text(parameter.value)
            yield f"{name}\t{escaped(parameter.name)}\t{parameter.type or UNKNOWN}\t{value}"


def modules_document(inventory: Inventory, modules: Sequence[LoadedModule]) -> dict[str, Any]:
    """Return all known facts about modules as values that JSON can express.

    Unknown facts are None.
    """
    documents = [_document(module) for module in modules]
    return {"unknown": list(inventory.unknown), "missing": list(inventory.missing), "modules": documents}


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


def _parameter_document(parameter: ModuleParameter) -> dict[str, Any]:
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


def _fact(inventory: Inventory, module: LoadedModule, name: str) -> str:
    """Return the text of a fact.

    It is a hyphen if the fact does not exist or the kernel does not keep it, and a question mark if it is unknown.
    """
    value = getattr(module, name)
    if value is None:
        return UNKNOWN if _is_unknown(inventory, module, name) else NONE
    return (escaped(value) if name == "name" else escaped_text(str(value))) or NONE


def _is_unknown(inventory: Inventory, module: LoadedModule, name: str) -> bool:
    """Tell whether a missing fact exists but is unknown."""
    return any(fact in inventory.unknown or fact in module.gaps for fact in MADE_OF.get(name, (name,)))


def _base(inventory: Inventory, module: LoadedModule) -> str:
    if module.base is None:
        return _fact(inventory, module, "base")
    return f"0x{module.base:0{2 * inventory.word_size}x}"


def _users(inventory: Inventory, module: LoadedModule) -> list[str]:
    """Return the modules that use a module, and the mark of a permanent one.

    A question mark stands for unknown facts.
    """
    users = [escaped(user) for user in module.users or ()]
    if module.permanent:
        users.append(PERMANENT)
    unknown = module.users is None and _is_unknown(inventory, module, "users")
    if unknown or (module.permanent is None and _is_unknown(inventory, module, "permanent")):
        users.append(UNKNOWN)
    return users
