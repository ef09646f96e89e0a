"""Prints what each attack costs beside reading its file: python -m tests.hostile [--only TEXT] [--timeout SECONDS].

Time is processor time, user and system, of ``kallsift symbols`` in a process of its own, less that of starting it;
memory is the most that was resident at once.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .attacks import ATTACKS

COMMAND = (sys.executable, "-m", "kallsift")


def cost(command: tuple[str, ...], timeout: float) -> tuple[float, int, int | None, str]:
    """Processor time in seconds, peak resident bytes, exit code (None if it took too long) and the last line said."""
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        end, code = time.monotonic() + timeout, None
        while time.monotonic() < end:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                break
            time.sleep(0.02)
        else:
            child.kill()
            _, status, usage = os.wait4(child.pid, 0)
        child.returncode = code or 0
        said.seek(0)
        lines = said.read().decode(errors="replace").splitlines() or [""]
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, code, lines[-1]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--only", default="", help="attacks whose names contain this")
    parser.add_argument("--timeout", type=float, default=120)
    options = parser.parse_args(arguments)
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    with tempfile.TemporaryDirectory(prefix="kallsift-hostile-") as folder:
        file = Path(folder) / "attack"
        file.write_bytes(bytes(4096))
        start = min(cost((*COMMAND, "symbols", str(file)), options.timeout)[0] for _ in range(2))
        print(f"start: {start:.2f} s")
        for name, attack in ATTACKS.items():
            if options.only not in name:
                continue
            file.write_bytes(attack.write())
            read = min(cost(("cat", str(file)), options.timeout)[0] for _ in range(3))
            every = ("--all", "-o", str(file.with_name("kallsyms"))) if attack.every else ()
            took, peak, code, said = cost((*COMMAND, "symbols", *every, str(file)), options.timeout)
            size = f"{file.stat().st_size / 2**20:.1f} MiB"
            ratio = (took - start) / max(read, 1e-3)
            verdict = "out of time" if code is None else f"exit {code}"
            print(
                f"{name}: {size}, read {read:.3f} s, took {took - start:.2f} s more than start ({ratio:.0f} x), "
                f"{peak / 2**20:.0f} MiB, {verdict}: {said[:150]}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
