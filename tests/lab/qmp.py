"""A client of QEMU's machine protocol: as much of it as stopping and dumping a guest takes."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from .errors import LabError


class Qmp:
    """One connection; a context manager."""

    def __init__(self, path: Path, qemu: subprocess.Popen[bytes], timeout: float = 30) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._socket.connect(str(path))
                break
            except OSError as error:
                if qemu.poll() is not None or time.monotonic() > deadline:
                    self._socket.close()
                    raise LabError("QEMU does not run with these settings") from error
                time.sleep(0.1)
        self._socket.settimeout(timeout)
        self._file = self._socket.makefile("rwb")
        self._read("greeting")
        self.do("qmp_capabilities")

    def __enter__(self) -> Qmp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._socket.close()

    def _read(self, command: str) -> dict[str, Any]:
        try:
            line = self._file.readline()
        except OSError as error:
            raise LabError(f"QEMU does not answer {command}: try again") from error
        if not line:
            raise LabError(f"QEMU ended during {command}: try again")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def do(self, command: str, arguments: dict[str, object] | None = None, timeout: float = 30) -> Any:
        """Runs one command and gives its result; a time-out leaves the connection unusable."""
        self._socket.settimeout(timeout)
        self._file.write(json.dumps({"execute": command, "arguments": arguments or {}}).encode() + b"\n")
        self._file.flush()
        while True:
            answer = self._read(command)
            if "error" in answer:
                raise LabError(f"QEMU refuses {command}: {answer['error'].get('desc')}")
            if "return" in answer:
                return answer["return"]

    def monitor(self, line: str) -> str:
        """The answer to a command of the human monitor."""
        return str(self.do("human-monitor-command", {"command-line": line})).replace("\r\n", "\n")
