"""Tables without tokens: what contradicts itself is refused, and nobody else pays for the search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import kallsift
from kallsift.errors import RecoveryError
from kallsift.kallsyms.solvers import identifier_regions as regions
from kallsift.memory.memory import AddressSpace, ImageFacts, Memory
from kallsift.memory.segments import BytesSegment
from tests.image import builders as build
from tests.kernel.era_images import BEFORE, image
from tests.oracle.eras import EARLY_ERAS, ERAS, UNCOMPRESSED_ERAS, Era
from tests.oracle.writer import Blob

pytestmark = pytest.mark.sampled(4)

OLD = {era.name: era for era in (*EARLY_ERAS, *UNCOMPRESSED_ERAS)}
Change = Callable[[bytearray, Blob], None]


def memory(data: bytes) -> Memory:
    segment = BytesSegment(0, np.frombuffer(data, np.uint8))
    return Memory("era", "flat", AddressSpace.FILE, (segment,), image=ImageFacts(("flat",), 0))


def place(blob: Blob, table: str) -> int:
    return BEFORE + blob.tables[table].offset


def disordered(data: bytearray, blob: Blob) -> None:
    """Two addresses change places."""
    start = place(blob, "addresses") + 8 * 700
    data[start : start + 8], data[start + 80 : start + 88] = data[start + 80 : start + 88], data[start : start + 8]


def miscounted(data: bytearray, blob: Blob) -> None:
    """The count says more than there is."""
    start = place(blob, "num_syms")
    data[start : start + 8] = (len(blob.symbols) + 40).to_bytes(8, "little")


def unshared(data: bytearray, blob: Blob) -> None:
    """A name in the middle shares more characters with the one before than that has."""
    start = data.index(0, place(blob, "names") + 4000) + 1
    data[start] = 0x1E


def unprintable(data: bytearray, blob: Blob) -> None:
    """A name in the middle has a character that none has."""
    data[data.index(0, place(blob, "names") + 4000) - 2] = 1


CASES = [
    ("2.6.9 x86", disordered),
    ("2.6.9 x86", miscounted),
    ("2.6.9 x86", unshared),
    ("2.6.9 x86", unprintable),
    ("2.5.45 x86", disordered),
    ("2.5.45 x86", miscounted),
    ("2.5.45 x86", unprintable),
]


@pytest.mark.parametrize(("era", "change"), CASES, ids=lambda case: getattr(case, "__name__", case))
def test_a_contradiction_is_no_table(era: str, change: Change) -> None:
    blob, data = image(OLD[era], 8, "little", text_only=False)
    changed = bytearray(data)
    change(changed, blob)
    with pytest.raises(kallsift.RecoveryError):
        kallsift.recover(memory(bytes(changed)))


def test_letters_that_are_not_stored_are_said_to_be_unknown() -> None:
    _, data = image(OLD["2.6.9 x86"], 8, "little", text_only=False)
    kernel = kallsift.recover(memory(data))
    (check,) = (check for check in kernel.evidence if check.name == "type letters")
    assert check.outcome is kallsift.Outcome.ABSENT
    assert set(kernel.symbols.types().tolist()) == {ord("?")}


@pytest.mark.parametrize("era", [ERAS[4], ERAS[-2]], ids=str)
def test_a_kernel_with_tokens_pays_nothing(monkeypatch: pytest.MonkeyPatch, era: Era) -> None:
    def never(_: Memory) -> None:
        raise AssertionError("searched for names without tokens")

    monkeypatch.setattr(regions, "name_regions", never)
    _, data = image(era, 8, "little", text_only=False)
    assert kallsift.recover(memory(data)).proven


@pytest.mark.parametrize(
    ("marks", "reason"),
    [
        (
            b"Linux version 3.7.5 (nobody@nowhere)\0",
            'built without kallsyms: no token table, no "kallsyms_" string',
        ),
        (b"Linux version 3.7.5 (nobody@nowhere)\0kallsyms_lookup\0", "its token table is lost, or in an unknown form"),
    ],
)
def test_a_kernel_without_a_table_is_named(tmp_path: Path, marks: bytes, reason: str) -> None:
    stream = build.COMPRESS["lzma"](build.kernel(marks=marks))
    (tmp_path / "uImage").write_bytes(build.uimage(stream, 3, 5, load=0x80100000))
    with pytest.raises(RecoveryError, match=r"Linux version 3\.7\.5 \(mips\), unpacked from uImage, lzma; ") as caught:
        kallsift.recover(kallsift.open(tmp_path / "uImage"))
    assert reason in str(caught.value)
