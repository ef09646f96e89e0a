"""A small valid file of each container, by the name of the module that reads it."""

from __future__ import annotations

import bz2
import gzip
import struct
from collections.abc import Callable
from functools import partial

import numpy as np

from tests.image.builders import lzop
from tests.memory.builders import Program, elf, lime, load, note, notes
from tests.memory.writers import avml, hyperv, kdump, libvirt, qemu, virtualbox, vmware, xen

_WORDS = b"".join(struct.pack("<Q", number) for number in range(512))


def _elf() -> bytes:
    return elf(
        [notes(note(b"CORE", 1, bytes(336)), note(b"QEMU", 0, bytes(440))), load(0, _WORDS), load(1 << 32, _WORDS)]
    )


def _virtualbox() -> bytes:
    processor = virtualbox.processor({"cr3": 0x1000, "lstar": 1 << 63})
    return virtualbox.core([(0, _WORDS), (1 << 32, _WORDS)], [processor, processor])


def _xen() -> bytes:
    frames = [(number, _WORDS) for number in (1, 2, 3, 0x100, xen.NOWHERE, 0x101, 0x100000)]
    return xen.core(frames, [xen.context(1, {3: 0x1000})])


def _lime() -> bytes:
    return lime([(0x1000, _WORDS), (0x100000, _WORDS), (1 << 32, _WORDS)])


def _avml() -> bytes:
    return avml.avml([(0x1000, _WORDS * 40), (0x100000, _WORDS), (1 << 32, _WORDS[::-1])])


def _wrapped() -> bytes:
    return gzip.compress(_lime(), mtime=0)


def _wrapped_bzip2() -> bytes:
    noise = np.random.default_rng(1).integers(0, 256, 150_000, np.uint8).tobytes()
    return bz2.compress(lime([(0x1000, noise), (1 << 32, _WORDS)]), 1)


def _wrapped_lzop() -> bytes:
    return lzop(lime([(0x1000, _WORDS * 150), (1 << 32, _WORDS)]))


def _qemu_stream() -> bytes:
    block = "mach-virt.ram"
    pages = [qemu.Page(block, number, _WORDS) for number in range(24)]
    again = [
        qemu.Page(block, 3, bytes(1), "filled"),
        *(qemu.Page(block, number, b"\7", "filled") for number in range(24, 40)),
        qemu.Page(block, 5, _WORDS, "compressed"),
    ]
    fields = [
        {"name": "env.eip", "size": 8},
        {"name": "env.segs", "array_len": 6, "size": 12, "struct": {"fields": [{"name": "base", "size": 8}]}},
        {"name": "cpreg_vmstate_indexes", "array_len": 2, "size": 8},
        {"name": "cpreg_vmstate_values", "array_len": 2, "size": 8},
    ]
    indexes = struct.pack(">QQ", 0x603000000013C101, 0x603000000013C600)
    processor = qemu.Section("cpu", 0, bytes(80) + indexes + bytes(16), fields)
    other = qemu.Section("spapr/htab", 0, b"1234")
    sizes = {block: 48 * qemu.PAGE, "vga.vram": qemu.PAGE}
    return qemu.stream(sizes, [pages, again], machine="virt-7.2", others=(other,), devices=(processor,))


def _qemu_flat() -> bytes:
    return qemu.flat({"mach-virt.ram": _WORDS + bytes(8192) + _WORDS, "virt.flash0": bytes(4096)}, "virt-9.0")


def _libvirt_save() -> bytes:
    return libvirt.header("raw") + _qemu_stream()


def _libvirt_gzip() -> bytes:
    return libvirt.header("gzip") + gzip.compress(_qemu_stream())


def _vmware() -> bytes:
    cpu = vmware.tag("rip", bytes(8), 0) + vmware.tag("CR64", bytes(8), 0, 3) + vmware.block("IDTR", bytes(10), 0)
    memory = vmware.regions([(0, 0, 1), (1, 0x100000, 1)]) + vmware.block("Memory", 2 * _WORDS, 0, 0)
    return vmware.state({"cpu": cpu, "memory": memory})


def _hyperv() -> bytes:
    ram, record = _WORDS.ljust(hyperv.BLOCK, b"\0"), hyperv.partition([hyperv.x86(0, {"cr3": 0x1000})])
    return hyperv.saved_state(2 * ram, [(256, 0, 0), (256, 256, 1 << 20)], record)


def _kcore() -> bytes:
    mapped = Program(1, b"", (1 << 64) - 1, 0xFFFFC90000000000, file_size=1 << 44, offset=1 << 46)
    image = Program(1, b"", 0x101000, 0xFFFFFFFF81000000, file_size=4096, offset=1 << 47)
    ram = [load(place, _WORDS, 0xFFFF888000000000 + place) for place in (0x1000, 0x100000)]
    return elf([notes(note(b"VMCOREINFO", 0, b"OSRELEASE=1\n")), image, mapped, *ram])


def _kdump(packing: str) -> bytes:
    pages = dict.fromkeys(range(3, 9), _WORDS) | {12: bytes(4096), 13: bytes(4096), 14: _WORDS[::-1]}
    return kdump.kdump(pages, kdump.Kdump(packing=packing, notes=note(b"QEMU", 0, bytes(440)), vmcoreinfo=b"OS=1\n"))


def _flattened_kdump() -> bytes:
    return kdump.flattened(kdump.cut(_kdump("zlib"), 5000))


def _flattened_elf() -> bytes:
    return kdump.flattened([*kdump.cut(_elf(), 3000), (0, _elf()[:64])])


SAMPLES: dict[str, tuple[Callable[[], bytes], ...]] = {
    "elf_core": (_elf, _virtualbox),
    "xen_core": (_xen,),
    "lime": (_lime,),
    "avml": (_avml,),
    "compressed": (_wrapped, _wrapped_bzip2, _wrapped_lzop),
    "qemu.migration_stream": (_qemu_stream, _qemu_flat),
    "libvirt_save": (_libvirt_save, _libvirt_gzip),
    "vmware": (_vmware,),
    "hyperv.saved_state": (_hyperv,),
    "kdump.reader": tuple(partial(_kdump, packing) for packing in kdump.PACKED),
    "makedumpfile_flat": (_flattened_kdump, _flattened_elf),
    "proc_kcore": (_kcore,),
}
"""What is damaged; whoever adds a container adds its row."""
