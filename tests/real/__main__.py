"""python -m tests.real: shows the claim on real kernels, for people.

python -m tests.real demo               one kernel: boot, dump, recover, compare
python -m tests.real table matrix       docs/measured/kernels.md, for all guests of a set
python -m tests.real dynamic            docs/measured/dynamic.md: all of /proc/kallsyms of guests that are traced
python -m tests.real boots              docs/measured/boots.md: guests that are booted many times
python -m tests.real false-positives    docs/measured/false-positives.md: answers where there is nothing
python -m tests.real damage             docs/measured/damage.md: what is recovered of damaged tables
python -m tests.real bitflips           docs/measured/bitflips.md: single flipped bits, and what notices them
python -m tests.real rot                docs/measured/rot.md: whole dumps that are damaged at random
python -m tests.real field FOLDER       docs/measured/field-files.md: kernel files of public repositories
python -m tests.real images             docs/measured/images.md, for all images of Debian's mirror
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import kallsift
from tests.lab import Capture, LabError, capture, guest_named, guests_of_set
from tests.lab.places import lab_folder
from tests.real import bitflips, boots, census, damage_trials, dynamic_table, false_positives, field_files, rot
from tests.real.comparison import Comparison, compare, text_of, wrong_letters

CONTAINERS = ("raw", "elf", "lime")

DAMAGED = ("amd64-5.10", "amd64-7.2", "s390x-6.12", "s390x-7.2", "arm64-6.12")
"""Guests whose images are damaged: without seqs_of_names and with it, of each byte order."""

FLIPPED = ("amd64-7.2", "amd64-6.1", "amd64-5.10", "arm64-6.12", "s390x-7.2", "i386-6.1-686", "mipsel-6.1")
"""Guests in whose images bits are flipped: all sources of a second opinion, some of them, and hardly any."""

REBOOTED = ("amd64-7.2", "amd64-6.1", "arm64-6.12", "i386-6.1-pae")
"""Guests that are booted many times: two encodings of addresses, and paging of three kinds."""

ROTTEN = (
    *("amd64-7.2", "amd64-6.1", "amd64-5.10", "arm64-6.12", "arm64-7.2", "i386-6.1-686", "s390x-7.2", "armhf-6.12"),
)
"""Guests whose dumps are damaged: of five architectures."""

HEADING = """\
# Kernels that kallsift was compared with

Every line of the built-in table, byte for byte against the guest's own `/proc/kallsyms`, KASLR on, from a raw, an ELF
core and a LiME dump alike. Written by `make docs`, which boots each of these kernels.

| guest | kernel | paging | address encoding | symbols | identical (raw, ELF, LiME) | wrong letters in the guest |
|---|---|---|---|--:|---|--:|"""

FOOTNOTE = """
A wrong letter in the guest: kernels 6.1 to 6.18 before a fix (6.1.160, 6.12.64, 6.19) take the type of a name whose
length needs two bytes from the wrong byte. kallsift prints the right one."""


def compared(taken: Capture, container: str) -> tuple[kallsift.Kernel, Comparison, float]:
    """The recovered kernel, how its table compares with the guest's, and the seconds from opening to text."""
    path = taken.dump(container)
    start = time.perf_counter()
    with kallsift.open(path) as memory:
        kernel = kallsift.recover(memory)
        text = text_of(kernel)
        seconds = time.perf_counter() - start
        return kernel, compare(text, taken.core_kallsyms(), wrong_letters(memory, kernel)), seconds


def demo(name: str) -> int:
    """Shows one kernel."""
    guest = guest_named(name)
    print(f"Boots Debian's kernel {name} under QEMU with KASLR on, and dumps its memory (once, then from a cache) ...")
    taken = capture(guest)
    path = taken.dump("raw")
    print(f"Recovers the symbols from {path} and nothing else:")
    print(f"    kallsift symbols --core {path}")
    kernel, result, seconds = compared(taken, "raw")
    print(f"    {kernel.banner}")
    for check in kernel.evidence:
        mark = {"passed": "+", "failed": "-", "absent": " "}[check.outcome.value]
        print(f"    {mark} {check.name}: {check.detail}")
    slide = "unknown" if kernel.kaslr_slide is None else f"{kernel.kaslr_slide:#x}"
    print(f"    base {kernel.virtual_base or 0:#x}, KASLR slide {slide}")
    share = f"{result.identical:,} of {result.lines:,} symbols"
    print(f"{share} identical to the guest's own /proc/kallsyms ({seconds:.1f} s)")
    if result.first:
        print(f"first difference: the guest has {result.first[0]!r}, kallsift {result.first[1]!r}")
    return 0 if result.same and kernel.proven else 1


def table(chosen: str) -> int:
    """Prints a Markdown table of all guests of a set."""
    print(HEADING)
    worst = 0
    for guest in guests_of_set(chosen):
        taken = capture(guest)
        kernel, cells, excused = None, [], 0
        for container in CONTAINERS:
            try:
                kernel, result, _ = compared(taken, container)
            except kallsift.KallsiftError as error:
                cells.append(f"FAILED: {error}")
                worst = 1
                continue
            excused = result.excused
            good = result.same and kernel.proven
            worst = worst if good else 1
            cells.append("all" if good and not excused else f"{result.identical:,}{'' if good else ' FAILED'}")
        release = taken.manifest["kernel"]["release"]
        if kernel:
            paging = f"{kernel.architecture}, {kernel.paging}"
            row = (
                guest.name,
                release,
                paging,
                kernel.encoding,
                f"{len(kernel.symbols):,}",
                ", ".join(cells),
                str(excused),
            )
        else:
            row = (guest.name, release, "", "", "", ", ".join(cells), "")
        print(f"| {' | '.join(row)} |", flush=True)
    print(FOOTNOTE)
    return worst


def main() -> int:
    top = argparse.ArgumentParser(prog="python -m tests.real", description="Shows the claim on real kernels.")
    commands = top.add_subparsers(dest="command", required=True)
    shown = commands.add_parser("demo", help="boot, dump, recover and compare one kernel")
    shown.add_argument("guest", nargs="?", default="amd64-7.2")
    listed = commands.add_parser("table", help="compare all guests of a set, as a Markdown table")
    listed.add_argument("set", nargs="?", default="matrix")
    traced = commands.add_parser("dynamic", help="compare all of /proc/kallsyms of a set's guests: a Markdown table")
    traced.add_argument("set", nargs="?", default="dynamic")
    commands.add_parser("false-positives", help="ask recognisers where there is nothing: a Markdown table")
    many = commands.add_parser("boots", help="compare many boots of some guests: a Markdown table")
    many.add_argument("--guest", nargs="+", metavar="GUEST", default=REBOOTED)
    many.add_argument("--times", type=int, default=10)
    many.add_argument("--resume", action="store_true", help="keep the boots of a run that was stopped")
    lots = commands.add_parser("damage", help="zero pages of guests' kernel images at random: a Markdown table")
    lots.add_argument("guests", nargs="*", metavar="GUEST", default=DAMAGED)
    lots.add_argument("--trials", type=int, default=100)
    lots.add_argument("--percent", type=float, nargs="+", default=[1, 2, 5, 10, 25])
    lots.add_argument(
        "--filler", choices=tuple(damage_trials.FILLERS), default="zeros", help="what stands on lost pages"
    )
    lots.add_argument("--resume", action="store_true", help="keep the trials of a run that was stopped")
    bits = commands.add_parser("bitflips", help="flip single bits of guests' tables: a Markdown table")
    bits.add_argument("guests", nargs="*", metavar="GUEST", default=FLIPPED)
    bits.add_argument("--flips", type=int, default=24, help="of the names and of the addresses of each")
    bits.add_argument("--resume", action="store_true", help="keep the flips of a run that was stopped")
    rotten = commands.add_parser("rot", help="damage whole dumps at random: a Markdown table")
    rotten.add_argument("guests", nargs="*", metavar="GUEST", default=ROTTEN)
    rotten.add_argument("--trials", type=int, default=1000)
    rotten.add_argument("--resume", action="store_true", help="add to the trials of the table")
    field = commands.add_parser("field", help="recover kernel files of public repositories: a Markdown table")
    field.add_argument("folder", type=Path, help="holds them as OWNER+NAME/PATH")
    census.add_arguments(
        commands.add_parser("images", help="recover every kernel image of the mirror: a Markdown table")
    )
    options = top.parse_args()
    try:
        if options.command == "images":
            return census.run(options)
        if options.command == "rot":
            return rot.carry_out(options.guests, options.trials, resume=options.resume)
        if options.command == "field":
            return field_files.write(options.folder)
        if options.command == "dynamic":
            return dynamic_table.write(guests_of_set(options.set))
        if options.command == "false-positives":
            return false_positives.write()
        if options.command == "boots":
            return boots.write([guest_named(name) for name in options.guest], options.times, resume=options.resume)
        if options.command == "bitflips":
            images = {name: capture(guest_named(name)).kernel_image for name in options.guests}
            results = lab_folder() / "bitflips.jsonl"
            return bitflips.carry_out(bitflips.Plan(images, options.flips, results, options.resume))
        if options.command == "damage":
            images = {name: capture(guest_named(name)).kernel_image for name in options.guests}
            results = lab_folder() / f"damage-{options.filler}.jsonl"
            plan = damage_trials.Plan(images, options.percent, options.trials, results, options.resume, options.filler)
            return damage_trials.carry_out(plan)
        return demo(options.guest) if options.command == "demo" else table(options.set)
    except (LabError, kallsift.KallsiftError) as error:
        print(f"tests.real: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
