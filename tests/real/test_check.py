"""What the loaders of real kernels would say: of real modules, of changed copies, and of what one was given."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import kallsift
from kallsift.modules.insmod.check import check
from kallsift.modules.insmod.kernel_config import Loader, loader
from kallsift.modules.insmod.ko_file import open_module, read_module
from kallsift.output.text.insmod_check import symbol_lines
from tests.lab import Capture, load_guests
from tests.lab.places import lab_folder
from tests.real.conftest import GUESTS, Taken
from tests.real.module_edits import section, unsigned, with_checksum, with_text

INSMOD = "amd64-6.1-modules"
"""The guest that was given modules which its loader refuses."""

BUSYBOX = {
    "ok": 0,
    "invalid module format": errno.ENOEXEC,
    "unknown symbol in module, or unknown parameter": errno.ENOENT,
    "module has wrong symbol version": errno.ESRCH,
}
"""What busybox's insmod says of errors, other than their usual names."""

LOGGED = r"Unknown symbol \S+ \(err -\d+\)|(exports duplicate|disagrees about version of) symbol \S+|version magic .*"
"""What a reason has of the kernel's own words."""


@cache
def loader_of(dump: Path) -> Loader:
    with kallsift.open(dump) as memory:
        kernel = kallsift.recover(memory)
        return loader(kernel, kernel.exports)


@cache
def files(release: str) -> dict[str, Path]:
    """The modules of a kernel by their names, those with the shortest files first."""
    folder = lab_folder() / "kernels" / release / "tree/lib/modules" / release
    found = sorted(folder.rglob("*.ko*"), key=lambda path: path.stat().st_size)
    return {path.name.partition(".ko")[0].replace("-", "_"): path for path in found}


def files_of(capture: Capture) -> dict[str, Path]:
    return files(capture.manifest["kernel"]["release"])


def loaded(capture: Capture) -> list[str]:
    return [line.split()[0] for line in capture.truth("modules").decode().splitlines()]


@cache
def willing(capture: Capture) -> tuple[str, bytes]:
    """A module that is not loaded but would be, and that uses a symbol that is exported for the GPL only."""
    known, there = loader_of(capture.dump("elf")), set(loaded(capture))
    for name, path in files_of(capture).items():
        if name in there:
            continue
        module = unsigned(path)
        found = check(known, read_module(module), name)
        exports = [use.export for use in found.uses if use.export]
        versions = module.count(b"\0__versions\0") == 0 or len(section(module, "__versions")) > 64
        if found.loads and versions and any(export.gpl_only for export in exports):
            return name, module
    raise AssertionError("no module would be loaded")


@pytest.mark.parametrize("guest", GUESTS)
def test_what_is_loaded_is_there_already_and_would_be_taken_again(taken: Taken, guest: str) -> None:
    """The loader did take it, before it was there."""
    capture = taken(guest)
    known, there = loader_of(capture.dump("elf")), files_of(capture)
    names = loaded(capture)
    assert {module.name for module in known.exports.modules} == set(names)
    assert len(names) > 40
    for name in names:
        module = open_module(there[name])
        found = check(known, module, name)
        assert (found.name, found.error) == (name, "EEXIST")
        assert [use for use in found.uses if use.errno] == []
        assert check(before(known, {name}), module, name).loads


def before(known: Loader, names: set[str]) -> Loader:
    """The loader before modules of these names were there."""
    exports = known.exports
    return replace(
        known,
        exports=replace(
            exports,
            symbols=tuple(export for export in exports if export.owner not in names),
            modules=tuple(module for module in exports.modules if module.name not in names),
        ),
    )


Change = Callable[[bytes, Loader], bytes]


def first_use(module: bytes, known: Loader, gpl_only: bool = False) -> str:
    """A symbol that the module wants and its checksums name, exported for the GPL only or for everybody."""
    uses = check(known, read_module(module), "module").uses
    return next(use.name for use in uses if use.export and use.export.gpl_only is gpl_only)


def unknown(module: bytes, known: Loader) -> bytes:
    name = first_use(module, known).encode()
    return with_text(module, ".strtab", b"\0" + name + b"\0", b"\0" + b"x" * len(name) + b"\0")


def proprietary(module: bytes, _: Loader) -> bytes:
    licence = re.search(rb"license=[^\0]*", section(module, ".modinfo"))
    assert licence
    return with_text(module, ".modinfo", licence[0], b"license=Proprietary")


def other_vermagic(module: bytes, _: Loader) -> bytes:
    return with_text(module, ".modinfo", b" mod_unload", b" mod_unlood")


def other_release(module: bytes, _: Loader) -> bytes:
    return with_text(module, ".modinfo", b"vermagic=", b"vermagic=9")


def other_checksum(module: bytes, known: Loader) -> bytes:
    return with_checksum(module, first_use(module, known))


def other_layout(module: bytes, _: Loader) -> bytes:
    return with_checksum(module, "module_layout")


CHANGES: dict[str, tuple[Change, str, str]] = {
    "unknown symbol": (unknown, "ENOENT", r"Unknown symbol x+ \(err -2\)"),
    "proprietary": (proprietary, "ENOENT", r"Unknown symbol \w+ \(err -2\): \w+ exports it for the GPL only"),
    "vermagic": (other_vermagic, "ENOEXEC", r"version magic '.* mod_unlood.*' should be '.* mod_unload.*'"),
}
"""Changes with the error that the loader gives and what it says."""

WITH_CHECKSUMS: dict[str, tuple[Change, str, str]] = {
    "checksum": (other_checksum, "EINVAL", r"Unknown symbol \w+ \(err -22\): disagrees about its version"),
    "layout": (other_layout, "ENOEXEC", "disagrees about version of symbol module_layout"),
    "release": (other_release, "", ""),
}
"""The same where the kernel has checksums: these say more than the release."""

WITHOUT_CHECKSUMS = {"release": (other_release, "ENOEXEC", r"version magic '9.*' should be '.*'")}


@pytest.mark.parametrize("guest", GUESTS)
def test_changed_copies_are_refused(taken: Taken, guest: str) -> None:
    capture = taken(guest)
    known = loader_of(capture.dump("elf"))
    name, module = willing(capture)
    for change, error, reason in {**CHANGES, **(WITH_CHECKSUMS if known.checksums else WITHOUT_CHECKSUMS)}.values():
        found = check(known, read_module(change(module, known)), name)
        assert found.error == error, found.reason
        assert re.match(reason, found.reason)


@pytest.mark.parametrize("guest", GUESTS)
def test_a_namespace_must_be_imported(taken: Taken, guest: str) -> None:
    """Modules that import one, without that line."""
    capture = taken(guest)
    known = loader_of(capture.dump("elf"))
    assert known.lax_namespaces is False  # as Debian's kernels are built
    checked = 0
    for name, path in list(files_of(capture).items()):
        if checked == 3:
            break
        data = unsigned(path)
        if b"\0import_ns=" not in data or not (found := check(before(known, {name}), read_module(data), name)).loads:
            continue
        spaces = {use.export.namespace for use in found.uses if use.export} - {""}
        changed = data.replace(b"\0import_ns=", b"\0inport_ns=")
        refused = check(before(known, {name}), read_module(changed), name)
        checked += 1
        needed = {space for space in spaces if not space.startswith("module:")}
        assert refused.error == ("EINVAL" if needed else "")
    assert checked or "5.10" in guest


@pytest.mark.parametrize("guest", GUESTS)
def test_another_machines_module_is_none(taken: Taken, guest: str) -> None:
    capture = taken(guest)
    other = taken(next(name for name in GUESTS if name.split("-")[0] != guest.split("-")[0]))
    found = check(loader_of(capture.dump("elf")), read_module(willing(other)[1]), "module")
    assert found.error == "ENOEXEC"
    assert found.reason.startswith("is for ")


@pytest.mark.parametrize("guest", GUESTS)
def test_readelf_lists_the_same_symbols(taken: Taken, guest: str, tmp_path: Path) -> None:
    capture = taken(guest)
    for path in list(files_of(capture).values())[::400]:
        (file := tmp_path / "module.ko").write_bytes(unsigned(path))
        ours = [line.split() for line in symbol_lines(open_module(file))]
        assert ours[1:] == readelf(file)


def readelf(file: Path) -> list[list[str]]:
    """The lines of ``readelf -sW``, split, with the section's name instead of its number."""

    def run(option: str) -> list[str]:
        done = subprocess.run(
            ["readelf", option, file], capture_output=True, text=True, check=True, env={"LC_ALL": "C"}
        )
        return done.stdout.splitlines()

    sections = {found[1]: found[2] for line in run("-SW") if (found := re.match(r"\s*\[ *(\d+)\] (\S*)", line))}
    rows = [unescaped(line).split() for line in run("-sW") if re.match(r"\s*\d+: ", line)]
    return [[*row[:6], sections.get(row[6], row[6]), *row[7:]] for row in rows]


def unescaped(line: str) -> str:
    """Control characters, which readelf writes as ^B, as kallsift has them."""
    return re.sub(r"\^([@-_])", lambda found: f"\\x{ord(found[1]) - 64:02x}", line)


def test_insmod_said_the_same(taken: Taken) -> None:
    """Each module that the guest was given, in that order, with what was there by then."""
    if INSMOD not in load_guests():
        pytest.skip(f"the lab has no guest {INSMOD}")
    capture = taken(INSMOD)
    lines = [line.split("\t") for line in capture.truth("insmod.tsv").decode().splitlines() if line]
    known = loader_of(capture.dump("elf"))
    modules = {line[0]: open_module(capture.folder / "ko" / f"{line[0]}.ko") for line in lines}
    coming = {module.value("name") or variant for variant, module in modules.items()}
    # what was loaded more than once under one name had been removed before
    lasting = {modules[line[0]].value("name") or line[0]: line[0] for line in lines if line[1] == "ok"}
    assert len(lines) > 5
    for variant, said, *logged in lines:
        found = check(before(known, coming), modules[variant], variant)
        assert found.errno == error_of(said), (variant, said, logged, found.reason)
        words = re.match(LOGGED, found.reason)
        assert words is None or words[0] in "".join(logged)
        if lasting.get(found.name) == variant:
            coming.discard(found.name)


def error_of(said: str) -> int:
    """The error that busybox's insmod means."""
    if said in BUSYBOX:
        return BUSYBOX[said]
    return next(number for number in errno.errorcode if os.strerror(number) == said)
