"""Look things up by name, as a mapping does: KeyError where ``get`` finds none."""

from __future__ import annotations

from abc import abstractmethod
from typing import Generic, TypeVar

Item = TypeVar("Item")


class ByName(Generic[Item]):
    """A collection with a value for each of some names."""

    @abstractmethod
    def get(self, name: str) -> Item | None:
        """Return what has a name; None if nothing has."""

    def __getitem__(self, name: str) -> Item:
        """Return what ``get`` does.

        Raises:
            KeyError: if it finds none.
        """
        found = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None
