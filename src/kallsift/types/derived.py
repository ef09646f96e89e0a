"""Make pointers to types and arrays of them, which the kernel's own types may lack."""

from __future__ import annotations

import numpy as np

from kallsift.kernel.access.btf_blob import BtfBlob, Kind
from kallsift.types.btf import Btf
from kallsift.types.type import Type


def derived(type_: Type, pointers: int, length: int | None) -> Type:
    """Return a pointer to a type, of so many stars, or an array of these if there is a length."""
    btf, number = type_.btf, type_.number
    words: list[int] = []
    for _ in range(pointers):
        words += [0, Kind.PTR << 24, number]
        number = len(btf) + len(words) // 3 - 1
    if length is not None:
        number, words = len(btf) + len(words) // 3, [*words, 0, Kind.ARRAY << 24, 0, number, 0, length]
    return Type(Btf(BtfBlob(np.array(words, np.uint32), b""), btf.word_size, btf), number) if words else type_
