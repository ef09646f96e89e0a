"""What is imported when: the package's names lazily, and for a command nothing that it does not need."""

from __future__ import annotations

import ast
import gzip
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import kallsift
from kallsift.memory.formats import registry as containers
from tests.kernel.era_images import image
from tests.oracle.eras import ERAS

PAGE = 4096

NEVER = (
    "bz2",
    "lzma",
    "backports.zstd",
    "cramjam",
    "elftools",
    "lz4",
    "lzallright",
    "numpy.ma",
    "numpy.random",
    "rich",
)
"""Compressions, ELF files, masked arrays, chance and what draws help: for those who need them alone."""

HARDER = (
    "compression.codecs",
    "image.unpack",
    "kallsyms.solvers.scattered",
    "kallsyms.damaged.solver",
    "kallsyms.solvers.before_2_6_10",
    "kallsyms.solvers.identifier_regions",
    "kallsyms.damaged.stream_walk",
    "kernel.recovery.from_address",
    "memory.formats.avml",
    "memory.formats.hyperv.saved_state",
    "memory.formats.kdump.reader",
    "memory.formats.qemu.migration_stream",
    "memory.spool",
    "memory.formats.vmware",
    "memory.live.qemu",
    "modules.field_inference",
    "modules.exports.exports",
    "modules.module_reader",
    "output.symbols.csv_writer",
    "output.elf.writer",
    "output.symbols.json_writer",
    "output.text.types",
    "types.find",
    "analysis.comparison",
    "analysis.address_space.layout",
    "analysis.listings.elf",
    "analysis.hypervisor.vmcs",
)
"""Modules of the package that an undamaged dump does not need."""


def loaded_by(code: str, *arguments: str) -> set[str]:
    """Run some code in a Python of its own, and return the modules that it leaves behind."""
    tail = "\nimport sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code + tail, *arguments], capture_output=True, check=True, text=True)
    return set(run.stdout.split())


def test_the_command_alone_needs_no_arrays() -> None:
    """Help, versions and wrong usage are answered without them."""
    assert "numpy" not in loaded_by("import kallsift.cli.app")


def test_the_package_alone_imports_nothing() -> None:
    loaded = loaded_by("import kallsift")
    assert {name for name in loaded if name.partition(".")[0] == "kallsift"} == {"kallsift"}
    assert not loaded & {"numpy", "click", *NEVER}


def test_each_name_is_imported_from_where_type_checkers_see_it() -> None:
    tree = ast.parse(Path(kallsift.__file__).read_text("utf-8"))
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    seen = {
        alias.name: node.module for node in imports if str(node.module).startswith("kallsift") for alias in node.names
    }
    assert sorted(seen) == sorted(kallsift.__all__)
    for name, module in seen.items():
        assert getattr(kallsift, name) is getattr(import_module(str(module)), name), name
    assert set(kallsift.__all__) <= set(dir(kallsift))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = kallsift.nothing  # type: ignore[attr-defined]


def test_a_raw_dump_needs_little(tmp_path: Path) -> None:
    _, data = image(ERAS[-1], 8, "little", False)
    dump = tmp_path / "memory.raw"
    # the kernel stands at 1 MiB, so that nothing takes the file for an image
    dump.write_bytes(bytes(1 << 20) + data + bytes(-len(data) % PAGE))
    code = "import sys; from kallsift.cli.app import run; run(['symbols', sys.argv[1], '-o', sys.argv[2]])"
    loaded = loaded_by(code, str(dump), str(tmp_path / "symbols"))
    assert "kallsift.kallsyms.solvers.adjacent" in loaded
    needless = {*NEVER, *(f"kallsift.{name}" for name in HARDER)}
    # nothing in the file says that it is no image, so that the formats of images are asked too, and their proofs
    assert loaded & needless <= {"bz2", "lzma", "numpy.ma", "kallsift.compression.codecs", "kallsift.image.unpack"}


def test_an_undamaged_compressed_dump_needs_no_other_formats(tmp_path: Path) -> None:
    dump = tmp_path / "memory.gz"
    dump.write_bytes(gzip.compress(bytes(1 << 20)))
    code = (
        "import sys, numpy; from kallsift.memory.formats import registry; "
        "registry.open_mapped('dump', numpy.fromfile(sys.argv[1], numpy.uint8))"
    )
    loaded = loaded_by(code, str(dump))
    assert "kallsift.memory.spool" in loaded
    formats = ("avml", "lime", "qemu.migration_stream", "stream_end")
    assert not loaded & {f"kallsift.memory.formats.{name}" for name in formats}


def test_the_facade_needs_no_answers_of_others() -> None:
    loaded = loaded_by("import kallsift; kallsift.Kernel, kallsift.recover")
    assert "kallsift.facade" in loaded
    assert not {
        name
        for name in loaded
        if name.startswith(("kallsift.analysis", "kallsift.modules", "kallsift.output", "kallsift.types"))
    }
    assert not loaded & {"click", "pandas", "polars", "pyarrow", *NEVER}


def test_built_in_symbols_need_nothing_of_loaded_modules() -> None:
    loaded = loaded_by("import kallsift.cli.commands.symbols")
    assert not {name for name in loaded if name.startswith(("kallsift.analysis.", "kallsift.modules."))}


@pytest.mark.parametrize("name", containers.CONTAINERS)
def test_each_container_is_asked_for_what_it_takes(name: str) -> None:
    module = import_module(f"kallsift.memory.formats.{name}")
    # of an ELF file or an archive more than the mark is looked at, and of a compressed one as much
    whole = {"archives", "xen_core", "proc_kcore", "makedumpfile_flat", "compressed"}
    taken = [module.probe(mark.ljust(containers.HEADER_SIZE, b"\0")) for mark in containers.CONTAINERS[name]]
    assert name in whole or all(taken)


@pytest.mark.parametrize("mark", sorted({mark for marks in containers.CONTAINERS.values() for mark in marks if mark}))
def test_no_container_takes_what_it_is_not_asked_for(mark: bytes) -> None:
    header = mark.ljust(containers.HEADER_SIZE, b"\0")
    asked = {name for name, marks in containers.CONTAINERS.items() if header.startswith(marks)}
    modules = ((name, import_module(f"kallsift.memory.formats.{name}")) for name in containers.CONTAINERS)
    assert {name for name, module in modules if module.probe(header)} <= asked


def test_cores_are_no_images() -> None:
    core = np.zeros(64, np.uint8)
    core[:4] = np.frombuffer(b"\x7fELF", np.uint8)
    core[16] = 4
    assert containers.is_no_image(core.tobytes())
    core[16] = 2
    assert not containers.is_no_image(core.tobytes())
    assert containers.is_no_image(b"EMiL")
    assert not containers.is_no_image(b"\x1f\x8b\x08")
    assert not containers.is_no_image(b"")
