"""Exchange packets of the GDB remote serial protocol: framed, checked, expanded, each answer within a deadline.

Protocol: GDB's manual, appendix E, "Overview" (frames, escapes, run lengths, acknowledgements) and "Notification
Packets".
"""

from __future__ import annotations

import re

from kallsift.errors import SourceError
from kallsift.memory.live.connection import Connection

LARGEST = 1 << 17
"""Highest size of an expanded answer in bytes; stubs announce some thousand."""

MOST_NOISE = 1 << 20
"""Highest number of bytes between answers."""

TRIES = 3
"""Number of attempts for an answer that arrives damaged."""

_STOPPED = re.compile(rb"[TS][0-9a-f]{2}")
_ESCAPE, _RUN = ord("}"), ord("*")


class Packets:
    """The exchange of packets with a stub.

    Attributes:
        count: number of packets that were sent.
    """

    def __init__(self, connection: Connection) -> None:
        """Create an exchange in which nothing is sent yet."""
        self.connection = connection
        self.name = connection.name
        self.count = 0
        self._rest = b""

    def ask(self, packet: bytes, timeout: float | None = None) -> bytes:
        """Send a packet, and return the answer; empty if the stub does not know it.

        Raises:
            SourceError: if no whole answer comes in time.
        """
        self.send(packet)
        return self.answer(timeout)

    def send(self, packet: bytes) -> None:
        """Send a packet."""
        self.count += 1
        self.connection.send(b"$%s#%02x" % (packet, sum(packet) & 0xFF))

    def answer(self, timeout: float | None = None) -> bytes:
        """Return the next answer.

        Reports that the machine has stopped are ignored, because nothing here requests them.
        """
        deadline = self.connection.deadline(timeout)
        damaged = 0
        while damaged < TRIES:
            content = self._frame(deadline)
            if content is None:
                damaged += 1
                self.connection.send(b"-")
                continue
            self.connection.send(b"+")
            if not _STOPPED.match(content):
                return content
        raise SourceError(f"{self.name}: its answers arrive damaged; check that a GDB stub listens there")

    def _frame(self, deadline: float) -> bytes | None:
        """Return the contents of the next frame; None if its checksum is wrong."""
        noise = 0
        while True:
            mark = self._until(deadline, b"$%")
            noise += len(mark)
            if noise > MOST_NOISE:
                raise SourceError(f"{self.name}: sends data that are no answer; check that a GDB stub listens there")
            content = self._until(deadline, b"#")[:-1]
            while len(self._rest) < 2:
                self._rest += self.connection.receive(deadline)
            checksum, self._rest = self._rest[:2], self._rest[2:]
            if mark[-1:] == b"%":
                noise += len(content)
                continue
            return self._expanded(content) if checksum.lower() == b"%02x" % (sum(content) & 0xFF) else None

    def _until(self, deadline: float, marks: bytes) -> bytes:
        """Return the bytes up to the first of some marks, with the mark."""
        pattern = re.compile(b"[" + re.escape(marks) + b"]")
        searched = 0
        while not (match := pattern.search(self._rest, searched)):
            searched = len(self._rest)
            if searched > LARGEST:
                raise SourceError(
                    f"{self.name}: sends a packet of over {LARGEST:,} bytes; check that a GDB stub listens there"
                )
            self._rest += self.connection.receive(deadline)
        found, self._rest = self._rest[: match.end()], self._rest[match.end() :]
        return found

    def _expanded(self, content: bytes) -> bytes:
        """Return the contents without escapes and run lengths."""
        if _ESCAPE not in content and _RUN not in content:
            return content
        result = bytearray()
        position = 0
        while position < len(content):
            byte = content[position]
            following = content[position + 1] if position + 1 < len(content) else 0
            if byte == _ESCAPE:
                result.append(following ^ 0x20)
                position += 2
            elif byte == _RUN and result:
                result += result[-1:] * max(0, following - 29)
                position += 2
            else:
                result.append(byte)
                position += 1
            if len(result) > LARGEST:
                raise SourceError(
                    f"{self.name}: sends a packet of over {LARGEST:,} bytes; check that a GDB stub listens there"
                )
        return bytes(result)
