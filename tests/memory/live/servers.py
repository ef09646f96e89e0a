"""Servers that the tests play: they answer, or do anything else."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Handler = Callable[[socket.socket], None]
"""What a server does with its one client."""


@contextlib.contextmanager
def serving(path: Path, handler: Handler, clients: int = 1) -> Iterator[str]:
    """A server on a Unix socket, as long as the block lasts; gives the socket's path."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            for _ in range(clients):
                with contextlib.suppress(OSError), listener.accept()[0] as client:
                    handler(client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield str(path)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def saying(data: bytes) -> Handler:
    """Says something, reads what comes until the client is gone, and never answers."""

    def handler(client: socket.socket) -> None:
        client.sendall(data)
        while client.recv(4096):
            pass

    return handler


def repeating(data: bytes) -> Handler:
    """Says the same without an end."""

    def handler(client: socket.socket) -> None:
        while True:
            client.sendall(data)

    return handler


def frame(content: bytes) -> bytes:
    """A packet of the GDB protocol."""
    return b"$%s#%02x" % (content, sum(content) & 0xFF)


def stub(answer: Callable[[bytes], bytes | list[bytes]]) -> Handler:
    """A GDB stub that answers each packet with what ``answer`` gives: contents, or whole frames as they are."""

    def handler(client: socket.socket) -> None:
        rest = b""
        while data := client.recv(4096):
            rest += data
            while b"#" in rest[:-2]:
                begin, end = rest.index(b"$"), rest.index(b"#")
                content, rest = rest[begin + 1 : end], rest[end + 3 :]
                found = answer(content)
                frames = [frame(found)] if isinstance(found, bytes) else found
                client.sendall(b"+" + b"".join(frames))

    return handler


GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\r\n'


def qemu(answers: dict[str, Any]) -> Handler:
    """A QEMU that answers commands, and lines of the human monitor, by their names; all else is an error."""

    def handler(client: socket.socket) -> None:
        client.sendall(GREETING)
        with client.makefile("rb") as lines:
            for line in lines:
                request = json.loads(line)
                name = request["execute"]
                if name == "human-monitor-command":
                    name = request["arguments"]["command-line"].split()[0]
                    name += " " + request["arguments"]["command-line"].split()[1]
                found = answers.get(name)
                if callable(found):
                    found = found(request["arguments"])
                answer = {"error": {"desc": f"no {name}"}} if found is None else {"return": found}
                event = {"event": "STOP", "timestamp": {}}
                client.sendall(json.dumps(event).encode() + b"\r\n" + json.dumps(answer).encode() + b"\r\n")

    return handler
