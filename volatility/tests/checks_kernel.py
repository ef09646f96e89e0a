"""Compare what plugins say of the kernel with what the guest said."""

from __future__ import annotations

import re
from datetime import datetime

from checks_processes import equal
from runner import Rows
from truth import Truth, low

USELIB = 134
"""The system call whose entry the lab's hidden module replaces (arch/x86/entry/syscalls/syscall_64.tbl)."""

MIN_SYSTEM_CALLS = 330

PROGRAMS = {
    "lab_filter": "SOCKET_FILTER",
    "lab_calling": "SOCKET_FILTER",
    "lab_kprobe": "KPROBE",
    "lab_tracepoint": "TRACEPOINT",
    "lab_xdp": "XDP",
    "lab_fentry": "TRACING",
}
"""Programs of BPF that the guest asks for, and their kinds."""


def check_modules(rows: Rows, truth: Truth) -> None:
    """All that /proc/modules lists, in its order."""
    lines = [line.split() for line in truth.text("modules").splitlines()]
    found = [row["Module Name"] for row in rows]
    assert found == [line[0] for line in lines], f"{found}"
    assert "labwatcher" in found


def check_hidden(rows: Rows, truth: Truth) -> None:
    """The module that left the list, at its address, and no other."""
    wanted = {("labrootkit", low(truth.facts["labrootkit.module"]))}
    equal({(row["Module Name"], low(row["Offset"])) for row in rows}, wanted)


def check_function_hooks(rows: Rows, truth: Truth) -> None:
    """All functions that are traced; the lab's by the functions and modules that they call."""
    called = {row["Hooked Symbols"]: (row["Callback"], row["Module"]) for row in rows}
    assert called.get("vfs_rmdir") == ("labwatcher_traced", "labwatcher"), f"vfs_rmdir calls {called.get('vfs_rmdir')}"
    assert called.get("vfs_mkdir") == ("labrootkit_traced", "labrootkit"), f"vfs_mkdir calls {called.get('vfs_mkdir')}"
    (hidden,) = (row["Callback Address"] for row in rows if row["Callback"] == "labrootkit_traced")
    assert low(hidden) == low(truth.facts["labrootkit.traced"])
    equal(set(called), {line.split()[0] for line in truth.text("enabled_functions").splitlines() if line.strip()})


def check_programs(rows: Rows, truth: Truth) -> None:
    """All programs of BPF that the kernel took, with their kinds, and the tags that /proc/kallsyms has."""
    taken = {name: int(result) for name, result in truth.rows("bpf.tsv")[:-1]}
    wanted = {(name, kind) for name, kind in PROGRAMS.items() if taken.get(name, -1) > 0}
    assert len(wanted) >= 5
    equal({(row["Name"], row["Type"].removeprefix("BPF_PROG_TYPE_")) for row in rows}, wanted)
    for row in rows:
        assert any(name.startswith(f"bpf_prog_{row['Tag']}_") for name in truth.symbols), f"{row['Tag']} is no tag"


def check_system_calls(rows: Rows, truth: Truth) -> None:
    """Each entry's function; the one that the hidden module put there is nobody's."""
    table = {row["Index"]: row for row in rows if row["Table Name"] == "64bit"}
    assert sorted(table) == list(range(len(table)))
    assert len(table) >= MIN_SYSTEM_CALLS, f"lists {len(table)} system calls"
    replaced = table.pop(USELIB)
    assert low(replaced["Handler Address"]) == low(truth.facts["labrootkit.call"])
    assert replaced["Handler Symbol"] == "UNKNOWN", f"calls the replaced one {replaced['Handler Symbol']}"
    for row in table.values():
        addresses = truth.symbols[row["Handler Symbol"]]
        assert low(row["Handler Address"]) in addresses, f"{row['Handler Symbol']} is no such function"


def check_mounts(rows: Rows, truth: Truth) -> None:
    """All mounts of both mount namespaces; /proc leaves out those that nobody can reach."""
    found_in = re.findall(r"^/proc/(\d+)/mountinfo:(.*)$", truth.text("mountinfo"), re.MULTILINE)
    wanted = set()
    for pid, line in found_in:
        number, parent, device, root, point, _, *rest = line.split()
        kind, source, _ = rest[rest.index("-") + 1 :]
        wanted.add(
            (truth.namespaces.get((int(pid), "mnt")), int(number), int(parent), device, root, point, kind, source)
        )
    wanted = {mount for mount in wanted if mount[0]}
    assert len({mount[0] for mount in wanted}) >= 2
    names = ("MNT_NS_ID", "MOUNT ID", "PARENT_ID", "MAJOR:MINOR", "ROOT", "MOUNT_POINT", "FSTYPE", "MOUNT_SRC")
    found = {tuple(row[name] for name in names) for row in rows}
    equal({mount for mount in found if mount in wanted or mount[5] != "/"}, wanted)


def check_boot_time(rows: Rows, truth: Truth) -> None:
    """The second of /proc/stat."""
    seconds = {round(datetime.fromisoformat(row["Boot Time"]).timestamp()) for row in rows}
    (wanted,) = (int(line.split()[1]) for line in truth.text("stat").splitlines() if line.startswith("btime "))
    assert all(abs(second - wanted) <= 1 for second in seconds), f"{seconds}, not {wanted}"
