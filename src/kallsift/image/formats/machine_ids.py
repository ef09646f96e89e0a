"""Map the machine numbers of image headers to names of architectures as in `kallsift.arch`."""

from __future__ import annotations

ELF_MACHINES: dict[tuple[int, int], str] = {
    (2, 32): "sparc",
    (3, 32): "x86",
    (4, 32): "m68k",
    (8, 32): "mips",
    (8, 64): "mips64",
    (15, 32): "parisc",
    (15, 64): "parisc64",
    (20, 32): "ppc",
    (21, 64): "ppc64",
    (22, 32): "s390",
    (22, 64): "s390x",
    (40, 32): "arm",
    (42, 32): "sh",
    (43, 64): "sparc64",
    (50, 64): "ia64",
    (62, 32): "x86-64",
    (62, 64): "x86-64",
    (92, 32): "openrisc",
    (93, 32): "arc",
    (94, 32): "xtensa",
    (113, 32): "nios2",
    (183, 64): "arm64",
    (189, 32): "microblaze",
    (195, 32): "arc",
    (243, 32): "riscv32",
    (243, 64): "riscv64",
    (252, 32): "csky",
    (258, 32): "loongarch32",
    (258, 64): "loongarch64",
    (0x9026, 64): "alpha",
}
"""Architectures by e_machine and word width (System V gABI, "ELF Header").

A 64-bit x86 program may be a 32-bit ELF file.
"""

PE_MACHINES: dict[int, str] = {
    0x014C: "x86",
    0x01C0: "arm",
    0x01C2: "arm",
    0x01C4: "arm",
    0x5032: "riscv32",
    0x5064: "riscv64",
    0x6232: "loongarch32",
    0x6264: "loongarch64",
    0x8664: "x86-64",
    0xAA64: "arm64",
}
"""Architectures by Machine of the COFF header (PE Format, "Machine Types")."""

UIMAGE_ARCHITECTURES: dict[int, str] = {
    1: "alpha",
    2: "arm",
    3: "x86",
    4: "ia64",
    5: "mips",
    6: "mips64",
    7: "ppc",
    8: "s390",
    9: "sh",
    10: "sparc",
    11: "sparc64",
    12: "m68k",
    22: "arm64",
    24: "x86-64",
    25: "xtensa",
    26: "riscv64",
}
"""Architectures by ih_arch (IH_ARCH_*, include/image.h of U-Boot).

The numbers of PowerPC and RISC-V stand for kernels of both widths.
"""

FIT_ARCHITECTURES: dict[str, str] = {
    "alpha": "alpha",
    "arm": "arm",
    "arm64": "arm64",
    "ia64": "ia64",
    "loongarch": "loongarch64",
    "m68k": "m68k",
    "mips": "mips",
    "mips64": "mips64",
    "powerpc": "ppc",
    "ppc": "ppc",
    "riscv": "riscv64",
    "s390": "s390",
    "sh": "sh",
    "sparc": "sparc",
    "sparc64": "sparc64",
    "x86": "x86",
    "x86_64": "x86-64",
    "xtensa": "xtensa",
}
"""Architectures by the property ``arch`` of an image node (uimage_arch of boot/image.c in U-Boot)."""
