"""Layers of memory for Volatility: what kallsift opens, and 5-level page tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from volatility3.framework import exceptions, interfaces
from volatility3.framework.configuration import requirements
from volatility3.framework.layers import intel

from kallsift.errors import UnmappedError
from kallsift_volatility.recovery import recovered


class KallsiftLayer(interfaces.layers.DataLayerInterface):
    """The physical memory of a dump in any format that kallsift reads."""

    def __init__(
        self,
        context: interfaces.context.ContextInterface,
        config_path: str,
        name: str,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Open the dump.

        Raises:
            LayerException: if kallsift cannot read it.
        """
        super().__init__(context=context, config_path=config_path, name=name, metadata=metadata)
        found = recovered(self.config["location"])
        if found is None:
            raise exceptions.LayerException(name, "kallsift recovers no kernel from the dump")
        self._memory = found.kernel.memory

    @property
    def minimum_address(self) -> int:
        """The first address of the memory."""
        return self._memory.segments[0].start

    @property
    def maximum_address(self) -> int:
        """The last address of the memory."""
        return self._memory.segments[-1].end - 1

    def is_valid(self, offset: int, length: int = 1) -> bool:
        """Tell whether all bytes of a piece are in the dump."""
        return offset >= 0 and self._memory.is_readable(offset, length)

    def read(self, offset: int, length: int, pad: bool = False) -> bytes:
        """Return bytes; with ``pad``, zeros for those that the dump lacks.

        Raises:
            InvalidAddressException: if the dump lacks any, without ``pad``.
        """
        try:
            return self._memory.read(offset, length).tobytes()
        except UnmappedError as error:
            if not pad:
                raise exceptions.InvalidAddressException(self.name, error.address, "not in the dump") from error
        data = bytearray(length)
        for segment in self._memory.between(offset, offset + length):
            low, high = max(offset, segment.start), min(offset + length, segment.end)
            if low < high:
                data[low - offset : high - offset] = segment.read(low - segment.start, high - segment.start).tobytes()
        return bytes(data)

    def write(self, offset: int, data: bytes) -> None:
        """Refuse: a dump is evidence."""
        raise NotImplementedError("dumps are not written")

    def scan(
        self,
        context: interfaces.context.ContextInterface,
        scanner: interfaces.layers.ScannerInterface,
        progress_callback: Any = None,
        sections: Iterable[tuple[int, int]] | None = None,
    ) -> Iterable[Any]:
        """Scan the memory, without the holes between its segments."""
        if sections is None:
            sections = [(segment.start, segment.size) for segment in self._memory.segments]
        return super().scan(context, scanner, progress_callback, sections)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """Return what it needs: the URL of the dump."""
        return [requirements.URIRequirement(name="location", description="The dump", optional=False)]


class LinuxIntel32eLA57(intel.LinuxIntel32e):
    """Page tables of five levels (CR4.LA57)."""

    _maxvirtaddr = 57
    _structure: ClassVar[list[tuple[str, int, bool]]] = [
        ("page map layer 5", 9, False),
        *intel.LinuxIntel32e._structure,
    ]
