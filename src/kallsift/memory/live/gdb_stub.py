"""The memory of a machine behind a GDB stub: fetched as it is asked for, in as few packets as possible.

Packets: GDB's manual, appendix E; those of QEMU's own (physical memory, the monitor's commands), QEMU,
docs/system/gdb.rst and gdbstub.c. Attaching stops the machine; it goes on when the memory is closed.
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
from kallsift.memory.on_demand import Fetched

MOST_READ = 96 << 20
"""Bytes that are read at most; the tables of a kernel and all around them are less than half of it."""

SMALLEST, LARGEST = 128, 1 << 16
"""Bytes of a packet: where the stub does not say, and at most."""

MOST_TEXT = 1 << 20
"""Characters of a description or of a monitor's answer at most."""
MOST_PARTS = 1 << 12
"""Packets that either comes in at most."""
PATIENCE = 60.0
"""Seconds that a stub has for saying what it is."""

ADVICE = "if it was interrupted in a user's program, let it run on and try again, or give --lstar, --idt or --vbar"


class Stub:
    """A stub, attached."""

    def __init__(self, connection: Connection) -> None:
        """Asks what it can do.

        Raises:
            SourceError: if it does not answer as a stub does.
        """
        self.name = connection.name
        self.packets = Packets(connection)
        supported = self.packets.ask(b"qSupported:xmlRegisters=i386,arm,aarch64")
        size = re.search(rb"PacketSize=([0-9a-fA-F]{1,8})(?:;|$)", supported)
        # an answer has two digits for each byte
        self.at_once = min(max(int(size[1], 16) if size else 0, SMALLEST), LARGEST) // 2
        self._features = b"qXfer:features:read+" in supported
        mode = self.packets.ask(b"qqemu.PhyMemMode")
        self.of_qemu = mode in (b"0", b"1")
        self._before = self._physical = mode == b"1"
        self.bytes_read = 0
        self._parts, self._deadline = 0, time.monotonic() + PATIENCE

    def read(self, address: int, size: int, physical: bool = False) -> bytes | None:
        """Some bytes; None if any of them is not mapped.

        Raises:
            SourceError: if more was asked for than the tables of any kernel take, or the stub fails.
        """
        self._see(physical)
        data = b""
        while len(data) < size:
            wanted = min(size - len(data), self.at_once)
            answer = self.packets.ask(b"m%x,%x" % (address + len(data), wanted))
            if not answer:
                raise SourceError(f"{self.name}: does not read memory; is this the stub of a machine?")
            if answer[:1] == b"E":
                return None
            try:
                part = bytes.fromhex(answer.decode("ascii"))
            except ValueError as error:
                raise SourceError(f"{self.name}: answers with something that is no memory; try again") from error
            if not part or len(part) > wanted:
                return None
            data += part
            self.bytes_read += len(part)
            if self.bytes_read > MOST_READ:
                advice = "give another address in the kernel, e.g. by --lstar"
                raise SourceError(f"{self.name}: over {MOST_READ >> 20} MiB were read without an end; {advice}")
        return data

    def hints(self) -> Hints:
        """The processors' registers: what QEMU's monitor prints, and the first one's as the stub has them."""
        cpus = list(hmp.processors(self.command("info registers -a")))
        first = self._registers()
        if first:
            number, known = (cpus[0].number, cpus[0].registers) if cpus else (0, {})
            cpus[:1] = [CpuState(number, {**first, **known})]
        return Hints(tuple(cpus))

    def command(self, line: str) -> str:
        """What the monitor behind the stub prints; nothing where it has none."""
        answer = self.packets.ask(b"qRcmd," + line.encode().hex().encode())
        text = b""
        deadline = time.monotonic() + PATIENCE
        # output comes in packets of its own; then OK
        for _ in range(MOST_PARTS):
            if answer[:1] != b"O" or answer == b"OK" or len(text) > MOST_TEXT or time.monotonic() > deadline:
                break
            with contextlib.suppress(ValueError):
                text += bytes.fromhex(answer[1:].decode("ascii", "replace"))
            answer = self.packets.answer()
        return text.decode("ascii", "replace").replace("\r\n", "\n")

    def detach(self) -> None:
        """Lets the machine go on, unless it was never started."""
        with contextlib.suppress(SourceError):
            self._see(self._before)
            if self.of_qemu and "prelaunch" in self.command("info status"):
                return
            self.packets.ask(b"D")

    def _see(self, physical: bool) -> None:
        """Makes addresses physical or virtual ones, which only QEMU can."""
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
        """A file of the target's description."""
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
    """The value in the answer to ``g`` or ``p``: nothing for an error, zeros for what is not available."""
    if answer[:1] == b"E":
        return b""
    try:
        return bytes.fromhex(answer.decode("ascii", "replace").replace("x", "0"))
    except ValueError:
        return b""


def open(name: str, where: str) -> Memory:
    """The virtual memory of the machine behind a stub, and its physical memory where the stub gives that.

    Args:
        name: the source as messages call it.
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
            Fetched(
                lambda address, size: stub.read(address, size, True),
                source=name,
                space=AddressSpace.PHYSICAL,
                hints=hints,
            )
            if stub.of_qemu
            else None
        )
        fetched = Fetched(stub.read, source=name, hints=hints, physical=physical, advice=ADVICE)
        return Memory(
            source=name,
            container="GDB stub",
            space=AddressSpace.VIRTUAL,
            segments=(),
            hints=hints,
            release=opened.pop_all().close,
            fetched=fetched,
        )
