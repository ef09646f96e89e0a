"""An inventory of modules made by hand."""

from __future__ import annotations

from dataclasses import replace

from kallsift.modules.field_inference import infer_layout
from kallsift.modules.inventory import Inventory, LoadedModule
from kallsift.modules.module_reader import FactReader
from tests.modules.made_modules import made_modules


def loaded(**changes: object) -> Inventory:
    """Make five modules, of which the last one is hidden."""
    made = made_modules(1)
    memory = made.arena.memory
    fields = replace(infer_layout(memory, made.structures), **changes)  # type: ignore[arg-type]
    facts = FactReader(memory, fields, made.structures, {})
    witnesses = [("list", "tree")] * 4 + [("tree", "memory")]
    modules = tuple(LoadedModule(one, by, facts) for one, by in zip(made.addresses, witnesses, strict=True))
    return Inventory(modules, fields.unknown, (), 8)
