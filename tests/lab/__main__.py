"""The lab's command line: python -m tests.lab."""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from .capture import Capture, cached, capture, forget, oldest
from .containers import saved
from .errors import LabError
from .guests import Guest, guest_named, guests_of_set, load_guests
from .kbuild import fetch
from .kernels import find
from .machines import machine_for
from .places import MAX_GUESTS, say

How = Callable[[Guest, bool], Capture]
"""Takes a guest's capture, even if there is one already where that is asked."""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m tests.lab",
        description="Boots real kernels under QEMU and keeps their memory together with the truth about it.",
    )
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the guests, and which of them have been captured")
    named = commands.add_parser("guest", help="capture guests by name, and print their folders")
    named.add_argument("names", nargs="+", metavar="NAME")
    grouped = commands.add_parser("set", help="capture all guests of a set, and print their folders")
    grouped.add_argument(
        "set", metavar="SET", help="suite (all that make test wants), test, architectures, matrix or bench"
    )
    renewed = commands.add_parser("renew", help="capture the guest of a set anew whose capture is the oldest")
    renewed.add_argument("set", metavar="SET", help="as above")
    commands.add_parser("forget", help="remove all captures, so that each guest is booted anew")
    many = commands.add_parser("containers", help="boot guests and save their memory in every container QEMU writes")
    many.add_argument("names", nargs="+", metavar="NAME")
    boot = commands.add_parser("boot", help="capture any kernel of the archive, and print its folder")
    boot.add_argument("suite", metavar="SUITE", help="such as trixie-backports")
    boot.add_argument("architecture", metavar="ARCH", help="Debian's name, such as arm64")
    boot.add_argument("package", metavar="REGEX", help=r"of the kernel's release; the newest match wins")
    boot.add_argument("--la57", action="store_true", help="5-level paging")
    boot.add_argument("--memory", type=int, default=512, metavar="MIB")
    boot.add_argument("--processors", type=int, default=2, metavar="N")
    boot.add_argument("--no-vmcoreinfo", action="store_true", help="leave out the vmcoreinfo device")
    boot.add_argument("--no-modules", action="store_true", help="load none")
    boot.add_argument("--no-kaslr", action="store_true")
    boot.add_argument("--append", default="", metavar="S", help="more kernel command line")
    boot.add_argument("--cpu", default="", help="QEMU's CPU model")
    boot.add_argument("--accel", default="", help="QEMU's accelerator, such as tcg,thread=multi")
    boot.add_argument("--timeout", type=int, default=600, metavar="S", help="seconds to get ready in")
    commands.add_parser("kbuild", help="fetch Debian's scripts/kallsyms programs, and print their folders")
    for one in (named, grouped, many, boot):
        one.add_argument("--again", action="store_true", help="even if captured already")
    return top


def unlisted_guest(options: argparse.Namespace) -> Guest:
    """A guest made of the command line; its name tells what is unusual about it."""
    machine_for(options.architecture)  # or say right away which ones there are
    guest = Guest(
        name="boot",
        suites=(options.suite,),
        architecture=options.architecture,
        package=options.package,
        memory=options.memory,
        processors=options.processors,
        la57=options.la57,
        vmcoreinfo=not options.no_vmcoreinfo,
        modules=not options.no_modules,
        kaslr=not options.no_kaslr,
        append=options.append,
        cpu=options.cpu,
        accelerator=options.accel,
        timeout=options.timeout,
    )
    plain = Guest("boot", guest.suites, guest.architecture, guest.package)
    unusual = sorted(set(guest.settings().items()) - set(plain.settings().items()))
    tag = f"-{zlib.crc32(repr(unusual).encode()):08x}" if unusual else ""
    return replace(guest, name=f"{find(guest)[1]}{tag}")


def show() -> None:
    """One line per guest."""
    for guest in load_guests().values():
        found = cached(guest)
        state = found.manifest["kernel"]["release"] if found else "-"
        print(f"{guest.name:18}{','.join(guest.sets):27}{state:28}{guest.note}".rstrip())


def take(guests: list[Guest], again: bool, how: How = capture) -> int:
    """Capture all of them, as many at a time as the host has processors; return the number of failures.

    Each is taken by a process of its own, which ends its QEMU when this one ends.
    """
    with multiprocessing.get_context("fork").Pool(min(len(guests), MAX_GUESTS)) as pool:
        failures = 0
        for folder in pool.imap(partial(_taken, again=again, how=how), guests):
            if folder is None:
                failures += 1
            else:
                print(folder, flush=True)
        return failures


def _taken(guest: Guest, again: bool, how: How) -> Path | None:
    try:
        return how(guest, again).folder
    except LabError as error:
        say(f"FAILED {guest.name}: {error}")
        return None


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that QEMU ends with us
    options = parser().parse_args(arguments)
    try:
        match options.command:
            case "list":
                signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # into head, say
                show()
                return 0
            case "kbuild":
                print(*(program.folder for program in fetch()), sep="\n")
                return 0
            case "guest" | "containers":
                guests = [guest_named(name) for name in options.names]
            case "set":
                guests = guests_of_set(options.set)
            case "forget":
                forget()
                return 0
            case "renew":
                return take([oldest(guests_of_set(options.set))], again=True)
            case _:
                guests = [unlisted_guest(options)]
    except LabError as error:
        say(f"FAILED {error}")
        return 1
    how = saved if options.command == "containers" else capture
    return 1 if take(guests, options.again, how) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
