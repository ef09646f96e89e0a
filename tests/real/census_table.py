"""The census as Markdown: what it covers, and one row for each image."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from typing import Any

HEADING = """\
# Kernel images that kallsift was tried on

Every kernel image that Debian's mirror has of these suites: of each `linux-image` (since 6.19 `linux-binary`) package
that carries one, and of the installer's netboot folders. Written by `make images`, which downloads each image, recovers
its symbols and compares them, line by line, with an independent reading:

* **guest**: `/proc/kallsyms` of a QEMU guest that booted this very package, modules left out: names, types, order and
  addresses, less the KASLR slide;
* **System.map**: the linker's own listing, of the `-dbg` package where that is below 400 MB, or vmlinux-to-elf does not
  agree: names, addresses, types. The map has more: absolute symbols and the tables themselves, which the kernel's
  build leaves out of them;
* **vmlinux-to-elf**: what `kallsyms-finder` of vmlinux-to-elf 1.4.0 makes of the same file: names, types, order and
  addresses.

*identical* means that nothing differs. *proven* alone means that nobody else can read the image: kallsift's own checks
passed, all of them. Packages that the mirror's lists name but that it has no longer are only counted. Bases are
link-time addresses of `_text` or `_stext`.
"""

PARTIAL = """\
This is a part of the census: the images that had been downloaded and chosen when it was written.
"""

COLUMNS = ("package", "version", "arch.", "packaging", "word", "symbols", "encoding", "base", "compared with", "result")
_RULE = "|---|---|---|---|---|--:|---|---|---|---|"
_KINDS = {
    "guest": "as the guest",
    "map": "as System.map",
    "peer": "as vmlinux-to-elf",
    "disputed": "vmlinux-to-elf differs",
    "unreadable": "vmlinux-to-elf fails",
    "alone": "not compared",
    "different": "unlike guest or map",
    "failed": "not recovered",
    "gone": "listed, but gone",
}
_ORDERS = {"<": "LE", ">": "BE"}


def table(rows: list[dict[str, Any]], whole: bool) -> str:
    """The document.

    Args:
        rows: what was found of each image, suite by suite.
        whole: whether these are all images of the mirror.
    """
    lines = [HEADING, *([] if whole else [PARTIAL]), *_summary(rows)]
    for suite, members in groupby(rows, key=lambda row: row["suite"]):
        lines += ["", f"## {suite}", "", f"| {' | '.join(COLUMNS)} |", _RULE]
        lines += [f"| {' | '.join(_cells(row))} |" for row in members if not row.get("gone")]
    return "\n".join(lines)


def holds(row: dict[str, Any]) -> bool:
    """Whether an image was recovered and proven, and no guest or map says otherwise; or the mirror has it no longer."""
    return _kind(row) == "gone" or (bool(row.get("proven")) and _kind(row) != "different")


def _summary(rows: list[dict[str, Any]]) -> Iterator[str]:
    """How many images there are of each architecture, what became of them, and how often the peer errs."""
    yield f"| arch. | images | proven | {' | '.join(_KINDS.values())} |"
    yield "|---|--:|--:|" + "--:|" * len(_KINDS)
    names = sorted({row["architecture"] for row in rows})
    for name, members in [*((a, [r for r in rows if r["architecture"] == a]) for a in names), ("all", rows)]:
        kinds = Counter(_kind(row) for row in members)
        proven = sum(bool(row.get("proven")) for row in members)
        counts = (len(members), proven, *(kinds[kind] for kind in _KINDS))
        yield f"| {name} | {' | '.join(f'{figure:,}' for figure in counts)} |"
    decided = [row for row in rows if _kind(row) in ("guest", "map") and _asked(row)]
    by_architecture = Counter(row["architecture"] for row in decided)
    wrong = Counter(row["architecture"] for row in decided if not row.get("peer_problem") and not _peer_agrees(row))
    failed = Counter(row["architecture"] for row in decided if row.get("peer_problem"))
    yield ""
    errors = ", ".join(
        f"{name} {wrong[name]} wrong and {failed[name]} failed of {count}"
        for name, count in sorted(by_architecture.items())
        if wrong[name] or failed[name]
    )
    yield f"Where a guest or the map shows that kallsift is right, vmlinux-to-elf errs like this: {errors or 'never'}."


def _asked(row: dict[str, Any]) -> bool:
    return bool(row.get("peer_problem") or row.get("peer_agreement"))


def _peer_agrees(row: dict[str, Any]) -> bool:
    peer = row.get("peer_agreement")
    return peer is not None and _same(peer, slides=False)


def _kind(row: dict[str, Any]) -> str:
    """What a row's recovery was shown to equal, as a key of _KINDS."""
    if row.get("error"):
        return "gone" if row.get("gone") else "failed"
    if guest := row.get("agreement"):
        return "guest" if _same(guest, slides=True) else "different"
    if linked := row.get("map_agreement"):
        return "map" if _mapped(linked) else "different"
    if row.get("peer_agreement"):
        return "peer" if _peer_agrees(row) else "disputed"
    return "unreadable" if row.get("peer_problem") else "alone"


def _cells(row: dict[str, Any]) -> Iterator[str]:
    yield f"{row['package']}: {row['path']}" if row["path"] else row["package"]
    yield row["version"]
    yield row["architecture"]
    if row.get("error"):
        yield from ("",) * 6
        yield f"**failed**: {row['error']}".replace("|", "\\|")
        return
    yield row["packaging"]
    yield f"{row['word_bits']} {_ORDERS[row['byte_order']]}"
    yield f"{row['symbols']:,}"
    yield row["encoding"]
    yield "" if row["base"] is None else f"{row['base']:x}"
    yield row.get("reading", "")
    yield _result(row).replace("|", "\\|")


def _result(row: dict[str, Any]) -> str:
    words = [] if row["proven"] else [f"**not proven**: {'; '.join(row['failed']) or row['state']}"]
    guest, linked = row.get("agreement"), row.get("map_agreement")
    peer, problem = row.get("peer_agreement"), row.get("peer_problem")
    if guest:
        words.append(agreement_text(guest, slides=True))
    if linked:
        words.append(map_agreement_text(linked))
    if peer:
        words.append(("vmlinux-to-elf: " if guest or linked else "") + agreement_text(peer, slides=False))
    if problem:
        words.append(f"vmlinux-to-elf fails ({re.sub(r'^([a-z_]+[.])+', '', problem)})")
    if not (guest or linked or peer) and row["proven"]:
        words.insert(0, "proven")
    return "; ".join(words)


def map_agreement_text(found: dict[str, Any]) -> str:
    """Return in words how a table compares with the linker's map."""
    if _mapped(found):
        return "identical"
    return (
        f"{found['found']:,} in it, {found['lost']:,} lost, {found['letters']:,} other types (first {found['first']!r})"
    )


def _mapped(found: dict[str, Any]) -> bool:
    return found["found"] == found["lines"] and not found["lost"] and not found["letters"]


def agreement_text(found: dict[str, Any], slides: bool) -> str:
    """Return in words how a table compares with another reading of it."""
    if not found["names"]:
        return f"**other names** ({found['lines']:,} lines; first {found['first'][0]!r})"
    wrong = found["letters"] - found["excused"]
    if wrong:
        return f"same names, {wrong:,} other types"
    if not _same(found, slides):
        count = found["lines"] - dict(map(tuple, found["shifts"])).get(0, 0)
        return f"same names and types, {count:,} other addresses"
    excused = f" but for {found['excused']:,} type letters that the guest reads wrong" if found["excused"] else ""
    return f"identical{excused}"


def _same(found: dict[str, Any], slides: bool) -> bool:
    """Whether nothing differs, but for a slide of all addresses that are not absolute."""
    distances = {shift for shift, _ in found["shifts"]}
    moved = distances - {0}
    return found["names"] and found["letters"] == found["excused"] and (len(moved) <= 1 if slides else not moved)
