"""Recover the kernel of a dump once for all parts of Volatility that ask for it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlparse
from urllib.request import url2pathname

import kallsift
from kallsift.output.isf.symbols import banner_data

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Recovered:
    """The kernel of a dump, and what Volatility has to know of it.

    Attributes:
        kernel: the kernel; its memory stays open.
        banner: its banner as it stands in memory.
        page_map_offset: physical address of its page table.
        kernel_virtual_offset: its KASLR slide.
    """

    kernel: kallsift.Kernel
    banner: bytes
    page_map_offset: int
    kernel_virtual_offset: int


@lru_cache(maxsize=4)
def recovered(location: str) -> Recovered | None:
    """Return the kernel of the dump at a URL; None if there is none that Volatility could read."""
    parts = urlparse(location)
    if parts.scheme != "file":
        return None
    try:
        memory = kallsift.open(url2pathname(parts.path))
    except kallsift.KallsiftError as error:
        logger.warning("kallsift cannot open the dump: %s", error)
        return None
    try:
        kernel = kallsift.recover(memory)
    except kallsift.KallsiftError as error:
        logger.warning("kallsift recovers no kernel: %s", error)
        memory.close()
        return None
    banner, root, slide = banner_data(kernel), kernel.page_table_root, kernel.kaslr_slide
    if kernel.memory.image is not None or banner is None or root is None or slide is None or not kernel.proven:
        logger.warning("kallsift's kernel is no running one, or not proven: Volatility searches by itself")
        memory.close()
        return None
    return Recovered(kernel, banner, root, slide)
