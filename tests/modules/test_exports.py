"""Exports of made-up images in every form, found by symbols and without them; and of images that are damaged."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kallsift.errors import KallsiftError
from kallsift.kernel.kernel import Kernel, State
from kallsift.kernel.placement.pointers import Words
from kallsift.memory.segments import BytesSegment
from kallsift.modules.exports.exports import Exports, exports
from kallsift.modules.exports.kernel import ExportsError
from kallsift.modules.exports.ksymtab_entries import ENTRY_FORMS, UNKNOWN_MACRO, Checksums, EntryForm
from tests.examples import examples
from tests.kernel.images import EACH as EVERY_WORD
from tests.kernel.images import WIDE
from tests.modules.export_images import ARRAYS, EACH, SIZE, SYMSEARCH, ExportImage, Line, export_image

FORMS = [pytest.param(form, id=f"{form.fields}-{'relative' if form.relative else 'absolute'}") for form in ENTRY_FORMS]
KEPT = [None, Checksums(4), Checksums(4, relative=True), Checksums(8)]


def lines_of(found: Exports) -> list[Line]:
    return [(one.name, one.address or 0, one.macro, one.namespace, one.crc or 0) for one in found]


@pytest.mark.sampled(30)
@pytest.mark.parametrize("data_symbols", [True, False], ids=["bounded", "searched"])
@pytest.mark.parametrize(
    ("words", "checksums"),
    [(words, kept) for words in EVERY_WORD for kept in KEPT if not kept or kept.width <= words.size],
)
@pytest.mark.parametrize("form", FORMS)
def test_every_form(words: Words, form: EntryForm, checksums: Checksums | None, data_symbols: bool) -> None:
    image = export_image(words, form, checksums)
    found = exports(image.kernel(data_symbols=data_symbols))
    assert lines_of(found) == list(image.lines)
    assert found.checksums is (checksums is not None)
    assert found.missing == ()
    assert {one.owner for one in found} == {"vmlinux"}
    assert {one.gpl_only for one in found} == {True, False}


@pytest.mark.parametrize("data_symbols", [True, False], ids=["bounded", "searched"])
@pytest.mark.parametrize("checksums", [None, Checksums(4)])
def test_flags_instead_of_a_second_array(checksums: Checksums | None, data_symbols: bool) -> None:
    image = export_image(WIDE, EntryForm(3, True), checksums, flags=True)
    found = exports(image.kernel(data_symbols=data_symbols))
    assert lines_of(found) == list(image.lines)
    assert found.missing == ()


@pytest.mark.parametrize("words", EVERY_WORD, ids=lambda words: f"{words.size}{words.byte_order}")
def test_arrays_in_the_order_of_the_linker(words: Words) -> None:
    """As up to 2.6.38; the table that the look-up itself goes by says where the second one begins."""
    image = export_image(words, EntryForm(2, False), Checksums(words.size), is_sorted=False)
    found = exports(image.kernel(data_symbols=False))
    assert lines_of(found) == list(image.lines)
    assert found.missing == ()


def test_arrays_in_the_order_of_the_linker_whose_bounds_nothing_tells() -> None:
    image = export_image(WIDE, EntryForm(2, False), Checksums(8), is_sorted=False)
    image.data[SYMSEARCH : SYMSEARCH + 80] = bytes(80)
    found = exports(image.kernel(data_symbols=False))
    assert [line[:2] for line in lines_of(found)] == [line[:2] for line in image.lines]
    assert {one.macro for one in found} == {UNKNOWN_MACRO}
    assert found.missing == ("vmlinux: macros: it is unknown where the GPL-only exports begin",)


def test_names_that_are_exported_twice() -> None:
    image = export_image(WIDE, EntryForm(3, True), Checksums(4), twice=(3, 5, 130))
    assert lines_of(exports(image.kernel(data_symbols=False))) == list(image.lines)


def test_by_name_and_by_owner() -> None:
    image = export_image(WIDE, EntryForm(3, True), Checksums(4))
    found = exports(image.kernel(data_symbols=True))
    name, address, *_ = image.lines[5]
    assert [one.address for one in found.all(name)] == [address]
    assert found.all("nothing") == ()
    assert len(found.of("vmlinux")) == 2 * EACH
    assert len(found.of("module")) == 0


def test_a_copy_that_nothing_maps() -> None:
    """In a memory that reaches farther than the addresses of the copy do."""
    image = export_image(WIDE, EntryForm(3, False), Checksums(4))
    kernel = image.kernel(data_symbols=True)
    far = (
        BytesSegment(0, np.zeros(64, np.uint8)),
        *kernel.memory.segments,
        BytesSegment(1 << 40, np.zeros(64, np.uint8)),
    )
    copy = replace(kernel, memory=replace(kernel.memory, image=None, segments=far), state=State.STALE)
    assert lines_of(exports(copy)) == list(image.lines)


def test_entries_that_cannot_be_read_are_counted() -> None:
    image = export_image(WIDE, EntryForm(3, False), None)
    image.data[ARRAYS + 24 * 7 : ARRAYS + 24 * 9] = bytes(48)
    found = exports(image.kernel(data_symbols=True))
    assert lines_of(found) == [*image.lines[:7], *image.lines[9:]]
    assert found.missing[0].startswith("vmlinux: 2 of ")


def test_checksums_of_another_size_are_not_guessed() -> None:
    image = export_image(WIDE, EntryForm(3, True), Checksums(4))
    rows = tuple(
        (address + 4, kind, name) if name == "__stop___kcrctab" else (address, kind, name)
        for address, kind, name in image.rows
    )
    found = exports(ExportImage(image.data, WIDE, rows, image.lines).kernel(data_symbols=True))
    assert {one.crc for one in found if not one.gpl_only} == {None}
    assert found.checksums is None
    assert "checksums" in found.missing[0]


def test_an_image_without_exports_says_so() -> None:
    image = export_image(WIDE, EntryForm(3, True), None)
    image.data[ARRAYS:] = bytes(SIZE - ARRAYS)
    for data_symbols in (True, False):
        with pytest.raises(ExportsError, match=r"(no|not an) array"):
            exports(image.kernel(data_symbols=data_symbols))


def test_an_order_that_is_none_leaves_macros_unknown() -> None:
    """Three ascending runs: which of them is for the GPL only is not known."""
    image = export_image(WIDE, EntryForm(2, False), None)
    first = bytes(image.data[ARRAYS : ARRAYS + 16])
    image.data[ARRAYS : ARRAYS + 16] = image.data[ARRAYS + 16 * 9 : ARRAYS + 16 * 10]
    image.data[ARRAYS + 16 * 9 : ARRAYS + 16 * 10] = first
    found = exports(image.kernel(data_symbols=False))
    assert {line[:2] for line in lines_of(found)} == {line[:2] for line in image.lines}
    assert {one.macro for one in found} == {UNKNOWN_MACRO}
    assert found.missing


@pytest.mark.parametrize("data_symbols", [True, False], ids=["bounded", "searched"])
def test_addresses_that_a_loader_has_yet_to_fill_in(data_symbols: bool) -> None:
    """The symbols' table has them, as far as it lists the symbols."""
    image = export_image(WIDE, EntryForm(3, False), Checksums(4))
    for number in range(0, 2 * EACH, 3):
        image.data[ARRAYS + 24 * number : ARRAYS + 24 * number + 8] = bytes(8)
    found = exports(image.kernel(data_symbols=data_symbols))
    kinds = {name: kind for _, kind, name in image.rows}
    unknown = {line[0] for line in image.lines[::3] if kinds[line[0]] == "D"} if not data_symbols else set()
    assert unknown or data_symbols
    assert [one.address for one in found] == [None if line[0] in unknown else line[1] for line in image.lines]
    assert [one.crc for one in found] == [line[4] for line in image.lines]


def test_what_stands_apart_is_told() -> None:
    """Without symbols that bound the arrays a lost page cuts them in two."""
    image = export_image(WIDE, EntryForm(2, False), None)
    image.data[ARRAYS + 16 * 60 : ARRAYS + 16 * 64] = bytes(64)
    found = exports(image.kernel(data_symbols=False))
    assert 0 < len(found) < len(image.lines)
    assert any("are outside of the array" in line for line in found.missing)


def survives(kernel: Kernel) -> None:
    """An answer or an error of ours."""
    with suppress(KallsiftError):
        assert len(exports(kernel)) <= 4 * EACH


@settings(max_examples=examples(60))
@given(st.data())
def test_whatever_the_image_holds(data: st.DataObject) -> None:
    image = export_image(WIDE, data.draw(st.sampled_from(ENTRY_FORMS)), data.draw(st.sampled_from(KEPT)))
    random = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    start = data.draw(st.integers(0, SIZE - 1))
    size = data.draw(st.integers(1, SIZE - start))
    image.data[start : start + size] = random.bytes(size)
    survives(image.kernel(data_symbols=data.draw(st.booleans())))


@settings(max_examples=examples(60))
@given(st.data())
def test_whatever_the_symbols_say(data: st.DataObject) -> None:
    image = export_image(WIDE, EntryForm(3, True), Checksums(4))
    names = {
        f"__{end}___{name}{kind}"
        for end in ("start", "stop")
        for name in ("ksymtab", "kcrctab", "kflagstab")
        for kind in ("", "_gpl")
    }
    chosen = data.draw(st.dictionaries(st.sampled_from(sorted(names)), st.integers(0, (1 << 64) - 1)))
    rows = [row for row in image.rows if row[2] not in chosen]
    rows += [(address, "R", name) for name, address in chosen.items()]
    survives(ExportImage(image.data, WIDE, tuple(rows), image.lines).kernel(data_symbols=True))
