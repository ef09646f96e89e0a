"""JSON of real guests has the shape that docs/json.schema.json describes; what it says differs with every boot."""

from __future__ import annotations

import json

import pytest

from kallsift.analysis.address_space.layout import layout
from kallsift.modules.inventory import inventory
from kallsift.output.symbols.json_writer import document
from kallsift.output.text.layout import layout_document
from kallsift.output.text.modules import modules_document
from tests.cli.json_schema import problems
from tests.real.conftest import GUESTS, Taken
from tests.real.listed import running


@pytest.mark.parametrize("guest", GUESTS)
def test_the_shape(taken: Taken, guest: str) -> None:
    kernel = running(taken(guest).dump("elf"))
    modules = inventory(kernel)
    for command, found in {
        "info": {},
        "layout": layout_document(layout(kernel)),
        "modules": modules_document(modules, modules.modules),
    }.items():
        assert problems(json.loads(document(command, kernel.memory, [(kernel, found)]))) == []
