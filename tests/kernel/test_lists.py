"""Circular lists in made-up memory: whole, broken, endless."""

from __future__ import annotations

import pytest

from kallsift.kernel.access.list_head import ListError, members
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.placement.pointers import Words
from tests.kernel.images import EACH, memory, segment

each_kind = pytest.mark.parametrize("words", EACH, ids=str)


def linked(words: Words, *nodes: int, changed: dict[int, int] | None = None) -> VirtualMemory:
    """A list through these places, the first of them its head, with some words changed."""
    links = {}
    for node, after in zip(nodes, [*nodes[1:], nodes[0]], strict=True):
        links[node], links[after + words.size] = after, node
    return VirtualMemory(memory(segment(links | (changed or {}), 0x1000, 0x2000, words)), None, None, words)


@each_kind
def test_members_in_order(words: Words) -> None:
    assert members(linked(words, 0x1000, 0x2040, 0x1100), 0x1000, 9).tolist() == [0x2040, 0x1100]
    assert members(linked(words, 0x1000), 0x1000, 9).tolist() == []


@each_kind
def test_links_that_do_not_agree(words: Words) -> None:
    memory_ = linked(words, 0x1000, 0x2040, 0x1100, changed={0x1100 + words.size: 0x1000})
    with pytest.raises(ListError, match="broken after 1 members"):
        members(memory_, 0x1000, 9)


@each_kind
def test_a_list_that_never_comes_back(words: Words) -> None:
    with pytest.raises(ListError, match=r"broken|more than"):
        members(linked(words, 0x1000, 0x2040, 0x1100, changed={0x1100: 0x2040}), 0x1000, 9)
    with pytest.raises(ListError, match="more than 2 members"):
        members(linked(words, 0x1000, 0x2040, 0x1100, 0x1200), 0x1000, 2)


@each_kind
def test_a_list_that_leads_away(words: Words) -> None:
    with pytest.raises(ListError, match="is not mapped"):
        members(linked(words, 0x1000, 0x2040, changed={0x2040: 0x9000}), 0x1000, 9)
