"""Compare what plugins say of processes with what the guest said."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from runner import Rows
from truth import Truth, low

MAX_CHANGED = 5
"""Processes that may have begun or ended between the guest's own listing, made by some of them, and the dump."""

MIN_SAME_NAME = 7
"""Letters of a worker's name that stay; /proc goes on with what it does."""


def shared_pids(found: Iterable[int], wanted: Iterable[int]) -> set[int]:
    """Return the processes of both listings, after a check that few are in one alone."""
    found, wanted = set(found), set(wanted)
    assert len(wanted - found) <= MAX_CHANGED, f"lacks processes {sorted(wanted - found)}"
    assert len(found - wanted) <= MAX_CHANGED, f"has processes {sorted(found - wanted)} too many"
    return found & wanted


def equal(found: Any, wanted: Any) -> None:
    """Check that two sets or dictionaries are equal, or say where they first differ."""
    if found == wanted:
        return
    found, wanted = (set(value.items() if isinstance(value, dict) else value) for value in (found, wanted))
    extra, lacking = sorted(found - wanted, key=str), sorted(wanted - found, key=str)
    raise AssertionError(f"lacks {lacking[:2]}, has {extra[:2]} instead ({len(lacking)}, {len(extra)})")


def flat(rows: Rows) -> Rows:
    """Return rows with those below them."""
    return [found for row in rows for found in (row, *flat(row["__children"]))]


def check_processes(rows: Rows, truth: Truth) -> None:
    """Numbers, parents and names."""
    wanted = truth.processes
    found = {row["PID"]: row for row in flat(rows)}
    for pid in shared_pids(found, wanted):
        row = found[pid]
        assert row["PPID"] == wanted[pid].parent, f"process {pid} has parent {row['PPID']}"
        assert row["COMM"][:MIN_SAME_NAME] == wanted[pid].name[:MIN_SAME_NAME], f"process {pid} is {row['COMM']}"


def check_tree(rows: Rows, truth: Truth) -> None:
    """As the list, and each below its parent."""
    check_processes(rows, truth)
    for row in flat(rows):
        for child in row["__children"]:
            assert child["PPID"] == row["PID"], f"process {child['PID']} stands below {row['PID']}"


def check_arguments(rows: Rows, truth: Truth) -> None:
    """Command lines; names in brackets for kernel threads."""
    wanted = {pid: process.arguments for pid, process in truth.processes.items()}
    found = {row["PID"]: row["ARGS"] for row in rows}
    for pid in shared_pids(found, wanted):
        if wanted[pid]:
            assert found[pid] == wanted[pid], f"process {pid} has arguments {found[pid]}"
        else:
            assert found[pid].startswith("["), f"kernel thread {pid} has arguments {found[pid]}"


def check_environments(rows: Rows, truth: Truth) -> None:
    """All variables of all processes, in order."""
    found: dict[int, list[str]] = defaultdict(list)
    for row in rows:
        found[row["PID"]].append(f"{row['KEY']}={row['VALUE']}")
    wanted = {int(pid): text.rstrip() for pid, text in truth.rows("environments.tsv")}
    assert any("LAB-BASH-ENV" in text for text in wanted.values())
    for pid in shared_pids(found, wanted):
        assert " ".join(found[pid]) == wanted[pid], f"process {pid} has environment {found[pid]}"


def check_history(rows: Rows, truth: Truth) -> None:
    """Each command of the shell with its second, and no other."""
    lines = (line.split(maxsplit=2) for line in truth.text("history").splitlines())
    wanted = [("bash", int(second), command) for _, second, command in lines]
    found = [
        (row["Process"], round(datetime.fromisoformat(row["CommandTime"]).timestamp()), row["Command"]) for row in rows
    ]
    assert len(wanted) >= 5
    assert found == wanted, f"{found}"


def check_files(rows: Rows, truth: Truth) -> None:
    """All descriptors of all processes that live."""
    pairs = ((place.split("/"), path) for place, path in truth.rows("descriptors.tsv"))
    wanted = {(int(pid), int(number)): path for (_, _, pid, _, number), path in pairs}
    found = {(row["PID"], row["FD"]): row["Path"] for row in rows}
    both = shared_pids({pid for pid, _ in found}, {pid for pid, _ in wanted})
    equal(
        {place: path for place, path in found.items() if place[0] in both},
        {place: path for place, path in wanted.items() if place[0] in both},
    )


def check_maps(rows: Rows, truth: Truth) -> None:
    """All memory of all processes that live."""
    both = shared_pids({row["PID"] for row in rows}, {pid for pid, areas in truth.areas.items() if areas})
    wanted = {
        (pid, area.start, area.end, area.access[:3], area.offset, area.inode)
        for pid in both
        for area in truth.areas[pid]
        if area.path != "[vsyscall]"  # which is no area of the process
    }
    names = ("PID", "Start", "End", "Flags", "PgOff", "Inode")
    equal({tuple(row[name] for name in names) for row in rows if row["PID"] in both}, wanted)


def check_injected_code(rows: Rows, truth: Truth) -> None:
    """Memory that can be written and executed, and code without a file: that of one program of the lab alone."""
    wanted = {
        (pid, area.start, area.end)
        for pid, areas in truth.areas.items()
        for area in areas
        if area.access[:3] == "rwx" or (area.access[:3] == "r-x" and not area.path)
    }
    assert {truth.processes[pid].name for pid, _, _ in wanted} == {"labtarget"}
    equal({(row["PID"], row["Start"], row["End"]) for row in rows}, wanted)
    written = [row["Hexdump"] for row in rows if row["Protection"] == "rwx"]
    assert written, "no region can be written"
    assert all(text.replace(" ", "").startswith("909031c0c3") for text in written), f"shows {written[0][:60]}"


def check_libraries(rows: Rows, truth: Truth) -> None:
    """Libraries of the one program that has any, at the addresses where they lie."""
    wanted = set()
    for pid, areas in truth.areas.items():
        if any("ld-linux" in area.path for area in areas):
            name = truth.processes[pid].name
            for area in reversed(areas):
                if area.path.startswith("/lib") and area.offset == 0:
                    wanted.add((name, pid, area.path, area.start))
                elif area.path == "[vdso]":
                    wanted.add((name, pid, "linux-vdso.so.1", area.start))
    assert len(wanted) >= 4
    equal({(row["Name"], row["Pid"], row["Path"], row["LoadAddress"]) for row in rows}, wanted)


def check_kernel_threads(rows: Rows, truth: Truth) -> None:
    """All kernel threads but their parent, which has no function, with the functions that they run."""
    found = {row["TID"]: row for row in rows}
    for tid in shared_pids(found, set(truth.kernel_threads) - {2}):
        name = truth.kernel_threads[tid][:MIN_SAME_NAME]
        assert found[tid]["Thread Name"].startswith(name), f"thread {tid} is {found[tid]['Thread Name']}"
    for row in rows:
        assert low(row["Handler Address"]) in truth.symbols[row["Symbol"]], f"{row['Symbol']} is no such function"
    (watcher,) = (row for row in rows if row["Thread Name"] == "labwatcher")
    assert (watcher["Module"], watcher["Symbol"]) == ("labwatcher", "labwatcher_thread")
    assert low(watcher["Handler Address"]) == low(truth.facts["labwatcher.thread"])


def check_tracers(rows: Rows, truth: Truth) -> None:
    """Who traces whom."""
    lines = (line.split(":") for line in truth.text("tracers").splitlines() if line)
    wanted = {(int(path.split("/")[2]), int(tracer)) for path, _, tracer in lines if int(tracer)}
    assert len(wanted) == 1
    equal({(row["TID"], row["Tracer TID"]) for row in flat(rows) if row["Tracer TID"]}, wanted)
