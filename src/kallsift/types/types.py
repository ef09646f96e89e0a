"""Look up types by name, by enumerator, of a symbol or of a module."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from kallsift.by_name import ByName
from kallsift.kallsyms.escapes import escaped
from kallsift.kallsyms.symbol_table import Symbol
from kallsift.kernel.access.btf_blob import BtfError, Kind
from kallsift.kernel.access.virtual_memory import VirtualMemory
from kallsift.kernel.kernel import Kernel
from kallsift.types.btf import Btf
from kallsift.types.type import COMPOSITE, ENUMS, Type

KEYWORDS = {"struct": (Kind.STRUCT, Kind.FWD), "union": (Kind.UNION, Kind.FWD), "enum": ENUMS}
"""Kinds that a word before a name asks for."""

FORWARDS = (Kind.STRUCT, Kind.UNION)
"""What a forward declaration declares, without and with its flag."""

ORDER = (*COMPOSITE, *ENUMS, Kind.TYPEDEF, Kind.INT, Kind.FLOAT, Kind.FUNC, Kind.VAR, Kind.FWD, Kind.DATASEC)
"""Kinds that a name can be asked of, those first that a name alone means first."""


SPELLINGS = {
    "unsigned": "unsigned int",
    "short": "short int",
    "unsigned short": "short unsigned int",
    "long": "long int",
    "unsigned long": "long unsigned int",
    "long long": "long long int",
    "unsigned long long": "long long unsigned int",
}
"""How GCC writes integers that C programs call otherwise; Clang writes them as these do."""


MAX_EXCESS = 3
"""Highest number of characters that a name like another may have more or less."""

MAX_NAMES = 1 << 15
"""Highest number of names that are compared with another; a kernel has some thousand that are nearly as long."""

CANDIDATES = 8
"""Names like another that are tried, since members and parameters have names too."""


@dataclass(frozen=True, eq=False, repr=False)
class Types(ByName[Type]):
    """All types of a kernel, or of one of its modules together with the kernel's.

    Attributes:
        btf: the types by number.
        source: where they were found.
        kernel: whose they are.
        memory: its memory.
    """

    btf: Btf
    source: str
    kernel: Kernel
    memory: VirtualMemory

    def __len__(self) -> int:
        """Return how many types there are."""
        return len(self.btf) - 1

    def __repr__(self) -> str:
        return f"<Types: {len(self):,} from {escaped(self.source)}>"

    def __iter__(self) -> Iterator[Type]:
        return (Type(self.btf, number) for number in range(1, len(self.btf)))

    @property
    def remark(self) -> str:
        """Message to users about missing names; empty if none are known to be missing."""
        parts = filter(None, (self.btf, self.btf.base))
        is_lost = any(part.blob.has_lost_names for part in parts)
        return "some names of types and members are missing: they are blank in the source" if is_lost else ""

    def get(self, name: str) -> Type | None:
        """Return the type of a name (of several, the one with most members), or None."""
        return next(iter(self.all(name)), None)

    def all(self, name: str) -> tuple[Type, ...]:
        """Return all types of a name, also with ``struct`` and the like.

        Those with most members come first.
        """
        word, _, rest = name.partition(" ")
        if word in KEYWORDS and rest:
            return self._ordered(rest, KEYWORDS[word])
        found = self._ordered(name, ORDER)
        return found if found or name not in SPELLINGS else self._ordered(SPELLINGS[name], ORDER)

    def _ordered(self, name: str, kinds: tuple[Kind, ...]) -> tuple[Type, ...]:
        """Return the types of a name that are of some kinds, those with most members first."""
        chosen = [
            (
                ORDER.index(kind) if kind not in COMPOSITE else 0,
                -count,
                -number if number >= self.btf.first else 0,
                number,
            )
            for number, kind, count, is_union in self._known(name)
            if kind in kinds and (kind is not Kind.FWD or FORWARDS[is_union] in kinds)
        ]
        return tuple(Type(self.btf, number) for *_, number in sorted(chosen))

    def _known(self, name: str) -> Iterator[tuple[int, Kind, int, bool]]:
        """Yield number, kind, count and flag of each type of a name, but of those of kinds that are not known here."""
        for number in self.btf.named(name):
            try:
                yield number, *self.btf.info(number)
            except BtfError:
                continue

    def similar(self, name: str) -> str | None:
        """Return the name of a type or enumerator similar to an unknown name, or None."""
        from difflib import get_close_matches

        word, _, rest = name.partition(" ")
        name = rest if word in KEYWORDS and rest else name
        names = (text for text in self.btf.names(name[:1]) if abs(len(text) - len(name)) <= MAX_EXCESS)
        near = get_close_matches(name, islice(names, MAX_NAMES), CANDIDATES)
        return next((text for text in near if text in self or self.enumerator(text) is not None), None)

    def enumerator(self, name: str) -> Type | None:
        """Return the first enumeration that has an enumerator of a name; None if none has."""
        numbers = self.btf.with_record(name, *ENUMS)
        return Type(self.btf, numbers[0]) if numbers else None

    def function(self, name: str) -> Type | None:
        """Return the function of a name, with its prototype; None if there is none."""
        return next((Type(self.btf, number) for number, kind, *_ in self._known(name) if kind is Kind.FUNC), None)

    def of_symbol(self, name: str) -> Type | None:
        """Return the type of a function, a per-CPU variable or a well-known symbol.

        None where there is no such symbol, nothing tells its type, or it has less room than its type needs.
        """
        found = self.typed_symbol(name)
        return None if found is None else found[1]

    def typed_symbol(self, name: str) -> tuple[Symbol, Type] | None:
        """Return a symbol and its type; of several of a name, the one that has the type."""
        from kallsift.types.symbol_types import typed_symbol

        return typed_symbol(self, name)

    def module(self, name: str) -> Types:
        """Return the types of a loaded module, together with the kernel's.

        Raises:
            KallsiftError: if it has none, or they cannot be read.
        """
        from kallsift.types.module_types import module_types

        return module_types(self, name)

    def counts(self) -> dict[Kind, int]:
        """Return how many types there are of each kind, the most frequent first."""
        numbers = {kind: len(self.btf.of_kind(kind)) for kind in Kind if kind}
        return dict(sorted(((kind, count) for kind, count in numbers.items() if count), key=lambda row: -row[1]))
