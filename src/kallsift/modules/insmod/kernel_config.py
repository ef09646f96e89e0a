"""Find the settings of a kernel's module loader that decide whether it accepts a module.

Settings of its build show in strings of the kernel: a format string that is only there with CONFIG_MODULE_FORCE_LOAD,
and the level of another one with CONFIG_MODULE_ALLOW_MISSING_NAMESPACE_IMPORTS (kernel/module/main.c; before 5.19
kernel/module.c).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from kallsift.errors import UnmappedError
from kallsift.kernel.access.virtual_memory import VirtualMemory, image_memory, virtual_memory
from kallsift.kernel.kernel import Kernel
from kallsift.kernel.placement.pointers import AFTER, BEFORE
from kallsift.modules.exports.exports import Exports

FORCED = re.compile(rb"%s: %s: kernel tainted\.\n\0")
"""Message before the loader goes on without a vermagic or checksums; absent if it never does that."""

NAMESPACE = re.compile(rb"\x01([0-7])[^\0\x01]{0,16}%s: module uses symbol \(%s\) from namespace %s")
"""Message about a namespace that is not imported; its level is that of an error, or of a mere warning."""

WARNING = b"4"
"""Level KERN_WARNING (include/linux/kern_levels.h)."""

EXTENDED = re.compile(rb"\0__version_ext_names\0")
"""Name of the section with extended checksums, in loaders that read it (6.13)."""

RELEASE = re.compile(r"Linux version (\S+) ")
PATCHED = re.compile(r"\bDebian \d")
"""Part of the banner in kernels whose loader needs a checksum of every symbol."""

MAX_TEXT = 1024

SIGNATURES_ONLY = 1
"""Lowest level of lockdown: LOCKDOWN_MODULE_SIGNATURE (include/linux/security.h)."""

PARAMETER_POINTER = 4
"""Number of words before the pointer to the variable in ``struct kernel_param`` (include/linux/moduleparam.h)."""


@dataclass(frozen=True, eq=False)
class Loader:
    """A kernel's module loader; None stands for an unknown setting.

    Attributes:
        architecture: name as in `kallsift.arch`.
        bits: 32 or 64.
        byte_order: ``"<"`` or ``">"``.
        exports: exports of the kernel and its modules.
        vermagic: vermagic that a module must have.
        extended_versions: True if it reads checksums in the form of 6.13.
        forced: True if it takes modules without vermagic or checksums (CONFIG_MODULE_FORCE_LOAD).
        needs_every_version: True if it refuses a module with checksums that has none for some symbol. Mainline accepts
            it. Debian's kernels refuse it by a patch, which shows nowhere in their image but in the banner.
        lax_namespaces: True if it only warns of namespaces that are not imported.
        checks_signatures: True if it checks signatures at all (CONFIG_MODULE_SIG).
        signed_only: True if it refuses modules without a good signature (``module.sig_enforce``).
        locked_down: True if lockdown refuses them.
        disabled: True if no module may be loaded any more (``kernel.modules_disabled``).
        blacklist: names of modules that it refuses (``module_blacklist=``).
    """

    architecture: str | None
    bits: int
    byte_order: str
    exports: Exports
    vermagic: str | None
    extended_versions: bool
    forced: bool
    needs_every_version: bool
    lax_namespaces: bool | None
    checks_signatures: bool
    signed_only: bool | None
    locked_down: bool | None
    disabled: bool | None
    blacklist: tuple[str, ...]

    @property
    def checksums(self) -> bool:
        """True if it compares checksums (CONFIG_MODVERSIONS)."""
        return "modversions" in (self.vermagic or "").split() or bool(self.exports.checksums)


def loader(kernel: Kernel, exports: Exports) -> Loader:
    """Return the module loader of a kernel with these exports.

    Raises:
        KallsiftError: if nothing tells how its memory is mapped.
    """
    runs = kernel.has_memory
    memory = virtual_memory(kernel) if runs else image_memory(kernel)
    image = np.ascontiguousarray(kernel.memory.around(kernel.tables[0].physical, BEFORE, AFTER).data).data
    namespace = NAMESPACE.search(image)
    signed_only = _number(memory, _parameter(kernel, memory, "sig_enforce"), 1)
    lockdown = _number(memory, _only(kernel, "kernel_locked_down"), 4)
    disabled = _number(memory, _only(kernel, "modules_disabled"), 4)
    return Loader(
        architecture=kernel.architecture,
        bits=8 * kernel.symbols.word_size,
        byte_order=kernel.byte_order,
        exports=exports,
        vermagic=_vermagic(kernel, memory, image),
        extended_versions=EXTENDED.search(image) is not None,
        forced=FORCED.search(image) is not None,
        needs_every_version=PATCHED.search(kernel.banner or "") is not None,
        lax_namespaces=None if namespace is None else namespace[1] == WARNING,
        checks_signatures="mod_verify_sig" in kernel.symbols,
        signed_only=None if signed_only is None else bool(signed_only),
        locked_down=None if lockdown is None else lockdown >= SIGNATURES_ONLY,
        disabled=None if disabled is None else bool(disabled),
        blacklist=_blacklist(kernel, memory),
    )


def _only(kernel: Kernel, name: str) -> int | None:
    """Return the address of the only symbol of a name.

    The result is None if there is no such symbol, or there are several.
    """
    found = kernel.symbols.all(name)
    return found[0].address if len(found) == 1 else None


def _number(memory: VirtualMemory, address: int | None, size: int) -> int | None:
    try:
        return None if address is None else memory.value(address, size)
    except UnmappedError:
        return None


def _string(memory: VirtualMemory, address: int | None) -> str | None:
    try:
        return memory.string(address, MAX_TEXT).decode("latin-1") if address else None
    except UnmappedError:
        return None


def _parameter(kernel: Kernel, memory: VirtualMemory, name: str) -> int | None:
    """Return the address of the variable of the parameter ``module.NAME``.

    Several variables can have that name, so the parameter's own entry is preferred.
    """
    for symbol in kernel.symbols.all(f"__param_{name}"):
        if _string(memory, _number(memory, symbol.address, memory.words.size)) == f"module.{name}":
            return _number(memory, symbol.address + PARAMETER_POINTER * memory.words.size, memory.words.size)
    return _only(kernel, name)


def _blacklist(kernel: Kernel, memory: VirtualMemory) -> tuple[str, ...]:
    pointer = _number(memory, _only(kernel, "module_blacklist"), memory.words.size)
    text = _string(memory, pointer)
    return tuple(text.split(",")) if text else ()


def _vermagic(kernel: Kernel, memory: VirtualMemory, image: memoryview) -> str | None:
    """Return the kernel's vermagic; None if it is not found.

    It stands at the symbol ``vermagic``. Else it is the text of the image that begins with the kernel's release and a
    blank.
    """
    text = _string(memory, _only(kernel, "vermagic"))
    release = RELEASE.match(kernel.banner or "")
    if text is not None or release is None:
        return text
    pattern = re.compile(re.escape(release[1].encode("latin-1")) + rb" [ -~]{0,200}\0")
    for found in pattern.finditer(image):
        if not any(image[found.start() - 1 : found.start()]):
            return bytes(found[0]).rstrip(b"\0").decode("latin-1")
    return None
