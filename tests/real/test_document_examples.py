"""The examples in Python of all pages for users, run against a real guest."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

import kallsift
from tests.document_examples import link_all, run_examples
from tests.modules.module_builder import Built
from tests.real.conftest import Taken

GUEST = "amd64-7.2"

NAMES = ("python", "questions", "modules", "layout", "exports", "guests", "types")

PAGES = ("README.md", *(f"docs/{name}.md" for name in NAMES))
"""All pages with examples but docs/live.md, whose guest would have to run, and those that show the project's code."""


@pytest.mark.parametrize("page", PAGES)
def test_examples_run(taken: Taken, tmp_path: Path, page: str) -> None:
    if page == "docs/python.md":
        pytest.importorskip("pyarrow")
    capture = taken(GUEST)
    link_all(capture.dump("elf"), tmp_path, "memory.lime", "memory.elf", "host.lime")
    (tmp_path / "saved.kallsyms").write_bytes(capture.truth("kallsyms"))
    (tmp_path / "driver.ko").write_bytes(Built().data())
    with kallsift.open(capture.dump("elf")) as memory:
        kernel = kallsift.recover(memory)
    schedule = kernel.symbols["schedule"].address

    def read_pages(address: int, size: int) -> bytes | None:
        try:
            return kernel.read(address, size)
        except kallsift.UnmappedError:
            return None

    names = {
        "read_pages": read_pages,
        "lstar": kernel.symbols["entry_SYSCALL_64"].address,
        "log": [f"RIP: 0010:{schedule:#x}\n".encode()],
        "out": io.BytesIO(),
    }
    left = run_examples(page, tmp_path, dict(names))
    if page == "docs/python.md":
        assert left["kernel"].symbols.same_as(kernel.symbols)
        assert (left["answer"].symbol.address, str(left["answer"])[:12]) == (schedule, "schedule+0x0")
        assert "it was pickled" in str(left["again"].memory.notes)
    if page == "docs/questions.md":
        assert left["out"].getvalue().startswith(f"RIP: 0010:{schedule:#x} <schedule+0x0/".encode())
        assert left["found"].agree
