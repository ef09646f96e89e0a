"""Oopses and back traces that real kernels printed: each symbol leads to an address, and that to the symbol."""

from __future__ import annotations

import re

import pytest

import kallsift
from kallsift.output.text.symbolize import MODULE, SYMBOL, Annotator
from tests.lab.guests import load_guests
from tests.real.conftest import Taken

GUESTS = [name for name, guest in load_guests().items() if "oops" in guest.sets]
"""Guests that went wrong before their memory was taken; their truth has the log as ``oops``."""

PRINTED = re.compile(SYMBOL + MODULE)


@pytest.mark.parametrize("guest", GUESTS)
def test_a_real_oops_is_annotated_as_the_kernel_printed_it(taken: Taken, guest: str) -> None:
    capture = taken(guest)
    with kallsift.open(capture.dump("elf")) as memory:
        kernel = kallsift.recover(memory)
        resolver = kallsift.Resolver.of(kernel, kallsift.dynamic_symbols(kernel))
    names, annotator = Annotator(resolver, addresses=True), Annotator(resolver)
    printed = 0
    for line in capture.truth("oops").splitlines(keepends=True):
        annotated = names.line(line)
        assert re.sub(rb" <[^<> ]+(?: \[\w+\])?>", b"", annotated) == re.sub(rb" <[^<> ]+(?: \[\w+\])?>", b"", line)
        for found in PRINTED.finditer(annotated):
            addresses = re.match(rb" <([0-9a-f|]+)>", annotated[found.end() :])
            if addresses is None:
                assert annotated[found.start() - 2 : found.start()] == b" <", line  # what was said of a raw address
                continue
            printed += 1
            # the same frame as kernels print it that print addresses
            annotator.line(b"Call Trace:\n")
            said = [annotator.line(b" [<%s>]\n" % address) for address in addresses[1].split(b"|")]
            assert any(frame.endswith(b"] <" + found[0] + b">\n") for frame in said), line
    assert printed > 400
