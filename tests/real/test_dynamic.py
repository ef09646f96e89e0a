"""All of ``/proc/kallsyms``: modules, ftrace, BPF and kprobes behind the built-in table, as the guest printed them."""

from __future__ import annotations

import re

import pytest

import kallsift
from kallsift.kernel.dynamic import dynamic_symbols
from kallsift.output.kallsyms_text import kallsyms_text
from tests.real.conftest import GUESTS, Taken


def unescaped(text: bytes) -> bytes:
    """The text with control characters, which the kernel prints and kallsift does not, in the compiler's labels."""
    return re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), text)


@pytest.mark.parametrize("guest", GUESTS)
def test_the_whole_file(taken: Taken, guest: str) -> None:
    capture = taken(guest)
    truth = capture.truth("kallsyms")
    assert truth.count(b"\t[") > 10_000
    with kallsift.open(capture.dump("elf")) as memory:
        kernel = kallsift.recover(memory)
        dynamic = dynamic_symbols(kernel)
        found = b"".join(kallsyms_text(kernel, dynamic))
    assert dynamic.missing == ()
    assert unescaped(found) == truth
