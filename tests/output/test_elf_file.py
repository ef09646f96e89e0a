"""ELF files of kernels made by hand, read back by others: pyelftools, and binutils where it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kallsift.addresses import PhysicalAddress, VirtualAddress
from kallsift.errors import KallsiftError
from kallsift.kernel.kernel import TableLocation
from kallsift.kernel.placement.rebase import image_base, rebased
from kallsift.memory.memory import AddressSpace, Hints, ImageFacts, Memory
from kallsift.memory.segments import BytesSegment
from kallsift.output.elf.machines import MACHINES
from kallsift.output.elf.writer import elf_file
from tests.components import needs
from tests.examples import examples
from tests.output.elf_kernel import BASE, CONTENT, ROWS, SIZE, SLIDE, SOURCE, built, output_of, read, written
from tests.output.sample import Row, kernel

pytestmark = pytest.mark.sampled(5)

FACTS = ImageFacts(("bzImage", "zstd"), 0)


def symbols_of(elf: Any) -> list[tuple[int, str]]:
    """Value and name of each symbol but the null symbol."""
    table = elf.get_section_by_name(".symtab")
    return [(symbol["st_value"], symbol.name) for symbol in table.iter_symbols()][1:]


def image_of(elf: Any) -> list[Any]:
    """The sections that divide the image."""
    return [s for s in elf.iter_sections() if s["sh_flags"] & 2 and s["sh_size"]]


@pytest.mark.parametrize("gaps", [(), [(0x1000, 0x3000), (0x4000, 0x5000)], [(0, SIZE)]])
def test_nm_prints_the_table(tmp_path: Path, gaps: Sequence[tuple[int, int]]) -> None:
    out, err = output_of(written(elf_file(built(gaps=gaps))), tmp_path, "nm", "--special-syms")
    assert err == ""
    assert sorted(out.splitlines()) == sorted(f"{address:016x} {letter} {name}" for address, letter, name in ROWS)


@pytest.mark.parametrize("unslid", [False, True])
def test_readelf_has_no_complaint(tmp_path: Path, unslid: bool) -> None:
    noted = content_with({0x2804: note(b"x" * 20)})
    data = written(elf_file(built(content=noted, gaps=[(0x3000, 0x4000)]), unslid=unslid))
    out, err = output_of(data, tmp_path, "readelf", "-aW")
    assert err == ""
    assert "warning" not in out.lower()
    assert f"Build ID: {b'x'.hex() * 20}" in out


def test_the_content_is_the_memorys() -> None:
    elf = read(written(elf_file(built())))
    for segment in elf.iter_segments():
        offset = segment["p_vaddr"] - BASE
        assert segment.data() == CONTENT[offset : offset + segment["p_memsz"]].tobytes()
        assert segment["p_paddr"] == SOURCE + offset
        assert (segment["p_offset"] - segment["p_vaddr"]) % segment["p_align"] == 0
    assert sum(segment["p_filesz"] for segment in elf.iter_segments()) == SIZE
    assert elf["e_entry"] == BASE


def test_sections_cover_the_image_without_overlap() -> None:
    sections = image_of(read(written(elf_file(built(gaps=[(0x1000, 0x2000)])))))
    ends = [section["sh_addr"] + section["sh_size"] for section in sections]
    assert [section["sh_addr"] for section in sections] == [BASE, *ends[:-1]]
    assert ends[-1] == BASE + SIZE
    assert len({section.name for section in sections}) == len(sections)


def test_symbols_have_types_and_sizes() -> None:
    elf = read(written(elf_file(built())))
    table = elf.get_section_by_name(".symtab")
    found = {s.name: (s["st_info"]["bind"], s["st_info"]["type"], s["st_size"]) for s in table.iter_symbols()}
    assert found["init"] == ("STB_LOCAL", "STT_FUNC", 0xC0)
    assert found["arch_weak"] == ("STB_WEAK", "STT_FUNC", 0x23)
    assert found["last_function"] == ("STB_GLOBAL", "STT_FUNC", 0x2000 - 0x123)
    assert found["_etext"][2] == 0
    assert found["weak_object"][:2] == ("STB_WEAK", "STT_OBJECT")
    assert found["datum"] == ("STB_LOCAL", "STT_OBJECT", 0xF00)
    assert found["_end"][2] == 0
    assert found["fixed_percpu_data"] == ("STB_GLOBAL", "STT_NOTYPE", 0)
    binds = [s["st_info"]["bind"] for s in table.iter_symbols()]
    assert table["sh_info"] == binds.count("STB_LOCAL") == next(i for i, b in enumerate(binds) if b != "STB_LOCAL")


def test_what_was_written_into_zeroed_memory_stands_in_its_only_section() -> None:
    elf = read(written(elf_file(built())))
    (bss,) = (section for section in elf.iter_sections() if section.name.startswith(".bss") and section["sh_size"])
    assert bss["sh_type"] == "SHT_PROGBITS"
    offset = bss["sh_addr"] - BASE
    assert bss.data() == CONTENT[offset : offset + bss["sh_size"]].tobytes()
    zero = CONTENT.copy()
    zero[0x6000:] = 0
    assert read(written(elf_file(built(content=zero)))).get_section_by_name(".bss")["sh_type"] == "SHT_NOBITS"


def test_objcopy_has_no_complaint(tmp_path: Path) -> None:
    out, err = output_of(written(elf_file(built())), tmp_path, "objcopy")
    assert (out, err) == ("", "")


SMALL: tuple[Row, ...] = (
    (BASE + 0x4200, "G", "small_datum"),
    (BASE + 0x4204, "g", "small_local"),
    (BASE + 0x4300, "d", "large_again"),
    (BASE + 0x6800, "S", "small_zeroed"),
    (BASE + 0x6804, "s", "small_zeroed_local"),
    (BASE + 0x7000, "b", "large_zeroed_again"),
)


@pytest.mark.parametrize("zeroed", [False, True])
def test_small_data_of_powerpc(tmp_path: Path, zeroed: bool) -> None:
    rows = sorted((*ROWS, *SMALL), key=lambda row: row[0])
    content = CONTENT.copy()
    content[0x6000:] *= not zeroed
    own = built(rows, content, architecture="ppc64")
    needs("powerpc64le-linux-gnu-nm", package="binutils-powerpc64le-linux-gnu")
    out, err = output_of(written(elf_file(own)), tmp_path, "powerpc64le-linux-gnu-nm", "--special-syms")
    assert err == ""
    assert sorted(out.splitlines()) == sorted(f"{address:016x} {letter} {name}" for address, letter, name in rows)


PER_CPU: tuple[Row, ...] = (
    (0, "A", "__per_cpu_start"),
    (0x800, "A", "__per_cpu_end"),
    *(row for row in ROWS if row[0] >= BASE),
    (BASE + 0x3000, "D", "__per_cpu_load"),
)


def test_the_per_cpu_template_of_an_image_is_at_its_link_address() -> None:
    """An ELF image whose segments are those of x86-64 up to 6.14: the per-CPU area at 0, and a gap in its place."""
    template = np.random.default_rng(4).integers(1, 256, 0x800, np.uint8)
    segments = (
        BytesSegment(0, template),
        BytesSegment(BASE, CONTENT[:0x3000]),
        BytesSegment(BASE + 0x3800, CONTENT[0x3800:0x6000]),
    )
    found = Memory("vmlinux", "ELF", AddressSpace.VIRTUAL, segments, image=FACTS)
    place = TableLocation("names", PhysicalAddress(BASE + 0x2100), VirtualAddress(BASE + 0x2100), 0x100)
    own = kernel(sorted(PER_CPU), memory=found, tables=(place,), distance=0, kaslr_slide=0)
    file = elf_file(own)
    elf = read(written(file))
    assert file.complete
    held = b"".join(segment.data() for segment in elf.iter_segments("PT_LOAD") if segment["p_filesz"])
    assert held == CONTENT[:0x3000].tobytes() + template.tobytes() + CONTENT[0x3800:0x6000].tobytes()
    assert elf.get_section_by_name(".data..percpu").data() == template.tobytes()
    (empty,) = (segment for segment in elf.iter_segments("PT_LOAD") if not segment["p_filesz"])
    assert (empty["p_vaddr"], empty["p_memsz"]) == (BASE + 0x6000, SIZE - 0x6000)
    assert image_base(own) == BASE
    moved = rebased(own, BASE + 0x200000)
    assert moved.symbols["_stext"].address == BASE + 0x200000
    assert moved.symbols["__per_cpu_end"].address == 0x800
    assert read(written(elf_file(moved))).get_section_by_name(".data..percpu").data() == template.tobytes()


def test_missing_pages_are_not_made_up() -> None:
    file = elf_file(built(gaps=[(0x1000, 0x3000), (0x7000, 0x9000)]))
    elf = read(written(file))
    assert not file.complete
    assert any("0x2000 bytes of the image are not in the source" in remark for remark in file.remarks)
    held = [(s["p_vaddr"] - BASE, s["p_filesz"]) for s in elf.iter_segments() if s["p_filesz"]]
    assert sum(size for _, size in held) == SIZE - 0x4000
    assert not [at for at, size in held if at < 0x3000 and at + size > 0x1000]
    assert all(s["sh_type"] == "SHT_NOBITS" for s in image_of(elf) if 0x1000 <= s["sh_addr"] - BASE < 0x3000)
    assert sorted(symbols_of(elf)) == sorted((address, name) for address, _, name in ROWS)


def test_what_an_image_file_leaves_out_is_nothing_missing() -> None:
    file = elf_file(built(content=CONTENT[:0x6000], gaps=[(0x3000, 0x4000)], space=AddressSpace.FILE, image=FACTS))
    elf = read(written(file))
    assert file.complete
    assert all(s["p_paddr"] == s["p_vaddr"] for s in elf.iter_segments())
    assert elf.get_section_by_name(".bss")["sh_type"] == "SHT_NOBITS"


def test_unslid_moves_all_but_absolute_symbols() -> None:
    elf = read(written(elf_file(built(), unslid=True)))
    moved = [(address - SLIDE if address >> 63 else address, name) for address, _, name in ROWS]
    assert sorted(symbols_of(elf)) == sorted(moved)
    assert elf["e_entry"] == BASE - SLIDE
    loads = list(elf.iter_segments("PT_LOAD"))
    assert (loads[0]["p_vaddr"], loads[0]["p_paddr"]) == (BASE - SLIDE, SOURCE)


def test_unslid_needs_the_slide() -> None:
    with pytest.raises(KallsiftError, match="slide is not known"):
        elf_file(built(kaslr_slide=None), unslid=True)


@pytest.mark.parametrize("architecture", MACHINES)
@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("word_size", [4, 8])
def test_every_machine(architecture: str, byte_order: str, word_size: int, tmp_path: Path) -> None:
    base = BASE if word_size == 8 else 0xC0100000
    rows = [(address - BASE + base if address >> 63 else address, kind, name) for address, kind, name in ROWS]
    own = built(rows, base=base, architecture=architecture, byte_order=byte_order, word_size=word_size)
    data = written(elf_file(own))
    elf = read(data)
    assert (elf.elfclass, elf.little_endian) == (8 * word_size, byte_order == "<")
    assert sorted(symbols_of(elf)) == sorted((address, name) for address, _, name in rows)
    out, err = output_of(data, tmp_path, "readelf", "-hW")
    assert err == ""
    assert "<unknown" not in out


def test_an_unknown_machine_is_said_and_can_be_named() -> None:
    file = elf_file(built(architecture=None))
    assert any("--machine" in remark for remark in file.remarks)
    assert read(written(file))["e_machine"] == "EM_NONE"
    named = elf_file(built(architecture=None), machine="s390x")
    assert not any("--machine" in remark for remark in named.remarks)
    assert read(written(named))["e_machine"] == "EM_S390"


def note(build_id: bytes, byte_order: str = "<") -> bytes:
    """A build ID's note."""
    return np.array([4, len(build_id), 3], f"{byte_order}u4").tobytes() + b"GNU\0" + build_id


def content_with(pieces: dict[int, bytes]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The image with other bytes at these offsets."""
    content = CONTENT.copy()
    for at, piece in pieces.items():
        content[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
    return content


def build_ids(data: bytes) -> tuple[list[str], list[str]]:
    """The build IDs in the note sections and in the note segments of a file."""
    elf = read(data)
    sections = [n["n_desc"] for s in elf.iter_sections("SHT_NOTE") for n in s.iter_notes()]
    return sections, [n["n_desc"] for s in elf.iter_segments("PT_NOTE") for n in s.iter_notes()]


FIRST, SECOND = bytes(range(20)), bytes(range(100, 120))
WITHOUT_NOTES = tuple(row for row in ROWS if "notes" not in row[2])


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_the_build_id_between_its_boundary_symbols(byte_order: str) -> None:
    content = content_with({0x2804: note(FIRST, byte_order), 0x4000: note(SECOND, byte_order)})
    data = written(elf_file(built(content=content, byte_order=byte_order)))
    assert build_ids(data) == ([FIRST.hex()], [FIRST.hex()])
    assert read(data).get_section_by_name(".note.gnu.build-id")["sh_addr"] == BASE + 0x2804


def test_the_only_build_id_of_an_image_without_boundary_symbols() -> None:
    # a program that the kernel carries, such as a vDSO, has one of its own
    content = content_with({0x3000: b"\x7fELF", 0x3200: note(SECOND), 0x2804: note(FIRST)})
    assert build_ids(written(elf_file(built(WITHOUT_NOTES, content)))) == ([FIRST.hex()], [FIRST.hex()])


def test_of_two_build_ids_none_is_taken() -> None:
    file = elf_file(built(WITHOUT_NOTES, content_with({0x2804: note(FIRST), 0x4000: note(SECOND)})))
    assert "no build ID was found" in file.remarks
    assert build_ids(written(file)) == ([], [])


def test_the_build_id_that_vmcoreinfo_states() -> None:
    text = f"OSRELEASE=7.2\nPAGESIZE=4096\nBUILD-ID={SECOND.hex()}\nSYMBOL(_stext)={BASE:x}\n".encode()
    stated = Hints(vmcoreinfo=text)
    assert build_ids(written(elf_file(built(hints=stated)))) == ([SECOND.hex()], [SECOND.hex()])
    two = content_with({0x2804: note(FIRST), 0x4000: note(SECOND)})
    data = written(elf_file(built(WITHOUT_NOTES, two, hints=stated)))
    assert read(data).get_section_by_name(".note.gnu.build-id")["sh_addr"] == BASE + 0x4000
    another = Hints(vmcoreinfo=text.replace(f"{BASE:x}".encode(), b"ffffffff81000000"))
    assert build_ids(written(elf_file(built(hints=another)))) == ([], [])


def test_text_symbols_alone() -> None:
    """A table without KALLSYMS_ALL names no data, and may lack the image's end."""
    rows = [(BASE + 0x40, "t", "init"), (BASE + 0x1000, "T", "function"), (BASE + 0x5001, "t", "exit")]
    elf = read(written(elf_file(built(rows))))
    assert [section["sh_addr"] - BASE for section in image_of(elf)] == [0x40]
    assert elf.get_section_by_name(".text")["sh_size"] == 0x6000 - 0x40


def test_an_image_that_is_too_large_is_refused() -> None:
    rows = [*ROWS[:-2], (BASE + (1 << 30) + 1, "B", "_end")]
    with pytest.raises(KallsiftError, match="larger than any kernel"):
        elf_file(built(rows))


def test_unknown_names_are_left_out_and_said() -> None:
    whole = built()
    bounds = whole.symbols.bounds.copy()
    bounds[5] = bounds[4]
    damaged = built(symbols=type(whole.symbols)(whole.symbols.addresses, whole.symbols.characters, bounds, 8))
    file = elf_file(damaged)
    assert any(remark.startswith("1 symbols without a known name") for remark in file.remarks)
    assert len(symbols_of(read(written(file)))) == len(ROWS) - 1


LETTERS = "tTrRdDbBaAWV?"


@settings(max_examples=examples(60))
@given(st.lists(st.tuples(st.integers(0, SIZE), st.sampled_from(LETTERS)), max_size=60), st.booleans())
def test_any_order_of_letters_reads_back(tmp_path_factory: pytest.TempPathFactory, places: Any, bounded: bool) -> None:
    """Whatever the letters: nm prints them again, from sections that cover the image and do not overlap."""
    own = [(BASE + at, letter, f"symbol_{number}") for number, (at, letter) in enumerate(places)]
    rows = sorted([*(ROWS if bounded else [ROWS[2], ROWS[-2]]), *own], key=lambda row: row[0])
    data = written(elf_file(built(rows)))
    sections = image_of(read(data))
    assert sum(section["sh_size"] for section in sections) == SIZE
    out, err = output_of(data, tmp_path_factory.mktemp("nm"), "nm", "--special-syms")
    assert err == ""
    assert sorted(out.splitlines()) == sorted(f"{address:016x} {letter} {name}" for address, letter, name in rows)


@settings(max_examples=examples(60))
@given(
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.characters(max_codepoint=255), st.text("ab_", max_size=3))),
    st.integers(0, 2**64 - 1),
)
def test_contrived_tables_are_written_or_refused(rows: list[Row], base: int) -> None:
    try:
        file = elf_file(built(sorted(rows, key=lambda row: row[0]), base=base))
    except KallsiftError:
        return
    found = symbols_of(read(written(file)))
    assert sorted(address for address, _ in found) == sorted(address for address, _, _ in rows)
