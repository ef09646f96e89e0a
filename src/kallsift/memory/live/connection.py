"""Connect to a program that answers requests; every answer has a deadline, whatever the other side does."""

from __future__ import annotations

import re
import socket
import struct
import time

from kallsift.errors import ClosedError, SourceError

TIMEOUT = 10.0
"""Longest time for an answer, in seconds."""

AT_ONCE = 1 << 16

_HOST_PORT = re.compile(r"(?:tcp:)?(?:\[(?P<literal>[^]]+)]|(?P<host>[^/:]*)):(?P<port>\d{1,5})")


class Connection:
    """A stream socket.

    Attributes:
        name: name of the source in messages.
    """

    def __init__(self, name: str, where: str, timeout: float = TIMEOUT) -> None:
        """Connect to ``HOST:PORT`` or to the path of a Unix socket.

        An IPv6 address is written as ``[ADDRESS]:PORT``.

        Raises:
            SourceError: if nobody listens there.
        """
        self.name, self.timeout = name, timeout
        match = _HOST_PORT.fullmatch(where)
        try:
            if match:
                host = match["literal"] or match["host"] or "localhost"
                self._socket = socket.create_connection((host, int(match["port"])), timeout)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            else:
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.settimeout(timeout)
                self._socket.connect(where.removeprefix("unix:"))
        except (OSError, OverflowError, ValueError) as error:
            if not match and hasattr(self, "_socket"):
                self._socket.close()
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            advice = "check that it listens there, and that no other client is connected"
            raise SourceError(f"{name}: the connection failed ({reason}); {advice}") from error

    def process(self) -> int | None:
        """Return the ID of the listening process; None if it is unknown.

        It is known if a Unix socket connects both, which are then on one host.
        """
        if self._socket.family != socket.AF_UNIX:
            return None
        credentials = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        process, _, _ = struct.unpack("3i", credentials)
        return process or None

    def deadline(self, timeout: float | None = None) -> float:
        """Return the time by which an answer to a request made now must be complete."""
        return time.monotonic() + (timeout or self.timeout)

    def send(self, data: bytes) -> None:
        """Send all of the data.

        Raises:
            ClosedError: if the connection was closed here; SourceError if it broke.
        """
        if self._socket.fileno() < 0:
            raise ClosedError(self.name)
        self._socket.settimeout(self.timeout)
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise SourceError(f"{self.name}: the connection broke ({error.strerror or error}); try again") from error

    def receive(self, deadline: float) -> bytes:
        """Return some bytes, at least one.

        Raises:
            SourceError: if none comes before the deadline, or the other side is gone.
        """
        left = deadline - time.monotonic()
        try:
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            data = self._socket.recv(AT_ONCE)
        except TimeoutError as error:
            advice = "check that the right program listens there, and that no other client is connected"
            raise SourceError(f"{self.name}: does not answer; {advice}") from error
        except OSError as error:
            raise SourceError(f"{self.name}: the connection broke ({error.strerror or error}); try again") from error
        if not data:
            raise SourceError(f"{self.name}: has closed the connection; try again")
        return data

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
