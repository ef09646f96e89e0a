"""Draw the recovered kernels, their places and their evidence for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from kallsift.kallsyms.evidence import Check, Outcome
from kallsift.kernel.kernel import Kernel, Role, State
from kallsift.kernel.placement.rebase import image_base
from kallsift.memory.memory import AddressSpace, Memory, printable
from kallsift.output.text.evidence import MARKS

_STYLES = {Outcome.PASSED: "green", Outcome.FAILED: "bold red", Outcome.ABSENT: "dim"}
PAGE = 4096
MAP_WIDTH = 64
"""Highest number of characters of a damage map."""

_UNKNOWN = Text("unknown", "dim")


def info_panel(memory: Memory, kernels: Sequence[Kernel], first: int = 0) -> RenderableType:
    """Return a panel with the source and each of the kernels.

    Strings of the dump are shown escaped and never read as markup.

    Args:
        memory: the source.
        kernels: the kernels that are shown.
        first: number of the first of these kernels among all in the source.
    """
    ranges = "one range" if len(memory.segments) == 1 else f"{len(memory.segments)} ranges"
    extent = f"{memory.size:,} bytes in {ranges}"
    if memory.fetched is not None:
        extent = f"{memory.fetched.bytes_in_all:,} bytes of it read"
    source = _facts(
        ("Source", Text(printable(memory.source))),
        ("Container", Text(f"{printable(memory.container)}, {extent}")),
        *(("Note", Text(printable(remark), "yellow")) for remark in memory.remarks),
    )
    return Group(source, *(_kernel(index, kernel) for index, kernel in enumerate(kernels, first)))


def _kernel(index: int, kernel: Kernel) -> Panel:
    verdict = "proven" if kernel.proven else "NOT PROVEN"
    colour = "green" if kernel.proven else "yellow"
    facts = _facts(
        ("Banner", _text(kernel.banner)),
        ("Architecture", _text(kernel.architecture)),
        ("State", Text(_STATES[kernel.state])),
        ("Symbols", Text(f"{len(kernel.symbols):,}, addresses {kernel.encoding}")),
        *_image(kernel),
        ("Virtual base", _address(kernel.virtual_base)),
        *_place(kernel),
        ("KASLR slide", _address(kernel.kaslr_slide)),
        ("Page table", _page_table(kernel)),
    )
    return Panel(
        Group(facts, Text(), _tables(kernel), Text(), *_damage(kernel), _evidence(kernel.evidence)),
        title=Text(f"kernel {index}: {kernel.state.value}{_role(kernel)}, {verdict}", colour),
        title_align="left",
        border_style=colour,
    )


_STATES = {
    State.RUNNING: "running: its own page table maps it",
    State.STALE: "a stale copy: it ran, but nothing shows that it still runs",
    State.IMAGE: "an image file: as the linker made it",
    State.GUEST: "a nested guest: runs in a virtual machine of this machine",
    State.TABLES: "tables alone: their virtual address is unknown",
    State.PANICKED: "panicked: its capture kernel runs instead of it",
}

_ROLES = {
    Role.CAPTURE: " as the capture kernel of a kernel that panicked",
    Role.PANICKED: ", though it panicked",
    Role.REPLACED: ", though it started another kernel",
}


def _role(kernel: Kernel) -> str:
    return _ROLES.get(kernel.role, "") if kernel.state is State.RUNNING else ""


def _page_table(kernel: Kernel) -> Text:
    if kernel.page_table_root is None:
        return _UNKNOWN
    bits = [str(bit) for bit in range(64) if kernel.attribute_bits >> bit & 1]
    marked = f"; bit {' and bit '.join(bits)} of entries marks encrypted or shared memory" if bits else ""
    return Text(f"{kernel.page_table_root:#x}, {printable(kernel.paging or 'mode unknown')}{marked}")


def _tables(kernel: Kernel) -> Table:
    table = Table("table", title="kallsyms tables", title_justify="left", title_style="bold", box=None)
    heading = _PLACES[kernel.memory.space]
    for each in (*((heading.lower(),) if heading else ()), "virtual", "bytes"):
        table.add_column(each, justify="right")
    for place in kernel.tables:
        where = (_address(kernel.place(place.physical)),) if heading else ()
        virtual = _address(place.virtual if kernel.is_placed else None)
        table.add_row(Text(printable(place.name)), *where, virtual, Text(f"{place.size:,}"))
    return table


_PLACES = {AddressSpace.PHYSICAL: "Physical", AddressSpace.FILE: "Offset", AddressSpace.VIRTUAL: ""}
"""Heading of places in a kernel's memory; empty for virtual addresses.

Virtual addresses have a column or row of their own.
"""


def _place(kernel: Kernel) -> tuple[tuple[str, Text], ...]:
    """Return the row with the place of the kernel's text.

    There is no row if places are virtual addresses.
    """
    heading, base = _PLACES[kernel.memory.space], kernel.physical_base
    if not heading:
        return ()
    where = _address(None if base is None else kernel.place(base))
    return (("Physical base" if kernel.memory.image is None else "Offset of base", where),)


def _image(kernel: Kernel) -> tuple[tuple[str, Text], ...]:
    """Return the rows with a kernel image's packaging and its first byte's address."""
    image = kernel.memory.image
    if image is None:
        return ()
    packaging = ", ".join(image.packaging or (kernel.memory.container,))
    skipped = f", behind {image.skipped:,} bytes" if image.skipped else ""
    return ("Image", Text(printable(f"{packaging}, at {image.offset:#x}{skipped}"))), (
        "Image base",
        _address(image_base(kernel) if kernel.is_placed else None),
    )


def _damage(kernel: Kernel) -> tuple[RenderableType, ...]:
    """Return a map of each damaged table.

    A character stands for a number of pages; an x marks that one of them is lost.
    """
    rows = [one for one in kernel.damage if one.lost]
    if not rows:
        return ()
    table = Table("table", title="lost pages", title_justify="left", title_style="bold", box=None)
    table.add_column("lost", justify="right")
    table.add_column("map", overflow="fold")
    for one in rows:
        lost = np.array(one.lost) // PAGE - one.first // PAGE
        each = -(-one.pages // MAP_WIDTH)
        cells = np.full(-(-one.pages // each), ord("."), np.uint8)
        cells[lost // each] = ord("x")
        scale = f" ({each} pages each)" if each > 1 else ""
        table.add_row(
            Text(printable(one.name)), Text(f"{len(lost)} of {one.pages}"), Text(cells.tobytes().decode() + scale)
        )
    return table, Text()


def _evidence(checks: Sequence[Check]) -> Table:
    table = Table("", "check", "finding", title="evidence", title_justify="left", title_style="bold", box=None)
    for check in checks:
        name = Text(printable(check.name) + ("" if check.essential else " (advisory)"))
        table.add_row(
            Text(MARKS[check.outcome], _STYLES[check.outcome]), name, Text(printable(check.detail), overflow="fold")
        )
    return table


def _facts(*rows: tuple[str, Text]) -> Table:
    grid = Table.grid(padding=(0, 2))
    for label, value in rows:
        grid.add_row(Text(label, "cyan"), value)
    return grid


def _text(value: str | None) -> Text:
    return _UNKNOWN if value is None else Text(printable(value.strip()), overflow="fold")


def _address(value: int | None) -> Text:
    return _UNKNOWN if value is None else Text(f"{value:#x}")
