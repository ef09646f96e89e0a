"""Where kernels of an architecture are linked, and where only those lie that moved when they booted."""

from __future__ import annotations

import pytest

from kallsift.arch.registry import LINK_RULES

LINKED = {
    "arm64": (
        0xFFFF_FFC0_0008_0000,  # up to 4.5: the beginning of the linear map, 39 and 48 bits
        0xFFFF_8000_0008_0000,
        0xFFFF_FF80_0808_0000,  # 4.6 to 4.20: behind 128 MiB of modules
        0xFFFF_0000_0808_0000,
        0xFFFF_2000_0808_0000,  # with KASAN's shadow before it
        0xFFFF_0000_1008_0000,  # 5.0 to 5.12: behind 128 MiB of BPF programs as well
        0xFFFF_8000_1000_0000,
        0xFFFF_A000_1000_0000,  # with KASAN's shadow, 5.4 to 5.10
        0xFFFF_FFC0_0800_0000,  # 5.13 to 6.4: behind 128 MiB
        0xFFFF_8000_0800_0000,
        0xFFFF_8000_8000_0000,  # since 6.5: behind 2 GiB
        0xFFFF_FFC0_8001_0000,  # _stext
        0xFFFF_FFF8_8000_0000,  # 36 bits
    ),
    "x86-64": (0xFFFF_FFFF_8100_0000, 0xFFFF_FFFF_8020_0000),
    "x86": (0xC100_0000, 0xC010_0000, 0x8100_0000),
    "s390x": (0x10_0000, 0),
    "riscv64": (0xFFFF_FFFF_8000_0000, 0xFFFF_FFE0_0000_0000),
    "loongarch64": (0x9000_0000_0020_0000,),
    "ppc64": (0xC000_0000_0000_0000,),
}

MOVED = {
    "arm64": (0xFFFF_AA4D_72E0_0000, 0xFFFF_8000_0820_0000, 0xFFFF_B000_9000_0000, 0xFFFF_A5C0_8000_0000),
    "x86-64": (0xFFFF_FFFF_8120_0000, 0xFFFF_FFFF_B660_0000),
    "x86": (0xD700_0000,),
    "s390x": (0x3FF_FE4A_8000, 0x3FF_E000_0000, 0x1234_5000),
    "riscv64": (0xFFFF_FFFF_8020_0000,),
    "loongarch64": (0x9000_0000_0068_0000,),
}


@pytest.mark.parametrize("architecture", LINKED)
def test_link_addresses(architecture: str) -> None:
    assert [address for address in LINKED[architecture] if not LINK_RULES[architecture](address)] == []


@pytest.mark.parametrize("architecture", MOVED)
def test_addresses_of_kernels_that_moved(architecture: str) -> None:
    assert [address for address in MOVED[architecture] if LINK_RULES[architecture](address)] == []
