"""QEMU's monitor: what it prints, ways to the memory, and servers that are no QEMU."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kallsift
from kallsift.errors import SourceError
from kallsift.memory.live import connection, hmp
from kallsift.memory.live.hmp import Ram
from tests.memory.live.servers import GREETING, qemu, repeating, saying, serving

MAP = """FlatView #0
 AS "cpu-smm-0", root: memory
 Root memory region: memory
  0000000000000000-00000000000bffff (prio 0, ram): pc.ram

FlatView #1
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000000000-000000000009ffff (prio 0, ram): pc.ram KVM
  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem
  00000000000c0000-00000000000c3fff (prio 0, rom): pc.ram @00000000000c0000 KVM
  00000000000c4000-00000000000fffff (prio 0, ram): pc.ram @00000000000c4000 KVM
  0000000000100000-0000000012bfffff (prio 0, ram): pc.ram @0000000000100000
  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios

FlatView #2
 AS "I/O", root: io
  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan
"""

REGISTERS = """
CPU#0
RAX=0000000000000000 RBX=0000000000000000 RCX=ffffffffb3a11140 RDX=0000000000000000
RIP=ffffffffb2aae79f RFL=00000282 [--S----] CPL=0 II=0 A20=1 SMM=0 HLT=1
GS =0000 ffff8d11aa5f4000 00000000 00000000
GDT=     fffffe0a1c6c7000 0000007f
IDT=     fffffe0000000000 00000fff
CR0=80050033 CR2=00000000005794a9 CR3=0000000005eb0000 CR4=00750ef0

CPU#1
 PC=ffffacf18cb3bec8 X00=00000000000080c4 X01=fff000001fcc5648
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection.Connection.__init__, "__defaults__", (0.5,))


def test_the_processors_view_of_memory_counts() -> None:
    assert hmp.ram(MAP) == [Ram(0, 0xA0000, "pc.ram", 0), Ram(0xC0000, 0x12B40000, "pc.ram", 0xC0000)]


def test_registers_of_all_processors() -> None:
    first, second = hmp.processors(REGISTERS)
    assert (first.number, second.number) == (0, 1)
    assert first.registers == {
        "rip": 0xFFFFFFFFB2AAE79F,
        "gs_base": 0xFFFF8D11AA5F4000,
        "gdt_base": 0xFFFFFE0A1C6C7000,
        "idt_base": 0xFFFFFE0000000000,
        "cr0": 0x80050033,
        "cr3": 0x5EB0000,
        "cr4": 0x750EF0,
    }
    assert second.registers == {"pc": 0xFFFFACF18CB3BEC8}
    (only,) = hmp.processors("RIP=ffffffffb2aae79f RFL=0\n")
    assert only.registers == {"rip": 0xFFFFFFFFB2AAE79F}
    assert hmp.processors("unknown command") == ()


def flat(start: int, size: int, region: str, offset: int = 0) -> str:
    rows = f"  {start:016x}-{start + size - 1:016x} (prio 0, ram): {region} @{offset:016x}\n"
    return f'FlatView #0\n AS "memory", root: system\n{rows}'


@pytest.fixture
def content() -> bytes:
    return np.random.default_rng(4).integers(0, 256, 3 << 20, np.uint8).tobytes()


def test_a_shared_memory_file_is_mapped(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ram").write_bytes(bytes(8192) + content)
    objects = {"mem-path": str(tmp_path / "ram"), "offset": 4096}
    answers: dict[str, Any] = {
        "qmp_capabilities": {},
        "info mtree": flat(0x10000, len(content), "ram0", 4096),
        "info registers": REGISTERS,
        "query-memdev": [{"id": "other", "share": False}, {"id": "ram0", "share": True}, 7, {"share": True}],
        "qom-get": lambda arguments: objects[arguments["property"]],
    }
    with serving(tmp_path / "qmp", qemu(answers)) as path, kallsift.open(f"qemu:{path}") as memory:
        assert memory.container == "QEMU guest (memory file)"
        assert len(memory.hints.cpus) == 2
        (segment,) = memory.segments
        assert (segment.start, segment.read().tobytes()) == (0x10000, content)


def test_memory_of_the_process_is_read(tmp_path: Path, content: bytes) -> None:
    """This process plays QEMU."""
    held = np.frombuffer(content, np.uint8).copy()
    answers: dict[str, Any] = {
        "qmp_capabilities": {},
        "info mtree": flat(0, len(content), "pc.ram"),
        "info registers": "",
        "query-memdev": [],
        "gpa2hva 0x0": f"Host virtual address for 0x0 (pc.ram) is {held.ctypes.data:#x}\r\n",
    }
    with serving(tmp_path / "qmp", qemu(answers)) as path, kallsift.open(f"qemu:{path}") as memory:
        assert memory.container == "QEMU guest (process memory)"
        assert memory.read(0, len(content)).tobytes() == content
        held[5] ^= 0xFF
        assert memory.refreshed is not None
        assert memory.refreshed().read(5, 1)[0] == held[5]
        again = memory.refreshed()
    # the number of the closed file can be another file's by now
    with (tmp_path / "other").open("wb+"), pytest.raises(SourceError, match="is closed; open it again"):
        again.read(0, 1)


def test_what_qemu_saves_is_the_last_way(tmp_path: Path, content: bytes) -> None:
    files: list[Path] = []

    def save(arguments: dict[str, Any]) -> dict[str, Any]:
        files.append(Path(arguments["filename"]))
        files[-1].write_bytes(content[arguments["val"] :][: arguments["size"]])
        return {}

    answers: dict[str, Any] = {
        "qmp_capabilities": {},
        "info mtree": flat(0, len(content), "pc.ram"),
        "info registers": "",
        "query-memdev": [],
        "gpa2hva 0x0": "Host virtual address for 0x0 (pc.ram) is 0x10000\r\n",
        "pmemsave": save,
    }
    with serving(tmp_path / "qmp", qemu(answers)) as path, kallsift.open(f"qemu:{path}") as memory:
        assert memory.container == "QEMU guest (pmemsave)"
        assert memory.read(0, len(content)).tobytes() == content
        assert not files[0].parent.exists()


@pytest.mark.parametrize("running", [True, False])
def test_a_paused_guest_goes_on_if_it_ran(tmp_path: Path, running: bool) -> None:
    done: list[str] = []

    def record(name: str) -> Callable[[object], dict[str, Any]]:
        def recorded(_: object) -> dict[str, Any]:
            done.append(name)
            return {}

        return recorded

    (tmp_path / "ram").write_bytes(bytes(4096))
    answers: dict[str, Any] = {
        "qmp_capabilities": {},
        "query-status": {"running": running},
        "stop": record("stop"),
        "cont": record("cont"),
        "info mtree": flat(0, 4096, "ram0"),
        "info registers": "",
        "query-memdev": [{"id": "ram0", "share": True}],
        "qom-get": lambda arguments: str(tmp_path / "ram") if arguments["property"] == "mem-path" else None,
    }
    with serving(tmp_path / "qmp", qemu(answers)) as path:
        memory = kallsift.open(f"qemu:{path}", pause=True)
        assert done == (["stop"] if running else [])
        memory.close()
        assert done == (["stop", "cont"] if running else [])


def refusal(source: str, **how: Any) -> str:
    started = time.monotonic()
    with pytest.raises(SourceError) as caught:
        kallsift.open(source, **how)
    assert time.monotonic() - started < 20
    text = str(caught.value)
    assert text.isprintable()
    return text


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"", "does not answer"),
        (b"SSH-2.0-OpenSSH\r\n", "sends no JSON"),
        (b"[1]\n", "is not an answer"),
        (b"{}\n", "is not QEMU's machine protocol"),
        (b"[" * 100_000 + b"\n", "sends no JSON"),
        (GREETING, "does not answer"),
        (GREETING + b'{"error": "x\x1b"}\n', "sends no JSON"),
        (GREETING + b'{"error": {"desc": "x\\u001b[2J"}}\n', "QEMU refuses qmp_capabilities (x\\x1b[2J)"),
        (GREETING + b'{"return": {}}\n{"return": 5}\n', "returns no text"),
        (GREETING + b'{"return": {}}\n{"return": "no such command"}\n', "QEMU shows no RAM"),
    ],
)
def test_others_are_refused(tmp_path: Path, said: bytes, reason: str) -> None:
    with serving(tmp_path / "qmp", saying(said)) as path:
        assert reason in refusal(f"qemu:{path}")


@pytest.mark.parametrize(
    ("said", "reason"),
    [(b"x" * 65536, "a line of over 16 MiB"), (GREETING, "does not answer"), (b"", "does not answer")],
)
def test_those_who_never_end_are_refused(tmp_path: Path, said: bytes, reason: str) -> None:
    with serving(tmp_path / "qmp", repeating(said) if said else saying(b"")) as path:
        assert reason in refusal(f"qemu:{path}")


def test_a_guest_whose_memory_nothing_reaches(tmp_path: Path) -> None:
    answers: dict[str, Any] = {
        "qmp_capabilities": {},
        "info mtree": flat(0, 4096, "pc.ram"),
        "info registers": "",
        "gpa2hva 0x0": "No memory is mapped at address 0x0",
    }
    with serving(tmp_path / "qmp", qemu(answers)) as path:
        text = refusal(f"qemu:{path}")
    assert "QEMU refuses query-memdev" in text
    assert "does not hold the guest's memory" in text
    assert "QEMU refuses pmemsave" in text


def test_a_guest_with_more_memory_than_room(tmp_path: Path) -> None:
    answers: dict[str, Any] = {
        "qmp_capabilities": {},
        "info mtree": flat(0, 1 << 50, "pc.ram"),
        "info registers": "",
        "query-memdev": [],
        "gpa2hva 0x0": "Host virtual address for 0x0 (pc.ram) is 0x10000",
    }
    with serving(tmp_path / "qmp", qemu(answers)) as path:
        assert "needs more space" in refusal(f"qemu:{path}")


def test_nobody_listens(tmp_path: Path) -> None:
    assert "the connection failed" in refusal(f"qemu:{tmp_path}/none")
    assert "the connection failed" in refusal("qemu:127.0.0.1:1")
    assert "the connection failed" in refusal("qemu:127.0.0.1:99999")
    assert "the connection failed" in refusal("qemu:" + "x" * 500)


def test_only_guests_can_be_paused(tmp_path: Path) -> None:
    (tmp_path / "dump").write_bytes(bytes(4096))
    assert "only a QEMU guest" in refusal(str(tmp_path / "dump"), pause=True)
