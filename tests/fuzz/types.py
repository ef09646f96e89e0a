"""Types of a made-up kernel that are damaged anywhere: what is asked of them ends, with an answer or a refusal."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np

from kallsift.errors import KallsiftError
from kallsift.kernel.access.btf_blob import Kind, parse
from kallsift.kernel.access.virtual_memory import virtual_memory
from kallsift.output.dwarf.debug_sections import Unit, debug_sections
from kallsift.output.dwarf.functions import CodeSymbols
from kallsift.output.text.types import find_all, types_document
from kallsift.types.btf import Btf
from kallsift.types.find import contradiction
from kallsift.types.find import kernel_types as found_types
from kallsift.types.symbol_types import SYMBOL_TYPES
from kallsift.types.type import MAX_SIZE, Type
from kallsift.types.types import Types
from tests.kernel.made_types import known_layout
from tests.kernel.made_up import IMAGE, LARGE
from tests.types.typed_kernel import kernel_types, module_types, typed_kernel

from .trials import FAILED, HOSTILE, Trials, refusal

MAX_TYPES = 60
"""Types of a case that are printed."""


def _damaged(chance: random.Random, content: bytes) -> bytes:
    """Return the content with words overwritten, most of them early, or cut off."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = chance.randrange(len(data))
        at = at % 1600 if chance.random() < 0.7 else at
        few, kind = chance.randrange(24), chance.choice([*Kind, 25, 127])
        value = chance.choice([few, few << 24, kind << 24 | few, 1 << 31 | kind << 24 | few, *HOSTILE])
        data[at & ~3 : (at & ~3) + 4] = (value % (1 << 32)).to_bytes(4, chance.choice(["little", "little", "big"]))
    if chance.random() < 0.1:
        del data[chance.randrange(len(data)) :]
    return bytes(data)


def _ask(types: Types) -> str:
    """Ask all that can be asked of some types, and return what came of it."""
    types.counts()
    for name in ("task_struct", "module", "task_t", "enum pid_type", "\x00", "unsigned long", "init_task"):
        for type_ in types.all(name):
            type_.get("nothing")
        types.enumerator(name)
        types.function(name)
        types.similar(name)
    for name in SYMBOL_TYPES:
        found = types.of_symbol(name)
        assert found is None or found.size > 0
    for type_ in [*types][:MAX_TYPES]:
        assert repr(type_).isprintable()
        try:
            assert 0 <= type_.size <= MAX_SIZE
            assert type_.c().replace("\n", "").replace("\t", "").isprintable()
            assert type_.spelled("x").isprintable()
            assert isinstance(type_, Type)
            _ = type_.enumerators, type_.parameters, type_.members
        except KallsiftError as error:
            if (outcome := refusal(error)).startswith(FAILED):
                return outcome
    contradiction(types.btf, types.kernel.symbols)
    types_document(types, find_all(types, "task_struct"))
    if types.btf.base is None:
        debug_sections(types, _code(types))
    return "answered"


def _code(types: Types) -> Unit:
    """Return all symbols of the kernel as if each were a function."""
    symbols = types.kernel.symbols
    sizes = np.full(len(symbols), 16, np.uint64)
    code = CodeSymbols(symbols.names(), symbols.addresses, sizes, sizes > 0)
    return Unit("vmlinux", IMAGE, IMAGE + LARGE, code)


def type_trials() -> Trials:
    """Return the trials of damaged types, of a kernel's own and of a module's."""
    made = kernel_types()
    private = module_types(made)
    contents = [made.data(order, layout) for order in "<>" for layout in (None, known_layout())]
    kernel = typed_kernel()
    own = found_types(kernel, virtual_memory(kernel))

    def attempt(number: int, chance: random.Random) -> str:
        is_module = number % 8 == 7
        content = _damaged(chance, private.data() if is_module else contents[number % len(contents)])
        try:
            blob = parse(np.frombuffer(content, np.uint8))
            btf = Btf(blob, chance.choice((4, 8)), own.btf if is_module else None)
            return _ask(replace(own, btf=btf))
        except KallsiftError as error:
            return refusal(error)

    return Trials("types", attempt, lambda number: f"--case {number}")
