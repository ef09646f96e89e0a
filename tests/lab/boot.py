"""Boots a guest under QEMU, waits until it has sent its truth, and leaves it paused."""

from __future__ import annotations

import base64
import contextlib
import re
import subprocess
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError
from .guests import Guest
from .initramfs import build_initramfs
from .kernels import Kernel
from .machines import machine_for
from .places import lab_folder
from .qemu import Files, command, has_vmcoreinfo, with_seed
from .qmp import Qmp
from .scenario import files_of
from .tools import tool


@dataclass(frozen=True)
class Paused:
    """A guest which has told everything and stands still."""

    qmp: Qmp
    truth: dict[str, bytes]  # file name -> what the guest read of itself
    added: dict[str, bytes]  # path -> what its scenario added to its initramfs
    console: bytes
    command: list[str]
    seconds: float


@contextlib.contextmanager
def running(words: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """QEMU, at low priority; it is gone when the block ends."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [tool("nice"), "-n", "5", tool(words[0]), *words[1:]],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def paused(guest: Guest, kernel: Kernel, accelerator: str, extra: Sequence[str] = ()) -> Iterator[Paused]:
    """The guest, booted with ``extra`` arguments of QEMU and paused; it ends with the block."""
    machine = machine_for(guest.architecture)
    with tempfile.TemporaryDirectory(prefix="kallsift-lab.") as folder:
        files = Files(Path(folder))
        needed = ["qemu_fw_cfg"] if has_vmcoreinfo(guest, machine) else []
        modules = kernel.modules if guest.modules else None
        added = files_of(guest, kernel)
        files.initramfs.write_bytes(build_initramfs(kernel.busybox, modules, needed, added))
        words = [*command(guest, machine, kernel.image, accelerator, files), *extra]
        if machine.seedless and guest.kaslr:
            words = with_seed(words, files)
        started = time.monotonic()
        log = Path(folder) / "qemu.log"
        with running(words, log) as process, contextlib.ExitStack() as connection:
            try:
                qmp = connection.enter_context(Qmp(files.qmp, process))
                _wait(guest, process, files, started + guest.timeout)
                seconds = time.monotonic() - started
                qmp.do("stop")
                truth, console = _truth(files)
            except LabError as error:
                raise _failure(guest, error, files, log) from error
            short = [word.replace(folder, ".").replace(str(kernel.image), "vmlinuz") for word in words]
            yield Paused(qmp, truth, added, console, short, seconds)


def _console(files: Files) -> bytes:
    return files.console.read_bytes() if files.console.exists() else b""


def _wait(guest: Guest, process: subprocess.Popen[bytes], files: Files, deadline: float) -> None:
    """Returns when the guest says that it is ready."""
    while not re.search(rb"LAB-READY\r?\n", text := _console(files)):
        if process.poll() is not None:
            raise LabError(f"QEMU ended ({process.returncode}) before the guest was ready")
        if b"Kernel panic" in text and b"LAB-PANICS-ON-PURPOSE" not in text:
            time.sleep(2)  # for the rest of the message
            raise LabError("the guest's kernel panicked")
        if time.monotonic() > deadline:
            raise LabError(f"the guest was not ready after {guest.timeout} s (timeout in guests.toml)")
        time.sleep(0.5)
    time.sleep(1)


def _failure(guest: Guest, error: LabError, files: Files, log: Path) -> LabError:
    """The error with the console's end; the whole console is kept for reading."""
    kept = lab_folder() / "failed" / f"{guest.name}.log"
    kept.parent.mkdir(parents=True, exist_ok=True)
    text = _console(files) + b"\n--- QEMU\n" + log.read_bytes()
    kept.write_bytes(text)
    tail = "\n".join(text.decode(errors="replace").splitlines()[-25:])
    return LabError(f"{error.message}: read {kept}", tail)


def _truth(files: Files) -> tuple[dict[str, bytes], bytes]:
    """The files the guest sent by the way it says it took, and the console without them."""
    text = _console(files)
    took = re.findall(rb"LAB-TRUTH-VIA (\S*)\r?\n", text)
    try:
        if not took or not took[-1]:
            sent = re.search(rb"=====LAB-CONSOLE-BEGIN\r?\n(.*?)=====LAB-CONSOLE-END", text, re.DOTALL)
            packed = base64.b64decode(b"".join(sent[1].split())) if sent else b""
            text = text.replace(sent[1], b"(left out)\n") if sent else text
        else:
            packed = (files.port if b"vport" in took[-1] else files.uart).read_bytes()
        stream = zlib.decompressobj(wbits=31)
        blob = stream.decompress(packed) + stream.flush()
        complete = stream.eof
    except (OSError, ValueError, zlib.error):
        complete = False
    if not complete:
        raise LabError("the guest's truth did not arrive whole")
    found = re.finditer(rb"=====LAB-FILE (\S+)\n(.*?)\n=====LAB-END\n", blob, re.DOTALL)
    return {match[1].decode(): match[2] for match in found}, text
