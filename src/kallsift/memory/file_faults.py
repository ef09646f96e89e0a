"""Turn unreadable pages of mapped files into zeros, and remember them.

When a disk fails, or somebody cuts a file short, the kernel sends SIGBUS to the thread that touches a page that it
cannot read (mmap(2)); unhandled, that ends the process. The handler here maps zeros in place of the page, and the
access goes on. X servers (os/busfault.c), Wayland (wayland-shm.c) and systemd (basic/sigbus.c) do the same. It costs
nothing where nothing fails, and covers every access from any code without a check before.

The signal is synchronous: it interrupts a load from a mapped file, never an allocator or a lock, so that the handler
may run Python. A signal with another cause is passed on to the previous handler.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import threading
import weakref
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from kallsift.errors import SourceError
from kallsift.memory.unreadable import MISSING, UNREADABLE, UnreadablePages

if TYPE_CHECKING:
    from kallsift.memory.file_mapping import FileMapping

MACHINES = ("x86_64", "aarch64", "riscv64", "ppc64le", "loongarch64")
"""Machines where sigaction(2) has the layout below, in glibc (bits/sigaction.h) and in musl.

On all others, SIGBUS is not handled.
"""
SI_ADDR = 16
"""Offset of ``si_addr`` in ``siginfo_t`` of 64-bit Linux (asm-generic/siginfo.h)."""
SA_SIGINFO = 4
MAP_FIXED = 0x10
"""Flag of mmap(2) (asm-generic/mman-common.h, and the machines' own)."""

EXACT_FAULTS, FAULTS_A_STEP = 1 << 13, 512
"""Number of faults of a file that give up one page each, and of faults after which the size doubles each time.

A process has 65,530 mappings at most (vm.max_map_count), and a separate part of a mapped file takes two of them.
"""

BLOCK = 4 << 20
"""Highest number of bytes that the kernel reads together, as a large folio, and reports as unreadable together."""

AROUND = 128 << 10
"""Number of bytes that are dropped for a later page of a block: another thread may have begun to read pages together
with it before the kernel was told to read each alone."""

MAX_TRIES = 3
"""Highest number of times that a page is read before it is given up."""


_LOST: list[bool] = []
"""Not empty once any part of a mapped file is known to be lost."""


class _SigAction(ctypes.Structure):
    """``struct sigaction``, with 1,024 bits of signals."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


class FileFaults:
    """The unreadable parts of one mapped file.

    Attributes:
        name: name of the file in messages.
        size: number of bytes that were mapped.
        pages: pages that are zeros instead, by their offsets in the file (all of owner 0).
        left: bytes that are left of a file that was cut short; None if it is not known to be.
    """

    def __init__(self, name: str, size: int) -> None:
        """Create the record of a file of which nothing is lost yet."""
        self.name, self.size = name, size
        self.pages = UnreadablePages(problem=UNREADABLE)
        self.left: int | None = None
        self._count = 0
        self._tries: Counter[int] = Counter()
        self._blocks: set[int] = set()

    def remark(self) -> str | None:
        """Return a line with the size of the unreadable part; None if there is none.

        It is also None if the file was cut short, because that is an error.
        """
        return None if self.left is not None else self.pages.remark(self.size)

    def check(self) -> None:
        """Raise an error if the file was cut short while it was read.

        Raises:
            SourceError: if it was.
        """
        if self.left is not None:
            raise SourceError(
                f"{self.name}: was cut short while it was read ({self.left:,} of {self.size:,} bytes are left); "
                "copy it again when nothing writes to it"
            )

    def is_worth_a_try(self, offset: int) -> bool:
        """Tell whether an unreadable page is to be read once more, and count its failure."""
        if self._count >= EXACT_FAULTS or self.left is not None:
            return False
        self._tries[offset] += 1
        return self._tries[offset] < MAX_TRIES

    def is_first_in_block(self, offset: int) -> bool:
        """Tell whether a page is the first one of its block that has failed."""
        is_first = offset // BLOCK not in self._blocks
        self._blocks.add(offset // BLOCK)
        return is_first

    def lost_bytes(self, offset: int) -> int:
        """Return the number of bytes to give up from the offset of an unreadable page."""
        self._count += 1
        size = mmap.PAGESIZE << max(0, self._count - EXACT_FAULTS) // FAULTS_A_STEP
        return self.size - offset if self.left is not None and offset >= self.left else min(size, self.size - offset)


class _Handler:
    """The handler of SIGBUS, and the mappings that it covers."""

    def __init__(self) -> None:
        self.mappings: dict[int, weakref.ref[FileMapping]] = {}
        self._before = _SigAction()
        self._is_handed_over = False
        # PyDLL does not release the interpreter's lock around each call
        self._libc = ctypes.PyDLL(None)
        self._libc.mmap.restype = ctypes.c_void_p
        self._libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64)
        self._callback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(self._handle)

    def install(self) -> None:
        """Handle SIGBUS from now on, unless this handler is installed already."""
        # all other signals wait while the handler runs: an exception from theirs would be lost in a callback
        mask = (ctypes.c_ubyte * 128)(*[0xFF] * 128)
        address = ctypes.cast(self._callback, ctypes.c_void_p).value
        current = _SigAction()
        if self._libc.sigaction(signal.SIGBUS, None, ctypes.byref(current)) or current.handler == address:
            return
        self._before, self._is_handed_over = current, False
        self._libc.sigaction(signal.SIGBUS, ctypes.byref(_SigAction(address, mask, SA_SIGINFO, None)), None)

    def _handle(self, _number: int, info: int, _context: int) -> None:
        interrupt = None
        while True:
            try:
                if not self._cover(ctypes.c_size_t.from_address(info + SI_ADDR).value):
                    # the access is tried again, and the previous handler gets its fault; if that one hands the signal
                    # back to this handler, the default action ends the process
                    action = _SigAction() if self._is_handed_over else self._before
                    self._is_handed_over = True
                    self._libc.sigaction(signal.SIGBUS, ctypes.byref(action), None)
                break
            except KeyboardInterrupt:
                interrupt = signal.SIGINT
            except SystemExit as error:  # of a handler that ends the process: 128 and the signal's number
                interrupt = signal.Signals(int(str(error.code)) - 128)
        if interrupt is not None:
            # the signal is delivered when the handler has returned
            signal.pthread_kill(threading.get_ident(), interrupt)

    def _cover(self, address: int) -> bool:
        """Map zeros over a page of a mapped file; tell whether the address is in one."""
        for start, reference in tuple(self.mappings.items()):
            mapping = reference()
            if mapping is None or not start <= address < start + len(mapping):
                continue
            faults, offset = mapping.faults, (address - start) // mmap.PAGESIZE * mmap.PAGESIZE
            if mapping.is_regular and (left := os.fstat(mapping.descriptor).st_size) < faults.size:
                faults.left = left
            if faults.is_worth_a_try(offset):
                size = BLOCK if faults.is_first_in_block(offset) else AROUND
                _read_alone(mapping, offset // size * size, size)
                return True
            size = faults.lost_bytes(offset)
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_FIXED
            covered: int = self._libc.mmap(start + offset, size, mmap.PROT_READ, flags, -1, 0)
            faults.pages.add(0, offset, offset + size)
            _LOST[:] = [True]
            return covered == start + offset
        return False


def _read_alone(mapping: FileMapping, start: int, size: int) -> None:
    """Make the kernel read each page of a part of a file alone.

    It drops the pages that it could not read together.
    """
    size = min(size, mapping.faults.size - start)
    with suppress(OSError):  # it is advice: without it more pages are lost than the disk has lost
        mapping.madvise(mmap.MADV_RANDOM, start, size)
        os.posix_fadvise(mapping.descriptor, start, size, os.POSIX_FADV_DONTNEED)


_HANDLER: list[_Handler] = []
"""The handler, once there is one: a process has one for each signal."""


def guard(mapping: FileMapping, address: int) -> None:
    """Cover a mapped file as long as it is mapped.

    Args:
        mapping: the file.
        address: address where it is mapped.
    """
    if sys.platform != "linux" or os.uname().machine not in MACHINES or ctypes.sizeof(ctypes.c_void_p) != 8:
        return
    if not _HANDLER:
        _HANDLER.append(_Handler())
    handler = _HANDLER[0]
    handler.mappings[address] = weakref.ref(mapping, lambda _: handler.mappings.pop(address, None))
    handler.install()


def have_occurred() -> bool:
    """Tell whether any page of any mapped file was unreadable so far, or is lost."""
    return bool(_LOST)


def lose(faults: FileFaults, low: int, high: int) -> None:
    """Note that a mapped file has zeros between two offsets in place of lost bytes."""
    faults.pages.problem = MISSING
    faults.pages.add(0, low, high)
    _LOST[:] = [True]
