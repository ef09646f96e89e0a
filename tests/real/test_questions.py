"""Questions to the symbols of a real kernel, answered as its own /proc/kallsyms, taken by plain arithmetic, answers."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from bisect import bisect_left, bisect_right
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import kallsift
from kallsift.analysis.comparison import compare
from kallsift.analysis.dynamic.dynamic_symbols import dynamic_symbols
from kallsift.analysis.listings.listing import Listing
from kallsift.analysis.listings.open import listed
from kallsift.analysis.lookup_functions import lookup_functions
from kallsift.analysis.symbol_lookup import Resolver
from kallsift.output.text.symbolize import Annotator
from tests.lab import Capture
from tests.real.conftest import GUESTS, Taken

QUESTIONS = 2000
SECTIONS = (".text", ".data", ".rodata", ".bss", ".exit.text")
"""Sections that stay where a module is loaded."""

NO_MODULES = ("bpf", "__builtin__ftrace", "__builtin__kprobes")

Line = tuple[int, str, str, str]
"""Address, type, name and owner."""


def truth(capture: Capture) -> list[Line]:
    """The lines of the guest's own /proc/kallsyms."""
    found = []
    for line in capture.truth("kallsyms").decode("latin-1").split("\n")[:-1]:
        text, _, owner = line.partition("\t")
        address, kind, name = text.split(" ", 2)
        found.append((int(address, 16), kind, name, owner.strip("[]")))
    return found


def resolvable(capture: Capture) -> list[Line]:
    """The lines that the kernel looks names up in: of a module only its own; those of traced functions come later."""
    found, before, seen = [], "", {""}
    for line in truth(capture):
        if line[3] != before:
            if line[3] in seen:
                break
            before = line[3]
            seen.add(before)
        if before not in NO_MODULES:
            found.append(line)
    return found


def digits(capture: Capture) -> int:
    """Digits of an address in the guest's file."""
    return capture.truth("kallsyms").index(b" ")


@cache
def asked(capture: Capture) -> tuple[kallsift.Kernel, Resolver]:
    """What is recovered from a capture; each is asked more than once."""
    kernel = kallsift.recover(kallsift.open(capture.dump("elf")))
    return kernel, Resolver.of(kernel, dynamic_symbols(kernel))


@pytest.mark.parametrize("guest", GUESTS)
def test_names(taken: Taken, guest: str) -> None:
    """The first line of a name in the file, or the first with that module's name behind it."""
    capture = taken(guest)
    _, resolver = asked(capture)
    lines = resolvable(capture)
    first: dict[str, int] = {}
    for address, kind, name, owner in lines:
        if kind not in "uU":
            first.setdefault(name, address)
            first.setdefault(f"{owner}:{name}" if owner else name, address)
    choose = random.Random(guest)
    owned = [f"{owner}:{name}" for _, kind, name, owner in lines if owner and kind not in "uU"]
    names = choose.sample(sorted(first), QUESTIONS - 500) + choose.sample(sorted(set(owned)), 500)
    wrong = {}
    for name in names:
        found = resolver.resolve(name)
        if (found[0].address if found else 0) != first[name]:
            wrong[name] = found
    assert not wrong


def answer_of(starts: list[int], names: list[str], address: int) -> str:
    """The first symbol at the nearest address below, up to the next address."""
    place = bisect_right(starts, address)
    start = starts[place - 1]
    return f"{names[bisect_left(starts, start)]}+{address - start:#x}/{starts[place] - start:#x}"


@pytest.mark.parametrize("guest", GUESTS)
def test_addresses(taken: Taken, guest: str) -> None:
    capture = taken(guest)
    _, resolver = asked(capture)
    lines = resolvable(capture)
    core = [line for line in lines if not line[3]]
    starts, names = [line[0] for line in core], [line[2] for line in core]
    bounds = {name: address for address, _, name, _ in core}
    ranges = [("_stext", "_end"), ("__init_begin", "__init_end")]
    if "_end" not in bounds:
        ranges = [("_stext", "_etext"), ("_sinittext", "_einittext")]
    choose = random.Random(guest)
    for _ in range(QUESTIONS // 2):
        address = choose.randrange(bounds["_stext"] - 0x100000, starts[-1] + 0x100000)
        inside = any(bounds[low] <= address < bounds[high] for low, high in ranges)
        found = resolver.at(address)
        if inside:
            assert str(found) == answer_of(starts, names, address)
        else:
            assert found is None or found.owner
    modules: dict[str, list[tuple[int, str, str]]] = {}
    for address, kind, name, owner in lines:
        if owner and not name.startswith(("$", ".L", "L0")) and kind not in "aAnuU":
            modules.setdefault(owner, []).append((address, kind, name))
    for _ in range(QUESTIONS // 2):
        owner = choose.choice(sorted(modules))
        own = sorted(modules[owner], key=lambda line: line[0])
        code = [address for address, kind, _ in own if kind in "tT"]
        if len(code) < 2 or code[0] == code[-1]:
            continue
        address = choose.randrange(code[0], code[-1])
        wanted = answer_of([line[0] for line in own], [line[2] for line in own], address)
        assert str(resolver.at(address)) == f"{wanted} [{owner}]"


@pytest.mark.parametrize("guest", GUESTS)
def test_regions_of_modules(taken: Taken, guest: str) -> None:
    """Each begins where /proc/modules says, and is as large in all; every section lies in one."""
    capture = taken(guest)
    _, resolver = asked(capture)
    regions = {group.owner: group.regions for group in resolver.dynamic.groups if group.sizes is None}
    said = [line.split() for line in capture.truth("modules").decode().splitlines()]
    assert len(said) > 50
    for name, size, *_, address in [line[:6] for line in said]:
        assert sum(map(len, regions[name])) == int(size)
        if int(address, 16):
            assert regions[name][0].start == int(address, 16)
    for line in capture.truth("sections.tsv").decode().splitlines():
        path, address = line.split("\t")
        name, section = path.split("/")[3], path.split("/")[5]
        if section in SECTIONS:
            assert any(int(address, 16) in region for region in regions[name]), line


@pytest.mark.parametrize("guest", GUESTS)
def test_what_is_exported(taken: Taken, guest: str) -> None:
    """kallsyms_lookup_name is no more since 5.7, kprobes are; without entries in the table the image tells the same."""
    kernel, resolver = asked(taken(guest))
    found = {function.name: function.exported for function in lookup_functions(resolver.symbols, kernel)}
    assert (found["kallsyms_lookup_name"], found["register_kprobe"]) == (False, True)
    characters = resolver.symbols.characters.tobytes().replace(b"__ksymtab_", b"__nothing_")
    hidden = replace(resolver.symbols, characters=np.frombuffer(characters, np.uint8))
    assert {function.name: function.exported for function in lookup_functions(hidden, kernel)} == found


@pytest.mark.parametrize("guest", GUESTS)
def test_a_dump_agrees_with_its_own_table_and_its_image(taken: Taken, guest: str) -> None:
    capture = taken(guest)
    kernel, resolver = asked(capture)
    saved = listed(capture.folder / "truth" / "kallsyms")
    assert saved is not None
    found = compare(Listing(resolver.symbols, resolver.dynamic), saved)
    assert (found.agree, found.slide, found.same) == (True, 0, len(truth(capture)))
    with kallsift.open(capture.kernel_image) as memory:
        image = kallsift.recover(memory)
    found = compare(Listing(image.symbols), Listing(kernel.symbols))
    assert (found.agree, found.slide) == (True, kernel.kaslr_slide)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "kallsift", *arguments], capture_output=True, check=False)


@pytest.mark.skipif(not {"amd64-7.2", "amd64-6.1"} <= set(GUESTS), reason="compares two guests of the set 'test'")
def test_two_kernels_differ(taken: Taken) -> None:
    done = run("diff", taken("amd64-7.2").dump("elf"), taken("amd64-6.1").folder / "truth" / "kallsyms")
    assert done.returncode == 4
    assert done.stdout.count(b"\n- ") > 10_000
    assert b" differ: " in done.stderr


def oops(lines: list[Line], digits: int) -> list[tuple[str, str]]:
    """Lines of a log as kernels print them, and what belongs behind the address in each."""
    core = [line for line in lines if not line[3]]
    starts, names = [line[0] for line in core], [line[2] for line in core]
    text = sorted({address for address, kind, _, _ in core if kind in "tT"})
    choose = random.Random(1)
    found = []
    for form in ("RIP: 0010:0x{}", " [<{}>]", "pc : {}", "{}", "R12: 0000000000000000 R13: {}", "Krnl PSW : ({})"):
        for address in choose.sample(text[100:-100], 20):
            address += 1
            said = f" <{answer_of(starts, names, address)}>"
            number = f"{address:0{digits}x}"
            behind = form.replace("{}>]", "{}>]" + said) if ">]" in form else form.replace("{}", "{}" + said)
            found.append((form.format(number), behind.format(number)))
    return found


@pytest.mark.parametrize("guest", GUESTS)
def test_an_oops_is_annotated(taken: Taken, guest: str) -> None:
    capture = taken(guest)
    _, resolver = asked(capture)
    annotator = Annotator(resolver)
    for line, annotated in oops(truth(capture), digits(capture)):
        assert annotator.line(line.encode()) == annotated.encode()
    for own in capture.truth("dmesg").splitlines(keepends=True):
        assert re.sub(rb" <[^<> ]+\+0x[^<>]*>", b"", annotator.line(own)) == own


@pytest.mark.parametrize("guest", GUESTS)
def test_the_log_of_another_boot(taken: Taken, guest: str, tmp_path: Path) -> None:
    """The image was never booted, so that the dump's log is another boot's."""
    capture = taken(guest)
    kernel, _ = asked(capture)
    lines = oops(truth(capture), digits(capture))
    log = tmp_path / "log"
    log.write_text("\n".join(line for line, _ in lines))
    base = kernel.symbols["_text"].address
    done = run("symbolize", capture.kernel_image, log, "--from-base", f"{base:#x}")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == "\n".join(annotated for _, annotated in lines)
    if kernel.kaslr_slide:
        offset = f"Kernel Offset: {kernel.kaslr_slide:#x} from {base - kernel.kaslr_slide:#x}\n"
        log.write_text("\n".join(line for line, _ in lines) + "\n" + offset)
        done = run("symbolize", capture.kernel_image, log)
        assert done.stdout.decode() == "\n".join(annotated for _, annotated in lines) + "\n" + offset
        assert b"the log says that _text was at" in done.stderr
