"""Talk to QEMU's machine protocol, as far as it is needed to read a guest.

Protocol: QEMU, docs/interop/qmp-spec (greeting, capabilities, one JSON object a line, events in between).
"""

from __future__ import annotations

import json
from typing import Any

from kallsift.errors import SourceError
from kallsift.memory.live.connection import Connection
from kallsift.memory.memory import printable

LONGEST = 16 << 20
"""Highest size of one line in bytes: the memory map of a large machine has some hundred thousand."""

MOST_EVENTS = 1 << 12
"""Highest number of lines before an answer."""


class RefusedError(SourceError):
    """QEMU refuses a request."""


class Qmp:
    """One connection; QEMU talks to one client at a time."""

    def __init__(self, connection: Connection) -> None:
        """Wait for the greeting, and begin the session.

        Raises:
            SourceError: if the other side is not QEMU.
        """
        self.connection = connection
        self.name = connection.name
        self._rest = b""
        if "QMP" not in self._line(connection.deadline()):
            raise SourceError(f"{self.name}: is not QEMU's machine protocol; name a socket that -qmp listens on")
        self.do("qmp_capabilities")

    def do(self, command: str, arguments: dict[str, object] | None = None, timeout: float | None = None) -> Any:
        """Run one command, and return its result.

        Raises:
            RefusedError: if QEMU answers with an error.
            SourceError: if it does not answer in time, or with anything else.
        """
        self.connection.send(json.dumps({"execute": command, "arguments": arguments or {}}).encode() + b"\n")
        deadline = self.connection.deadline(timeout)
        for _ in range(MOST_EVENTS):
            answer = self._line(deadline)
            if "error" in answer:
                error = answer["error"]
                reason = error.get("desc") if isinstance(error, dict) else error
                raise RefusedError(f"{self.name}: QEMU refuses {command} ({printable(str(reason))[:200]})")
            if "return" in answer:
                return answer["return"]
        raise SourceError(f"{self.name}: does not answer {command}; name a socket that QEMU's -qmp listens on")

    def monitor(self, line: str) -> str:
        """Return the answer to a command of the human monitor."""
        answer = self.do("human-monitor-command", {"command-line": line})
        if not isinstance(answer, str):
            raise SourceError(f"{self.name}: returns no text for '{line}'; name a socket that QEMU's -qmp listens on")
        return answer.replace("\r\n", "\n")

    def _line(self, deadline: float) -> dict[str, Any]:
        parts = [self._rest]
        size = len(self._rest)
        while b"\n" not in parts[-1]:
            if size > LONGEST:
                raise SourceError(
                    f"{self.name}: sends a line of over {LONGEST >> 20} MiB; name a socket that QEMU's -qmp listens on"
                )
            parts.append(self.connection.receive(deadline))
            size += len(parts[-1])
        line, _, self._rest = b"".join(parts).partition(b"\n")
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{self.name}: sends no JSON; name a socket that QEMU's -qmp listens on") from error
        if not isinstance(answer, dict):
            raise SourceError(
                f"{self.name}: sends JSON that is not an answer; name a socket that QEMU's -qmp listens on"
            )
        return answer
