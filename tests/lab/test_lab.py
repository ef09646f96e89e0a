"""The lab's own parts, as far as they can be tested without booting anything."""

from __future__ import annotations

import struct
import threading
from pathlib import Path

import pytest

from . import dumps, guests, places
from .apt import Source, read_deb822, read_one_line
from .compilers import COMPILERS
from .errors import LabError
from .initramfs import module_order
from .kernels import Kernel, newest
from .machines import MACHINES
from .manifest import counts, kaslr_seen, landmarks, system_call_entries
from .places import building, qemu_slot
from .scenario import files_of, packaged_files


def test_guests_are_complete() -> None:
    loaded = guests.load_guests()
    assert [guest.name for guest in guests.guests_of_set("test")] == [
        "amd64-5.10", "amd64-6.1", "amd64-7.2", "arm64-6.12", "s390x-7.2", "i386-6.1-686",
    ]  # fmt: skip
    for guest in loaded.values():
        assert guest.architecture in MACHINES
        assert guest.sets
        assert not guest.scenario or guest.architecture in COMPILERS


def test_what_tests_boot_is_captured_before_them() -> None:
    suite = {guest.name for guest in guests.guests_of_set("suite")}
    for name in ("test", "dynamic-test", "modules", "oops"):
        assert {guest.name for guest in guests.guests_of_set(name)} <= suite


def test_no_more_guests_run_than_there_are_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KALLSIFT_LAB", str(tmp_path))
    monkeypatch.setattr(places, "MAX_GUESTS", 2)
    started = threading.Event()

    def boot() -> None:
        with qemu_slot("third"):
            started.set()

    third = threading.Thread(target=boot)
    with qemu_slot("first"):
        with qemu_slot("second"):
            third.start()
            assert not started.wait(0.2)
        assert started.wait(60)
    third.join()


def test_a_scenario_is_a_setting_only_of_guests_that_have_one() -> None:
    """So that captures of the others stay good."""
    assert "scenario" not in guests.guest_named("amd64-7.2").settings()
    assert guests.guest_named("amd64-7.2-traced").settings()["scenario"] == "traced"


def test_a_scenario_brings_its_programs() -> None:
    kernel = Kernel("6.12", "trixie", "amd64", Path(), Path(), {}, Path())
    files = files_of(guests.guest_named("amd64-6.12-traced"), kernel)
    assert files["bin/labbpf"].startswith(b"\x7fELF")
    assert b"after_modules()" in files["scenario"]
    assert files_of(guests.guest_named("amd64-6.12"), kernel) == {}


def test_a_scenario_brings_files_of_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KALLSIFT_LAB", str(tmp_path))
    guest = guests.guest_named("amd64-6.1-investigated")
    tree = tmp_path / "packages" / guest.scenario
    (tree / "bin").mkdir(parents=True)
    (tree / "bin" / "bash").write_bytes(b"a shell")
    listing = tmp_path / "packages.list"
    listing.write_text("# package, file in it, where that goes\nbash bin/bash bin/shell\n")
    assert packaged_files(listing, guest) == {"bin/shell": b"a shell"}
    listing.write_text("libtinfo6 lib/libtinfo.so.6 lib/libtinfo.so.6\n")
    with pytest.raises(LabError, match=r"has no lib/libtinfo\.so\.6"):
        packaged_files(listing, guest)


def test_unknown_names_are_told(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no guest named"):
        guests.guest_named("vax-1.0")
    with pytest.raises(LabError, match="there are architectures, bench, dynamic, dynamic-test, investigated, matrix, "):
        guests.guests_of_set("all")
    path = tmp_path / "guests.toml"
    path.write_text('[one]\nsuites = ["sid"]\narchitecture = "amd64"\npackage = "x"\ncolour = 1\n')
    with pytest.raises(LabError, match=r"guests\.toml, one: .*colour"):
        guests.load_guests(path)


def test_one_line_sources() -> None:
    text = (
        "# deb http://a/ x main\ndeb [arch=amd64 signed-by=/k] http://m/debian trixie main contrib # c\ndeb-src x y z\n"
    )
    assert read_one_line(text) == [Source("http://m/debian", "trixie", ("main", "contrib"))]


def test_deb822_sources() -> None:
    text = (
        "Types: deb deb-src\n# a remark\nURIs: http://m/debian\nSuites: trixie trixie-updates\n"
        "Components: main\nSigned-By:\n -----BEGIN\n .\n URIs: none\n\n"
        "Types: deb\nEnabled: no\nURIs: http://n\nSuites: s\n"
    )
    assert read_deb822(text) == [
        Source("http://m/debian", "trixie", ("main",)),
        Source("http://m/debian", "trixie-updates", ("main",)),
    ]


@pytest.mark.parametrize(
    ("pattern", "release"),
    [
        (r"^6\.12\.[^-]*-amd64$", "6.12.107+deb13-amd64"),
        (r"^7\.3[^-]*-amd64$", "7.3-amd64"),
        (r"^5\.", None),
    ],
)
def test_the_newest_match_wins(pattern: str, release: str | None) -> None:
    packages = [
        "linux-image-6.12.94+deb13-amd64", "linux-image-6.12.107+deb13-amd64-unsigned",
        "linux-image-amd64", "linux-image-6.12.107+deb13-cloud-amd64", "linux-image-6.12.200-amd64-dbg",
        "linux-binary-7.3-amd64", "linux-headers-7.4-amd64", "linux-image-7.3-rc2-amd64",
    ]  # fmt: skip
    assert newest(packages, pattern) == release


def test_modules_come_after_what_they_need(tmp_path: Path) -> None:
    listing = "k/a.ko.xz: k/b-c.ko.xz k/d.ko.xz\nk/b-c.ko.xz: k/d.ko.xz\nk/d.ko.xz:\n"
    (tmp_path / "modules.dep").write_text(listing)
    order = [path.name for path in module_order(tmp_path, ["b_c", "a", "lost"])]
    assert order == ["d.ko.xz", "b-c.ko.xz", "a.ko.xz"]
    assert module_order(tmp_path / "none", ["a"]) == []


def test_a_draft_takes_its_place_only_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "capture"
    with pytest.raises(ZeroDivisionError), building(target):
        _ = 1 // 0
    assert list(tmp_path.iterdir()) == []
    with building(target) as draft:
        (draft / "file").touch()
        assert not target.exists()
    assert [path.name for path in target.iterdir()] == ["file"]


@pytest.fixture
def core(tmp_path: Path) -> Path:
    """An ELF core with two stretches of memory and a PC's flash."""
    parts = [(0x1000, b"\1" * 0x1000), (0x20000, bytes(0x20000) + b"\2" * 16), (0xFFFC0000, b"\3" * 16)]
    head = b"\x7fELF\2\1\1" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, 3, 0, 0, 0)
    place, body = 512, b""
    for address, data in parts:
        head += struct.pack("<IIQQQQQQ", 1, 0, place + len(body), 0, address, len(data), len(data), 0)
        body += data
    path = tmp_path / "memory.elf"
    path.write_bytes(head + b"VMCOREINFO".ljust(place - len(head), b"\0") + body)
    return path


def test_a_core_becomes_raw(core: Path, tmp_path: Path) -> None:
    dumps.write_raw(core, tmp_path / "raw", "amd64")
    assert (tmp_path / "raw").read_bytes() == (
        bytes(0x1000) + b"\1" * 0x1000 + bytes(0x1E000) + bytes(0x20000) + b"\2" * 16
    )
    assert dumps.has_vmcoreinfo(core)


def test_a_core_becomes_lime(core: Path, tmp_path: Path) -> None:
    dumps.write_lime(core, tmp_path / "lime", "amd64")
    first = struct.pack("<4sIQQQ", b"EMiL", 1, 0x1000, 0x1FFF, 0) + b"\1" * 0x1000
    second = struct.pack("<4sIQQQ", b"EMiL", 1, 0x20000, 0x4000F, 0) + bytes(0x20000) + b"\2" * 16
    assert (tmp_path / "lime").read_bytes() == first + second


def test_ranges_become_a_core(tmp_path: Path) -> None:
    (tmp_path / "low").write_bytes(b"\1" * 0x1000 + bytes(0x20000))
    (tmp_path / "high").write_bytes(b"\2" * 24)
    dumps.write_core([(0, tmp_path / "low"), (0x9000_0000, tmp_path / "high")], tmp_path / "core", 8)
    found = dumps.segments(tmp_path / "core")
    assert [(part.address, part.size) for part in found] == [(0, 0x21000), (0x9000_0000, 24)]
    data = (tmp_path / "core").read_bytes()
    assert data[found[0].offset :][:0x21000] == b"\1" * 0x1000 + bytes(0x20000)
    assert data[found[1].offset :] == b"\2" * 24
    dumps.write_raw(tmp_path / "core", tmp_path / "raw", "mipsel")
    assert (tmp_path / "raw").stat().st_size == 0x9000_0018


def test_ram_that_is_seen_twice_counts_once() -> None:
    """Malta shows its low 256 MiB at two places."""
    view = """FlatView #0
      0000000000000000-000000000fffffff (prio 0, ram): mips_malta.ram
      000000001e000000-000000001e3fffff (prio 0, romd): mips_malta.bios
      0000000080000000-000000009fffffff (prio 0, ram): mips_malta.ram
      00000000c0000000-00000000c0ffffff (prio 1, ram): vga.vram
    """
    assert dumps.ram_ranges(view) == [range(0, 0x1000_0000), range(0x9000_0000, 0xA000_0000)]
    split = "  0000000000000000-00000000000fffff (prio 0, ram): pc.ram\n"
    split += "  0000000000100000-00000000001fffff (prio 0, ram): pc.ram @0000000000100000\n"
    assert dumps.ram_ranges(split) == [range(0, 0x10_0000), range(0x10_0000, 0x20_0000)]


def test_what_is_no_core_is_told(tmp_path: Path) -> None:
    (tmp_path / "memory.elf").write_bytes(bytes(64))
    with pytest.raises(LabError, match="not an ELF file"):
        dumps.segments(tmp_path / "memory.elf")


def test_the_truth_is_judged() -> None:
    lines = [b"ffffffff%08x t f%d" % (0xB0000000 + n, n) for n in range(10_000)]
    text = b"\n".join([*lines, b"ffffffffc0000000 t g\t[mod]", b""])
    assert counts({"kallsyms": text, "modules": b"mod 1\n"}) == {
        "core_symbols": 10_000, "module_symbols": 1, "zero_addresses": 0, "modules": 1,
    }  # fmt: skip
    with pytest.raises(LabError, match="only 1 kernel symbols"):
        counts({"kallsyms": lines[0]})
    with pytest.raises(LabError, match="hid its kernel addresses"):
        counts({"kallsyms": b"\n".join(b"0000000000000000 t f" for _ in lines)})


def test_kaslr_is_seen() -> None:
    places = landmarks(b"ffffffffb1800000 T _stext\nffffffffb1800000 T _stext\t[mod]\n")
    assert places == {"_stext": "ffffffffb1800000"}
    assert kaslr_seen("amd64", places) is True
    assert kaslr_seen("amd64", {"_text": "ffffffff81000000"}) is False
    assert kaslr_seen("amd64", {}) is None


def test_system_call_entries() -> None:
    assert system_call_entries(b"/dev/cpu/0/msr LSTAR b1800080 ffffffff\n") == ["ffffffffb1800080"]
