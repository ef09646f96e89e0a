"""Find the variables whose types are known: per-CPU ones, by the types themselves, and those of well-known names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kallsift.kernel.access.btf_blob import BtfBlob, Kind
from kallsift.kernel.access.btf_index import WORDS
from kallsift.kernel.access.image_sections import PER_CPU, address_of
from kallsift.types.btf import Btf
from kallsift.types.symbol_types import known_variables, per_cpu_variables
from kallsift.types.types import Types


@dataclass(frozen=True)
class Variable:
    """A variable.

    Attributes:
        name: its symbol's name.
        number: its type's.
        address: running address.
    """

    name: str
    number: int
    address: int


def typed_variables(types: Types) -> tuple[Btf, list[Variable]]:
    """Return the variables of a kernel whose types are known, and its types with those that these need besides."""
    found = {variable.name: variable for variable in _per_cpu(types)}
    added, count = np.empty(0, np.uint32), 0
    for symbol, type_ in known_variables(types):
        if symbol.name in found:
            continue
        number = type_.number
        if type_.btf is not types.btf:
            number += count
            added = np.append(added, _renumbered(type_.btf.blob, len(types.btf), count))
            count += len(type_.btf.blob.starts)
        found[symbol.name] = Variable(symbol.name, number, symbol.address)
    blob = types.btf.blob
    whole = BtfBlob(np.concatenate((blob.words, added)), blob.strings, blob.sizes, blob.data)
    return Btf(whole, types.btf.word_size), list(found.values())


def _renumbered(blob: BtfBlob, first: int, count: int) -> NDArray[np.uint32]:
    """Return pointers and arrays that were made for one variable, with so many others before them.

    Args:
        blob: the pointers and arrays.
        first: number of the first of them as they were made.
        count: how many others stand before them.
    """
    words = blob.words.copy()
    made_of = blob.starts + np.where(blob.kinds == Kind.ARRAY, WORDS, WORDS - 1)
    words[made_of] += np.where(words[made_of] >= first, count, 0).astype(np.uint32)
    return words


def _per_cpu(types: Types) -> Iterator[Variable]:
    """Yield the variables that have the symbol which the types say: its name, at an offset into the per-CPU area."""
    kernel = types.kernel
    start, end = (address_of(kernel, name) for name in PER_CPU[:2])
    if start is None or end is None:
        return
    addresses = kernel.symbols.addresses
    inside = np.flatnonzero((addresses >= np.uint64(start)) & (addresses < np.uint64(end)) & kernel.symbols.whole)
    places = {(symbol.name, symbol.address) for symbol in map(kernel.symbols.symbol, inside.tolist())}
    for name, offset, number in per_cpu_variables(types):
        if (name, start + offset) in places:
            yield Variable(name, number, start + offset)
