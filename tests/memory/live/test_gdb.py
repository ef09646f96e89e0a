"""The GDB remote protocol: what a stub says, and stubs that say anything else."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

import kallsift
from kallsift.errors import SourceError
from kallsift.memory.live import connection, gdb_stub
from kallsift.memory.memory import AddressSpace, Memory
from kallsift.memory.on_demand import OnDemandMemory
from tests.memory.live.servers import frame, repeating, saying, serving, stub

CONTENT = bytes(range(256)) * 64
BASE = 0xFFFF_FFFF_8100_0000

TARGET = b"""<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd">
<target><architecture>i386:x86-64</architecture>
<xi:include href="core.xml"/><xi:include href="../../etc/passwd"/><xi:include href="system.xml"/></target>"""
CORE = b"<feature>" + b'<reg name="r%d" bitsize="64" type="int64"/>' * 16 + b'<reg name="rip" bitsize="64"/></feature>'
SYSTEM = b"""<feature><reg name="cr3" bitsize="64" regnum="40"/><reg name='VBAR_EL1' bitsize="64"/></feature>"""

Answer = Callable[[bytes], "bytes | list[bytes]"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection.Connection.__init__, "__defaults__", (0.5,))


class Machine:
    """A stub with some memory; remembers the packets."""

    def __init__(self, **answers: bytes | list[bytes]) -> None:
        self.packets: list[bytes] = []
        self.answers = {name.encode(): answer for name, answer in answers.items()}
        self.files: dict[bytes, bytes] = {}

    def answer(self, packet: bytes) -> bytes | list[bytes]:
        self.packets.append(packet)
        for name, answer in self.answers.items():
            if packet.startswith(name):
                return answer
        if packet.startswith(b"qSupported"):
            return b"PacketSize=400;qXfer:features:read+" if self.files else b"PacketSize=400"
        if packet.startswith(b"qXfer:features:read:"):
            _, _, _, name, place = packet.split(b":")
            start, size = (int(number, 16) for number in place.split(b","))
            part = self.files.get(name, b"")[start : start + min(size, 50)]
            return (b"m" + part) if part else b"l"
        if packet.startswith(b"m"):
            address, size = (int(number, 16) for number in packet[1:].split(b","))
            offset = address - BASE
            found = CONTENT[offset : offset + size] if 0 <= offset < len(CONTENT) else b""
            return found.hex().encode() or b"E14"
        return b""


def fetched(memory: Memory) -> OnDemandMemory:
    assert memory.fetched is not None
    return memory.fetched


def test_memory_comes_in_packets_as_large_as_may_be(tmp_path: Path) -> None:
    machine = Machine(D=b"OK")
    with serving(tmp_path / "gdb", stub(machine.answer)) as path, kallsift.open(f"gdb:{path}") as memory:
        assert (memory.space, memory.segments) == (AddressSpace.VIRTUAL, ())
        assert fetched(memory).bytes_at(BASE + 4090, 20).tobytes() == CONTENT[4090:4110]
        with pytest.raises(kallsift.UnmappedError):
            fetched(memory).bytes_at(BASE - 1, 2)
    with pytest.raises(SourceError, match="is closed; open it again"):
        fetched(memory).bytes_at(BASE + 8192, 1)
    reads = [packet for packet in machine.packets if packet.startswith(b"m")]
    assert reads[0] == b"mffffffff81000000,200"
    assert len(reads) < 2 * 4096 * 2 // 1024 + 8
    assert machine.packets[-1] == b"D"


def test_registers_as_described(tmp_path: Path) -> None:
    values = {b"p10": BASE, b"p28": 0x1234000, b"p29": BASE + 1}
    machine = Machine()
    machine.files = {b"target.xml": TARGET, b"core.xml": CORE, b"system.xml": SYSTEM}
    machine.answers = {packet: value.to_bytes(8, "little").hex().encode() for packet, value in values.items()}
    with serving(tmp_path / "gdb", stub(machine.answer)) as path, kallsift.open(f"gdb:{path}") as memory:
        (cpu,) = memory.hints.cpus
    assert cpu.registers == {"rip": BASE, "cr3": 0x1234000, "vbar": BASE + 1}
    assert not any(b"passwd" in packet for packet in machine.packets)


def test_registers_in_a_row(tmp_path: Path) -> None:
    """Where the stub describes none; of some the value is not available."""
    general = b"xx" + b"0" * 254 + BASE.to_bytes(8, "little").hex().encode()
    machine = Machine(g=general)
    with serving(tmp_path / "gdb", stub(machine.answer)) as path, kallsift.open(f"gdb:{path}") as memory:
        assert memory.hints.cpus[0].registers == {"rip": BASE}


def test_runs_and_escapes_are_undone(tmp_path: Path) -> None:
    runs = b"0" + b"*" + bytes([29 + 97]) + b"0*" + bytes([29 + 97]) + b"0*" + bytes([29 + 59]) + b"}\x11"
    machine = Machine(m=[b"%noise#00", frame(b"T05thread:01;"), frame(runs)])
    with serving(tmp_path / "gdb", stub(machine.answer)) as path:
        packets = gdb_stub.Stub(connection.Connection("test", path)).packets
        assert packets.ask(b"m0,80") == b"0" * 256 + b"1"


def test_what_the_monitor_prints(tmp_path: Path) -> None:
    text = b"RIP=ffffffff81000001 RFL=0\r\nIDT=     fffffe0000000000 00000fff\n"
    parts = [frame(b"O" + text[:9].hex().encode()), frame(b"O" + text[9:].hex().encode()), frame(b"OK")]
    machine = Machine(qRcmd=parts)
    with serving(tmp_path / "gdb", stub(machine.answer)) as path, kallsift.open(f"gdb:{path}") as memory:
        assert memory.hints.cpus[0].registers == {"rip": BASE + 1, "idt_base": 0xFFFFFE0000000000}


def test_physical_memory_is_left_as_it_was(tmp_path: Path) -> None:
    machine = Machine(qqemu=b"1", Qqemu=b"OK", D=b"OK")
    with serving(tmp_path / "gdb", stub(machine.answer)) as path, kallsift.open(f"gdb:{path}") as memory:
        fetched(memory).bytes_at(BASE, 16)
        assert fetched(memory).physical is not None
    modes = [packet for packet in machine.packets if packet.startswith(b"Qqemu")]
    assert modes == [b"Qqemu.PhyMemMode:0", b"Qqemu.PhyMemMode:1"]


def test_a_machine_that_was_never_started_is_not(tmp_path: Path) -> None:
    status = b"VM status: paused (prelaunch)\r\n".hex().encode()
    machine = Machine(qqemu=b"0", qRcmd=[frame(b"O" + status), frame(b"OK")])
    with serving(tmp_path / "gdb", stub(machine.answer)) as path:
        kallsift.open(f"gdb:{path}").close()
    assert b"D" not in machine.packets


def test_a_damaged_answer_is_asked_for_again(tmp_path: Path) -> None:
    machine = Machine(m=[b"$00#00", frame(CONTENT[:512].hex().encode())])
    with serving(tmp_path / "gdb", stub(machine.answer)) as path:
        assert gdb_stub.Stub(connection.Connection("test", path)).read(0, 512) == CONTENT[:512]


def refusal(action: Callable[[], object]) -> str:
    started = time.monotonic()
    with pytest.raises(SourceError) as caught:
        action()
    assert time.monotonic() - started < 20
    text = str(caught.value)
    assert text.isprintable()
    return text


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"", "does not answer"),
        (b"+", "does not answer"),
        (b"+$PacketSize=10", "does not answer"),
        (b"+$OK#", "does not answer"),
        (b"+" + b"$OK#00" * 3, "arrive damaged"),
        (b"+$" + b"x" * (1 << 18), "a packet of over"),
        (b"+" + frame(b"0" + b"*\x7e" * 20_000), "a packet of over"),
    ],
)
def test_others_are_refused(tmp_path: Path, said: bytes, reason: str) -> None:
    with serving(tmp_path / "gdb", saying(said)) as path:
        assert reason in refusal(lambda: kallsift.open(f"gdb:{path}"))


@pytest.mark.parametrize("said", [b"+" * 65536, b"%x#00" * 9999, frame(b"T05") * 9999, frame(b"") * 999, b"$#00" * 99])
def test_those_who_never_end_are_refused(tmp_path: Path, said: bytes) -> None:
    """A stub that answers whatever is asked with nothing is one that can nothing; it fails when memory is read."""

    def read() -> None:
        with kallsift.open(f"gdb:{path}") as memory:
            fetched(memory).bytes_at(BASE, 16)

    with serving(tmp_path / "gdb", repeating(said)) as path:
        assert refusal(read)


@pytest.mark.parametrize("answer", [b"zz", b"0", b"", b"00" * 4000, b"E01"])
def test_answers_that_are_no_memory(tmp_path: Path, answer: bytes) -> None:
    machine = Machine(m=answer)
    with serving(tmp_path / "gdb", stub(machine.answer)) as path, kallsift.open(f"gdb:{path}") as memory:
        with pytest.raises(kallsift.KallsiftError) as caught:
            fetched(memory).bytes_at(BASE, 16)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text", [b'<reg name="rip" bitsize="64" regnum="%s"/>' % (b"9" * 5000), b"<reg " * 9000, b"\xff"]
)
def test_hostile_descriptions(tmp_path: Path, text: bytes) -> None:
    machine = Machine()
    machine.files = {b"target.xml": text + b'<xi:include href="target.xml"/>'}
    started = time.monotonic()
    with serving(tmp_path / "gdb", stub(machine.answer)) as path, kallsift.open(f"gdb:{path}"):
        pass
    assert time.monotonic() - started < 20


def test_more_than_any_kernel_takes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gdb_stub, "MOST_READ", 8192)
    with serving(tmp_path / "gdb", stub(Machine().answer)) as path, kallsift.open(f"gdb:{path}") as memory:
        text = refusal(lambda: fetched(memory).bytes_at(BASE, 16384))
    assert "give another address" in text


def test_nothing_found_says_what_to_do(tmp_path: Path) -> None:
    general = (bytes(16 * 8) + BASE.to_bytes(8, "little")).hex().encode()
    with (
        serving(tmp_path / "gdb", stub(Machine(g=general).answer)) as path,
        kallsift.open(f"gdb:{path}") as memory,
        pytest.raises(kallsift.RecoveryError, match="let it run on and try again") as caught,
    ):
        kallsift.recover(memory)
    assert str(caught.value).isprintable()
