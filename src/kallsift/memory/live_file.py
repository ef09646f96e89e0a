"""Read files whose content changes while they are read, such as the memory of a process or of the kernel.

Such files are read part by part.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from kallsift.errors import ClosedError


class LiveFile:
    """A file that is never read after `close`.

    Its descriptor can then be another file's.

    Attributes:
        name: name of the source in messages.
    """

    def __init__(self, name: str, path: str) -> None:
        """Open the file.

        Raises:
            OSError: if it cannot be opened.
        """
        self.name = name
        self._descriptor: int | None = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def descriptor(self) -> int:
        """Number of the open file.

        Raises:
            ClosedError: if it was closed.
        """
        if self._descriptor is None:
            raise ClosedError(self.name)
        return self._descriptor

    def read_into(self, block: NDArray[np.uint8], offset: int) -> int:
        """Read bytes at an offset into a block; return the number of bytes read.

        Raises:
            ClosedError: if the file was closed.
            OSError: if the system refuses.
        """
        return os.preadv(self.descriptor, [block.data], offset)

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)
