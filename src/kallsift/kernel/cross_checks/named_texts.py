"""Compare texts that words of named structures point to with the structures' names."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import UnmappedError
from kallsift.kernel.cross_checks.name_keys import MASKS, MAX_NAME
from kallsift.kernel.cross_checks.named_structures import MAX_LOOKED_AT, MIN_MEMBERS, Holder, Inquiry
from kallsift.kernel.cross_checks.near_names import is_one_code_apart
from kallsift.lanes import LANE

LANES = np.dtype("<u8")


def are_texts(
    inquiry: Inquiry, holder: Holder, words: NDArray[np.uint64], members: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Tell which words point to texts that match their structures' names.

    Behind the text that the kind has before the name, the text must be the rest of the structure's name.

    Args:
        inquiry: the kernel.
        holder: the kind.
        words: the words, shape (n,), uint64.
        members: indices of the structures' symbols, shape (n,).
    """
    table = inquiry.table
    assert holder.before_text is not None
    assert table.ends is not None
    places = inquiry.physical(words + np.uint64(len(holder.before_text)))
    starts = table.starts[members] + len(holder.prefix)
    sizes = table.ends[members] - starts
    same = (words > 0) & (sizes < MAX_NAME)
    active = np.flatnonzero(same)
    for depth in range(0, MAX_NAME, LANE):
        active = active[sizes[active] >= depth]
        if not len(active):
            break
        left = np.minimum(sizes[active] - depth, LANE)
        found, held = inquiry.memory.words(places[active] + np.uint64(depth), LANES)
        # compare the NUL behind the last character as well
        found &= MASKS[np.minimum(left + 1, LANE)]
        wrong = ~held | (found != table.text[starts[active] + depth] & MASKS[left])
        same[active[wrong]] = False
        active = active[~wrong]
    return same


def judge_texts(inquiry: Inquiry, holder: Holder, members: NDArray[np.int64], words: NDArray[np.uint64]) -> None:
    """Record what texts confirm, and the exceptions that a changed name explains."""
    agree = are_texts(inquiry, holder, words, members)
    if np.count_nonzero(agree) < MIN_MEMBERS:
        return
    inquiry.confirmed[members[agree]] = True
    for number in np.flatnonzero(~agree & (words > 0))[:MAX_LOOKED_AT].tolist():
        name = inquiry.table.string(int(members[number]))
        rest = name.removeprefix(holder.prefix)
        text = _text_at(inquiry, int(words[number])).removeprefix(holder.before_text or b"")
        if is_one_code_apart(rest, text):
            problem = f"{name.decode('latin-1')} is called {text.decode('latin-1')}"
            inquiry.broken.append((int(members[number]), problem))


def _text_at(inquiry: Inquiry, address: int) -> bytes:
    """Return the text at a virtual address, without its NUL; empty if there is none."""
    try:
        window = inquiry.memory.window(inquiry.placement.physical(address), 0, MAX_NAME)
    except UnmappedError:
        return b""
    text, end, _ = window.data.tobytes().partition(b"\0")
    return text if end else b""
