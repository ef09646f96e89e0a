"""Prints what each attack costs beside reading its file: python -m tests.hostile [--only TEXT] [--seconds SECONDS].

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
from pathlib import Path

from .attacks import ATTACKS

COMMAND = (sys.executable, "-m", "kallsift")


def cost(command: tuple[str, ...], seconds: int) -> tuple[float, int, int, str]:
    """Processor time in seconds, peak resident bytes, exit code and the last line said.

    A process that takes longer is ended by SIGXCPU, which is its exit code then.
    """

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))

    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, preexec_fn=limited)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        lines = said.read().decode(errors="replace").splitlines() or [""]
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, child.returncode, lines[-1]


def measured(name: str, file: Path, start: float, seconds: int) -> str:
    """One line that says what an attack costs, whose file was written."""
    read = min(cost(("cat", str(file)), seconds)[0] for _ in range(3))
    every = ("--all", "-o", str(file.with_name("kallsyms"))) if ATTACKS[name].every else ()
    took, peak, code, said = cost((*COMMAND, "symbols", *every, str(file)), seconds)
    more, size = max(0.0, took - start), f"{file.stat().st_size / 2**20:.1f} MiB"
    return (
        f"{name}: {size}, read in {read:.3f} s, took {more:.2f} s more than to start ({more / max(read, 1e-3):.0f} x), "
        f"{peak / 2**20:.0f} MiB, exit {code}: {said[:150]}"
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--only", default="", help="attacks whose names contain this")
    parser.add_argument("--seconds", type=int, default=120, help="of processor time after which one is ended")
    parser.add_argument("--write", nargs=2, metavar=("NAME", "FILE"), help="only write the file of one")
    options = parser.parse_args(arguments)
    if options.write:
        name, target = options.write
        Path(target).write_bytes(ATTACKS[name].write())
        return 0
    with tempfile.TemporaryDirectory(prefix="kallsift-hostile-") as folder:
        file = Path(folder) / "attack"
        file.write_bytes(bytes(4096))
        start = min(cost((*COMMAND, "symbols", str(file)), options.seconds)[0] for _ in range(3))
        print(f"to start: {start:.2f} s")
        for name in ATTACKS:
            if options.only in name:
                # by another process, or what that takes would count as the child's
                subprocess.run((sys.executable, "-m", "tests.hostile", "--write", name, str(file)), check=True)
                print(measured(name, file, start, options.seconds), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
