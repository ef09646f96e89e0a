"""Tables of every era as parameters of a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.oracle.eras import Era
from tests.oracle.writer import ByteOrder

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet


def era_case(era: Era, word_size: int, byte_order: ByteOrder, text_only: bool, quick_size: int) -> ParameterSet:
    """One era's tables; of each era one case is quick enough for ``make fast``, that of words of ``quick_size``."""
    is_quick = (word_size, byte_order, text_only) == (quick_size, "little", False)
    name = f"{era}-{word_size}-{byte_order}-{'text' if text_only else 'all'}"
    marks = () if is_quick else (pytest.mark.slow,)
    return pytest.param(era, word_size, byte_order, text_only, id=name, marks=marks)
