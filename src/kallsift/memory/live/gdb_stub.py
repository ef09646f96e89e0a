"""Read the memory of a machine behind a GDB stub, on demand and in as few packets as possible.

Packets: GDB's manual, appendix E; QEMU's own packets (physical memory, the monitor's commands), QEMU,
docs/system/gdb.rst and gdbstub.c. Attaching stops the machine; it continues when the memory is closed.
"""

from __future__ import annotations

import contextlib
import re
import time
from typing import Literal, cast

from kallsift.errors import SourceError
from kallsift.memory.live import gdb_target, hmp
from kallsift.memory.live.connection import Connection
from kallsift.memory.live.gdb_packets import Packets
from kallsift.memory.memory import AddressSpace, CpuState, Hints, Memory
from kallsift.memory.on_demand import OnDemandMemory

MOST_READ = 96 << 20
"""Highest number of bytes that are read; a kernel's tables and everything around them are less than half of it."""

SMALLEST, LARGEST = 128, 1 << 16
"""Size of a packet in bytes if the stub does not tell it, and highest size."""

MOST_TEXT = 1 << 20
"""Highest number of characters of a description or of a monitor's answer."""
MOST_PARTS = 1 << 12
"""Highest number of packets of a description or of a monitor's answer."""
PATIENCE = 60.0
"""Time in seconds in which a stub must describe itself."""

ADVICE = "if the machine was stopped in a user program, let it run on and try again, or give --lstar, --idt or --vbar"


class Stub:
    """A stub to which this program is attached."""

    def __init__(self, connection: Connection) -> None:
        """Request the stub's features.

        Raises:
            SourceError: if it does not answer as a stub does.
        """
        self.name = connection.name
        self.packets = Packets(connection)
        supported = self.packets.ask(b"qSupported:xmlRegisters=i386,arm,aarch64")
        size = re.search(rb"PacketSize=([0-9a-fA-F]{1,8})(?:;|$)", supported)
        # an answer has two hexadecimal digits for each byte
        self.at_once = min(max(int(size[1], 16) if size else 0, SMALLEST), LARGEST) // 2
        self._features = b"qXfer:features:read+" in supported
        mode = self.packets.ask(b"qqemu.PhyMemMode")
        self.of_qemu = mode in (b"0", b"1")
        self._before = self._physical = mode == b"1"
        self.bytes_read = 0
        self._parts, self._deadline = 0, time.monotonic() + PATIENCE

    def read(self, address: int, size: int, physical: bool = False) -> bytes | None:
        """Return bytes of memory; None if any of them is not mapped.

        Raises:
            SourceError: if more is read than the tables of any kernel take, or the stub fails.
        """
        self._see(physical)
        data = b""
        while len(data) < size:
            wanted = min(size - len(data), self.at_once)
            answer = self.packets.ask(b"m%x,%x" % (address + len(data), wanted))
            if not answer:
                raise SourceError(f"{self.name}: does not read memory; name the stub of a machine, not of a program")
            if answer[:1] == b"E":
                return None
            try:
                part = bytes.fromhex(answer.decode("ascii"))
            except ValueError as error:
                raise SourceError(f"{self.name}: answers without memory bytes; try again") from error
            if not part or len(part) > wanted:
                return None
            data += part
            self.bytes_read += len(part)
            if self.bytes_read > MOST_READ:
                advice = "give another address in the kernel, e.g. by --lstar"
                raise SourceError(
                    f"{self.name}: over {MOST_READ >> 20} MiB were read without finding the kernel; {advice}"
                )
        return data

    def hints(self) -> Hints:
        """Return the processors' registers.

        They come from QEMU's monitor, and for the first processor also from the stub.
        """
        cpus = list(hmp.processors(self.command("info registers -a")))
        first = self._registers()
        if first:
            number, known = (cpus[0].number, cpus[0].registers) if cpus else (0, {})
            cpus[:1] = [CpuState(number, {**first, **known})]
        return Hints(tuple(cpus))

    def command(self, line: str) -> str:
        """Return the output of a command of the monitor; empty if there is no monitor."""
        answer = self.packets.ask(b"qRcmd," + line.encode().hex().encode())
        text = b""
        deadline = time.monotonic() + PATIENCE
        # output comes in separate packets, and OK ends it
        for _ in range(MOST_PARTS):
            if answer[:1] != b"O" or answer == b"OK" or len(text) > MOST_TEXT or time.monotonic() > deadline:
                break
            with contextlib.suppress(ValueError):
                text += bytes.fromhex(answer[1:].decode("ascii", "replace"))
            answer = self.packets.answer()
        return text.decode("ascii", "replace").replace("\r\n", "\n")

    def detach(self) -> None:
        """Let the machine continue, unless it was never started."""
        with contextlib.suppress(SourceError):
            self._see(self._before)
            if self.of_qemu and "prelaunch" in self.command("info status"):
                return
            self.packets.ask(b"D")

    def _see(self, physical: bool) -> None:
        """Select physical or virtual addresses; only QEMU has physical ones."""
        if physical != self._physical:
            if self.packets.ask(b"Qqemu.PhyMemMode:%d" % physical) != b"OK":
                raise SourceError(f"{self.name}: cannot read physical memory")
            self._physical = physical

    def _registers(self) -> dict[str, int]:
        target = gdb_target.described(self._feature) if self._features else None
        if not target or not target.registers:
            words = _bytes(self.packets.ask(b"g"))
            places = {name: words[8 * number :][:8] for name, number in gdb_target.GENERAL.items()}
            return {name: int.from_bytes(word, "little") for name, word in places.items() if len(word) == 8}
        order = cast(Literal["little", "big"], target.byte_order)
        general: bytes | None = None
        found: dict[str, int] = {}
        for name, register in target.registers.items():
            value = _bytes(self.packets.ask(b"p%x" % register.number))
            if not value:
                general = _bytes(self.packets.ask(b"g")) if general is None else general
                value = general[register.offset :][: register.size]
            if len(value) == register.size:
                found[name] = int.from_bytes(value, order)
        return found

    def _feature(self, part: str) -> str | None:
        """Return a file of the target's description; None if it cannot be read."""
        if not re.fullmatch(r"[\w.-]{1,64}", part):
            return None
        text = ""
        while len(text) < MOST_TEXT and self._parts < MOST_PARTS and time.monotonic() < self._deadline:
            self._parts += 1
            request = f"qXfer:features:read:{part}:{len(text):x},{self.at_once * 2 - 8:x}"
            answer = self.packets.ask(request.encode()).decode("latin-1")
            text += answer[1:]
            if answer[:1] != "m" or len(answer) == 1:
                return text if answer[:1] in ("l", "m") else None
        return None


def _bytes(answer: bytes) -> bytes:
    """Return the value in the answer to ``g`` or ``p``.

    It is empty for an error; unavailable bytes are zero.
    """
    if answer[:1] == b"E":
        return b""
    try:
        return bytes.fromhex(answer.decode("ascii", "replace").replace("x", "0"))
    except ValueError:
        return b""


def open(name: str, where: str) -> Memory:
    """Open the virtual memory of the machine behind a stub.

    Its physical memory can be read too if the stub is QEMU's.

    Args:
        name: name of the source in messages.
        where: ``HOST:PORT``, or the path of a Unix socket.

    Raises:
        SourceError: if no stub answers there.
    """
    with contextlib.ExitStack() as opened:
        connection = Connection(name, where)
        opened.callback(connection.close)
        stub = Stub(connection)
        opened.callback(stub.detach)
        hints = stub.hints()
        physical = (
            OnDemandMemory(
                lambda address, size: stub.read(address, size, True),
                source=name,
                space=AddressSpace.PHYSICAL,
                hints=hints,
            )
            if stub.of_qemu
            else None
        )
        fetched = OnDemandMemory(stub.read, source=name, hints=hints, physical=physical, advice=ADVICE)
        return Memory(
            source=name,
            container="GDB stub",
            space=AddressSpace.VIRTUAL,
            segments=(),
            hints=hints,
            release=opened.pop_all().close,
            fetched=fetched,
        )
