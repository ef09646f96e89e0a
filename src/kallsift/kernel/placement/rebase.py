"""Move a kernel to another base: the address of its first byte, as the user gives it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kallsift.addresses import VirtualAddress
from kallsift.errors import KallsiftError
from kallsift.kallsyms.evidence import Check, CheckId
from kallsift.kernel.kernel import Kernel
from kallsift.kernel.placement.placement import is_near
from kallsift.kernel.placement.pointers import Words


def image_base(kernel: Kernel) -> VirtualAddress:
    """Return the address of the first byte of the image that a kernel was found in.

    Segments that are linked elsewhere do not count, such as x86-64's per-CPU area at 0 (arch/x86/kernel/vmlinux.lds.S
    up to 6.14).
    """
    words = Words(kernel.symbols.word_size, kernel.byte_order)
    starts = np.array([segment.start + kernel.distance & words.mask for segment in kernel.memory.segments], np.uint64)
    near = starts[is_near(starts, words, kernel.tables[0].virtual)]
    return VirtualAddress(int((near if len(near) else starts)[0]))


def rebased(kernel: Kernel, base: int) -> Kernel:
    """Move a kernel so that the first byte of its image is at ``base``.

    Of tables alone, the first symbol of the text is moved there. A kernel is not proven at a base that it was not found
    at.

    Raises:
        KallsiftError: if the kernel has proved where it lies in memory that ran, or the base is not a possible address.
    """
    words = Words(kernel.symbols.word_size, kernel.byte_order)
    if kernel.memory.image is None and kernel.proven:
        raise KallsiftError(
            "--base: the source is the memory of a running machine, which gives the kernel's address itself; "
            "leave out --base"
        )
    if not 0 <= base <= words.mask:
        raise KallsiftError(
            f"--base: {base:#x} is not an address of {8 * kernel.symbols.word_size} bits; give the virtual "
            "address of the image's first byte"
        )
    first = image_base(kernel) if kernel.is_placed else kernel.virtual_base
    own = int(kernel.symbols.addresses.min()) if first is None else first
    move = base - own & words.mask
    addresses = kernel.symbols.addresses
    moved = np.where(
        is_near(addresses, words, kernel.tables[0].virtual), words.wrap(addresses + np.uint64(move)), addresses
    )

    def there(address: VirtualAddress | None) -> VirtualAddress | None:
        return None if address is None else VirtualAddress(address + move & words.mask)

    says = f"the image itself gives {own:#x}" if kernel.is_placed else "nothing confirms it"
    agrees = kernel.is_placed and base == own
    # what was guessed without a base says nothing of this one
    evidence = tuple(check for check in kernel.evidence if kernel.is_placed or check.name is not CheckId.PLACEMENT)
    given = Check.that(CheckId.BASE, agrees, f"{base:#x} was given; {says}", is_quoted=True)
    distance = kernel.distance + move & words.mask
    is_image = kernel.memory.image is not None
    if is_image and not kernel.is_placed:
        distance = base - kernel.memory.segments[0].start & words.mask
    return replace(
        kernel,
        symbols=replace(kernel.symbols, addresses=moved),
        evidence=(*evidence, given),
        tables=tuple(
            replace(table, virtual=VirtualAddress(table.virtual + move & words.mask)) for table in kernel.tables
        ),
        virtual_base=there(kernel.virtual_base),
        distance=distance,
        is_placed=kernel.is_placed or is_image,
    )
