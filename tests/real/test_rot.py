"""Damage to dumps touches what it says, and the table of what came of it is what the next run goes on from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kallsift.memory.formats import avml, lime
from kallsift.memory.formats.kdump import reader as kdump
from kallsift.memory.formats.registry import Container
from tests.memory.builders import lime as lime_file
from tests.memory.writers import avml as avml_writer
from tests.memory.writers import kdump as kdump_writer
from tests.real.rot import CONTAINERS, Outcome, Table
from tests.real.rot_damage import PAGE, Target, private_view, stored_bytes

RAM = np.random.default_rng(3).integers(0, 8, 96 * PAGE, np.uint8).tobytes()
PAGES = {number + 16: RAM[number * PAGE :][:PAGE] for number in range(96)}

FILES: dict[str, tuple[Container, bytes]] = {
    "ELF core": (lime, lime_file([(16 * PAGE, RAM)])),
    "LiME": (lime, lime_file([(16 * PAGE, RAM)])),
    "AVML": (avml, avml_writer.avml([(16 * PAGE, RAM)])),
    "kdump, zlib": (kdump, kdump_writer.kdump(PAGES)),
    "kdump, zstd": (kdump, kdump_writer.kdump(PAGES, kdump_writer.Kdump(packing="zstd"))),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_each_damage_changes_the_view_and_never_the_file(container: str, tmp_path: Path) -> None:
    module, content = FILES[container]
    path = tmp_path / "dump"
    path.write_bytes(content)
    for kind, damage in CONTAINERS[container][1].items():
        if damage is None:
            continue
        changed = 0
        for seed in range(10):
            view = private_view(path)
            memory = module.open("dump", view, lambda: None)
            target = Target(memory, 40 * PAGE, 60 * PAGE)
            after = damage(view, target, np.random.default_rng(seed))
            changed += after.tobytes() != content
        assert changed >= 5, kind
    assert path.read_bytes() == content


def test_a_cut_takes_out_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(RAM + b"end")
    view = private_view(tmp_path / "file", range(3 * PAGE, 5 * PAGE))
    assert view.tobytes() == RAM[: 3 * PAGE] + RAM[5 * PAGE :] + b"end"


@pytest.mark.parametrize("container", [name for name in FILES if "kdump" in name or name == "LiME"])
def test_a_page_stands_where_it_is_said_to(container: str, tmp_path: Path) -> None:
    module, content = FILES[container]
    (tmp_path / "dump").write_bytes(content)
    view = private_view(tmp_path / "dump")
    bounds = stored_bytes(view, module.open("dump", view, lambda: None), 50 * PAGE)
    assert bounds is not None
    view[slice(*bounds)] = 0
    memory = module.open("dump", view, lambda: None)
    found = memory.segments[0].read().reshape(-1, PAGE)
    changed = (found != np.frombuffer(RAM, np.uint8).reshape(-1, PAGE)).any(axis=1)
    assert np.flatnonzero(changed).tolist() == [34]


def test_the_table_is_added_to(tmp_path: Path) -> None:
    document = tmp_path / "rot.md"
    outcomes = [
        Outcome("AVML", 0, "packed bytes rotten", 0),
        Outcome("AVML", 1, "block cut", 3, wrong=2),
        Outcome("AVML", 2, "cut short", 1),
        Outcome("AVML", 3, "packed bytes rotten", 0, lacking=1),
        Outcome("AVML", 4, "block cut", -1),
    ]
    for times in (1, 2):
        table = Table(document, resume=True)
        assert table.trials("a guest", "AVML") == 5 * (times - 1)
        for outcome in outcomes:
            table.add("a guest", outcome)
        table.write()
        text = document.read_text()
        cells = " | ".join(str(times * count) for count in (5, 2, 1, 1, 1, 1, 1))
        assert f"| a guest | AVML | {cells} |" in text
        assert f"So far {5 * times} trials." in text
    assert Table(document, resume=False).trials("a guest", "AVML") == 0
