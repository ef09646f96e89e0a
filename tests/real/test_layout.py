"""The layout of real kernels, against what they said of it themselves: iomem, boot messages, VMCOREINFO, registers."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import kallsift
from kallsift.analysis.address_space.layout import Layout, layout
from kallsift.arch.page_table_ranges import MappedRanges
from kallsift.arch.paging import EXECUTE, WRITE
from kallsift.arch.paging import translate as translated
from kallsift.arch.registry import mapping_named
from kallsift.kallsyms.evidence import Outcome
from kallsift.kernel.access.virtual_memory import virtual_memory
from tests.lab import Capture, LabError
from tests.real.conftest import GUESTS, Taken
from tests.real.listed import changed, listed, resources, running, text_only

IOMEM = {
    "x86": {
        "Kernel code": ("text", "text"),
        "Kernel rodata": ("rodata", "rodata"),
        "Kernel data": ("data", "data"),
        "Kernel bss": ("bss", "bss"),
    },
    "arm64": {"Kernel code": ("image", "rodata"), "Kernel data": ("data", "image")},
    "s390x": {"Kernel code": ("text", "text"), "Kernel data": ("rodata", "data"), "Kernel bss": ("bss", "bss")},
}
"""By architecture: in which region each resource begins, and in which it ends (arch/*/kernel/setup.c)."""

PAGE = 4096
BOOT_MESSAGE = re.compile(
    rb"Memory: \d+K/\d+K available "
    rb"\((\d+)K kernel code, (\d+)K rwdata, (\d+)K rodata, (\d+)K init, (\d+)K bss, (\d+)K reserved"
)


@cache
def laid_out(dump: Path) -> Layout:
    """The layout of the kernel in a dump, made once for all tests."""
    return layout(running(dump))


def recovered(capture: Capture) -> tuple[kallsift.Kernel, Layout]:
    return running(capture.dump("elf")), laid_out(capture.dump("elf"))


def region(found: Layout, name: str) -> tuple[int, int, int]:
    """Start, end and physical place of the first region of that name."""
    chosen = next(region for region in found.regions if region.name == name)
    return chosen.start, chosen.end, -1 if chosen.physical is None else chosen.physical


@pytest.mark.parametrize("guest", GUESTS)
def test_nothing_contradicts_it_and_nothing_is_left_over(taken: Taken, guest: str) -> None:
    kernel, found = recovered(taken(guest))
    assert found.agrees
    assert found.page_table is not None
    assert found.page_table.ranges.whole
    assert [region for region in found.regions if not region.name] == [] or "_end" not in kernel.symbols
    assert next(region for region in found.regions if region.name == "direct map").check.outcome is Outcome.PASSED


@pytest.mark.parametrize("guest", GUESTS)
def test_the_image_lies_where_iomem_says(taken: Taken, guest: str) -> None:
    capture = taken(guest)
    kernel, found = recovered(capture)
    architecture = (kernel.architecture or "").split("-")[0]
    truth = resources(capture)
    names = {region.name: region for region in found.regions}
    compared = 0
    for resource, (first, last) in IOMEM[architecture].items():
        if resource in names:  # where only text is listed
            one = names[resource]
            assert one.physical is not None
            assert (one.physical, one.physical + one.size - 1) == truth[resource]
        else:
            start, end = names[first], names[last]
            assert start.physical is not None
            assert end.physical is not None
            if architecture == "arm64" and resource == "Kernel code":
                assert start.physical == truth[resource][0]
                assert end.physical + end.size <= truth[resource][1] + 1 == names["init"].physical
            else:
                assert (start.physical, end.physical + end.size - 1) == truth[resource]
        compared += 1
    assert compared >= 2


@pytest.mark.parametrize("guest", GUESTS)
def test_sizes_are_those_of_the_boot_message(taken: Taken, guest: str) -> None:
    capture = taken(guest)
    _, found = recovered(capture)
    message = BOOT_MESSAGE.search(capture.truth("dmesg"))
    assert message is not None
    code, data, rodata, init, bss, _ = (int(part) for part in message.groups())
    sizes = {region.name: region.size >> 10 for region in found.regions}
    assert sizes["text"] == code
    for name, size in (("data", data), ("rodata", rodata), ("init", init), ("bss", bss)):
        if name in sizes:
            assert sizes[name] == size, name
    assert len(sizes.keys() & {"data", "rodata", "init", "bss"}) == 4 or "Kernel bss" in sizes


@pytest.mark.parametrize("guest", GUESTS)
def test_the_bounds_that_vmcoreinfo_has(taken: Taken, guest: str) -> None:
    """Kernels of arm64 write their own layout there; the guest says where in its memory it is."""
    capture = taken(guest)
    _, found = recovered(capture)
    place, size = (int(word, base) for word, base in zip(capture.truth("vmcoreinfo").split(), (16, 10), strict=True))
    with kallsift.open(capture.dump("elf")) as memory:
        text = memory.read(place, 4 * size).tobytes().decode("latin-1")
    numbers = {name: int(value, 0) for name, value in re.findall(r"NUMBER\((\w+)\)=(0x[0-9a-f]+|\d+)\n", text)}
    if "VMALLOC_END" not in numbers:
        pytest.skip("this architecture's VMCOREINFO has no layout")
    assert region(found, "direct map")[2] == numbers["PHYS_OFFSET"]
    assert region(found, "vmalloc")[:2] == (numbers["VMALLOC_START"], numbers["VMALLOC_END"])
    assert region(found, "vmemmap")[:2] == (numbers["VMEMMAP_START"], numbers["VMEMMAP_END"])
    modules = {(one.start, one.end) for one in found.regions if one.name == "modules"}
    assert (numbers["MODULES_VADDR"], numbers["MODULES_END"]) in modules


@pytest.mark.parametrize("guest", GUESTS)
def test_modules_lie_where_they_belong(taken: Taken, guest: str) -> None:
    capture = taken(guest)
    _, found = recovered(capture)
    bases = [int(line.split()[5], 16) for line in capture.truth("modules").decode().splitlines()]
    bases = [base for base in bases if base]
    assert len(bases) > 20
    for base in bases:
        names = [region.name for region in found.at(base)]
        assert any("modules" in name for name in names), hex(base)


@pytest.mark.parametrize("guest", GUESTS)
def test_registers_point_where_they_must(taken: Taken, guest: str) -> None:
    """The processors' per-CPU areas, and the interrupt table, as QEMU has them in registers."""
    capture = taken(guest)
    kernel, found = recovered(capture)
    text = (capture.folder / "registers.txt").read_text()
    if not (kernel.architecture or "").startswith("x86"):
        pytest.skip("these registers are x86's")
    tables = [int(value, 16) for value in re.findall(r"IDT= +([0-9a-f]+)", text)]
    assert tables
    for table in tables:
        assert any("cpu entry area" in region.name for region in found.at(table))
    symbols = listed(capture)
    if kernel.architecture == "x86-64" and symbols.get("__per_cpu_start") == 0:
        for base in (int(value, 16) for value in re.findall(r"GS =0000 ([0-9a-f]+)", text)):
            assert "per-CPU areas" in [region.name for region in found.at(base)]


@pytest.mark.parametrize("guest", GUESTS)
def test_ranges_are_what_single_addresses_translate_to(taken: Taken, guest: str) -> None:
    """Random addresses, half of them mapped: the list of ranges against the walk for each address."""
    kernel, found = recovered(taken(guest))
    assert found.page_table is not None
    ranges: MappedRanges = found.page_table.ranges
    mode = mapping_named(kernel.architecture, kernel.paging, kernel.byte_order)
    assert mode is not None
    random = np.random.default_rng(5)
    chosen = random.integers(0, len(ranges), 4000)
    inside = ranges.starts[chosen] + random.integers(0, 1 << 62, 4000).astype(np.uint64) % ranges.sizes[chosen]
    behind = ranges.starts[chosen] + ranges.sizes[chosen] + np.uint64(8)
    addresses = np.concatenate((inside, behind & np.uint64(found.page_table.mask)))
    physical, mapped = translated(kernel.memory, mode, kernel.page_table_root, addresses)
    owner = np.searchsorted(ranges.starts, addresses, side="right") - 1
    held = (owner >= 0) & (addresses - ranges.starts[owner] < ranges.sizes[owner])
    assert np.array_equal(held, mapped)
    wanted = ranges.physical[owner] + (addresses - ranges.starts[owner])
    assert np.array_equal(wanted[held], physical[held])
    assert mapped[:4000].all()


@pytest.mark.parametrize("guest", GUESTS)
def test_what_is_executed_cannot_be_written(taken: Taken, guest: str) -> None:
    """CONFIG_STRICT_KERNEL_RWX: of the kernel's text nothing may be written, of its rodata nothing executed."""
    kernel, found = recovered(taken(guest))
    assert found.page_table is not None
    for name, forbidden, wanted in (("text", WRITE, EXECUTE), ("rodata", WRITE | EXECUTE, 0)):
        bounds = next((one for one in found.regions if one.name in (name, f"Kernel {name}")), None)
        assert bounds is not None
        if name == "rodata" and kernel.architecture == "x86":
            forbidden = WRITE  # without PAE all that can be read can be executed
        pages = found.page_table.ranges.inside(bounds.start // PAGE * PAGE + PAGE, bounds.end // PAGE * PAGE)
        assert not (pages.grants & forbidden).any(), name
        assert (pages.grants & wanted == wanted).all(), name


@pytest.mark.parametrize("guest", GUESTS)
def test_as_the_kernel_lists_its_page_table(taken: Taken, guest: str) -> None:
    """``/sys/kernel/debug/page_tables``: what is mapped of the image, and what each page of it grants."""
    capture = taken(guest)
    try:
        text = capture.truth("page_tables").decode()
    except LabError:
        pytest.skip("this capture has no listing of the kernel's page table")
    if not re.search(r"[0-9a-f]-(0x)?[0-9a-f]", text):
        pytest.skip("this guest's debugfs lists no page table")
    _, found = recovered(capture)
    assert found.page_table is not None
    start, end, _ = region(found, "image" if any(one.name == "image" for one in found.regions) else "text")
    pages = found.page_table.ranges.inside(start // PAGE * PAGE, end // PAGE * PAGE)
    ours = {}
    for place, size, grants in zip(pages.starts.tolist(), pages.sizes.tolist(), pages.grants.tolist(), strict=True):
        for page in range(place, place + size, PAGE):
            ours[page] = bool(grants & WRITE)
    theirs = {}
    for line in text.splitlines():
        match = re.match(r"(?:0x)?([0-9a-f]+)-(?:0x)?([0-9a-f]+)\s+\d+[KMGTPE]\s+(.*)", line)
        if match is None:
            continue
        low, high = (int(part, 16) for part in match.groups()[:2])
        flags = match[3].split()
        if not {"RW", "ro", "RO"} & set(flags):
            continue
        for page in range(max(low, start // PAGE * PAGE), min(high, end // PAGE * PAGE), PAGE):
            theirs[page] = "RW" in flags
    assert theirs
    assert ours == theirs


@pytest.mark.parametrize("guest", GUESTS)
def test_without_data_symbols(taken: Taken, guest: str) -> None:
    """No variable can be read then: the page table alone has the direct map and the array of pages."""
    kernel, whole = recovered(taken(guest))
    found = layout(text_only(kernel))
    assert found.agrees
    for name in ("direct map", "vmemmap"):
        if any(one.name == name for one in whole.regions):
            assert region(found, name)[0] == region(whole, name)[0]


@pytest.mark.parametrize("guest", GUESTS)
def test_a_variable_that_lies_is_found_out(taken: Taken, guest: str) -> None:
    """The variable that gives the direct map's place is overwritten in a copy: the page table contradicts it."""
    capture = taken(guest)
    kernel, _ = recovered(capture)
    variable = {"x86-64": "page_offset_base", "arm64": "memstart_addr"}.get(kernel.architecture or "", "")
    if variable not in kernel.symbols:
        pytest.skip("no variable of this kernel gives the direct map's place")
    address = kernel.symbols[variable].address
    found = layout(changed(capture, {address: virtual_memory(kernel).value(address) + (1 << 30)}))
    assert not found.agrees
    assert next(one for one in found.regions if one.name == "direct map").check.outcome is Outcome.FAILED


@pytest.mark.parametrize("guest", GUESTS)
def test_an_image_has_its_own_layout_alone(taken: Taken, guest: str) -> None:
    capture = taken(guest)
    _, running = recovered(capture)
    with kallsift.open(capture.kernel_image) as memory:
        found = layout(kallsift.recover(memory))
    assert found.page_table is None
    sizes = {one.name: one.size for one in running.regions if one.of_image and not one.name.startswith("Kernel ")}
    assert sizes == {one.name: one.size for one in found.regions}
