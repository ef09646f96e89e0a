"""Assembles and links what ``scripts/kallsyms`` writes, for machines of every word size and byte order."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.components import needs
from tests.oracle.writer import ByteOrder


@dataclass(frozen=True)
class Target:
    """A machine.

    Attributes:
        tools: what Debian's names of its binutils begin with.
        word_size: bytes of an address.
        byte_order: of numbers.
        text: where a kernel for it may begin.
        package: what has the binutils.
    """

    tools: str
    word_size: int
    byte_order: ByteOrder
    text: int
    package: str

    def __str__(self) -> str:
        return self.tools


def _target(tools: str, word_size: int, byte_order: ByteOrder, text: int) -> Target:
    return Target(tools, word_size, byte_order, text, f"binutils-{tools.replace('_', '-')}")


TARGETS = (
    _target("x86_64-linux-gnu", 8, "little", 0xFFFF_FFFF_8100_0000),
    _target("aarch64-linux-gnu", 8, "little", 0xFFFF_8000_8000_0000),
    _target("riscv64-linux-gnu", 8, "little", 0xFFFF_FFFF_8000_2000),
    _target("powerpc64le-linux-gnu", 8, "little", 0xC000_0000_0000_0000),
    _target("mips64el-linux-gnuabi64", 8, "little", 0xFFFF_FFFF_8010_0000),
    _target("s390x-linux-gnu", 8, "big", 0x10_0000),
    _target("sparc64-linux-gnu", 8, "big", 0x40_4000),
    _target("mips64-linux-gnuabi64", 8, "big", 0xFFFF_FFFF_8010_0000),
    _target("i686-linux-gnu", 4, "little", 0xC100_0000),
    _target("arm-linux-gnueabihf", 4, "little", 0xC030_0000),
    _target("powerpc-linux-gnu", 4, "big", 0xC000_0000),
    _target("mips-linux-gnu", 4, "big", 0x8010_0000),
)

_SECTION = ".rodata"
_CONDITION = "#if BITS_PER_LONG == 64"


def assemble(text: str, target: Target, address: int) -> bytes:
    """The tables' section, mapped at ``address``."""
    tools = {name: f"{target.tools}-{name}" for name in ("as", "ld", "objcopy")}
    needs(*tools.values(), package=target.package)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tables.s").write_text(_preprocessed(text, target.word_size), "latin-1")
        for command in (
            [tools["as"], "-o", "tables.o", "tables.s"],
            [
                tools["ld"], "-o", "tables.elf", "-e", "0", f"--section-start={_SECTION}={address:#x}",
                f"--defsym=_text={target.text:#x}", "tables.o",
            ],
            [tools["objcopy"], "-O", "binary", "-j", _SECTION, "tables.elf", "tables.bin"],
        ):  # fmt: skip
            subprocess.run([str(word) for word in command], cwd=folder, check=True, capture_output=True, timeout=120)
        return (folder / "tables.bin").read_bytes()


def _preprocessed(text: str, word_size: int) -> str:
    """The text less what it asks of the C preprocessor: one condition, and macros without arguments."""
    macros: dict[str, str] = {}
    kept, taken = [], True
    for line in text.splitlines():
        if line == _CONDITION:
            taken = word_size == 8
        elif line == "#else":
            taken = not taken
        elif line == "#endif":
            taken = True
        elif line.startswith("#define") and taken:
            _, macro, meaning = line.split(" ", 2)
            macros[macro] = meaning
        elif line.startswith(("#include", "#define")):
            continue
        elif line.startswith("#"):
            raise ValueError(f"the program asks the preprocessor something new: {line}")
        elif macros and (match := re.match(r"\t([A-Z]+)\b", line)):
            kept.append(line.replace(match[1], macros[match[1]], 1))
        else:
            kept.append(line)
    return "\n".join(kept) + "\n"
