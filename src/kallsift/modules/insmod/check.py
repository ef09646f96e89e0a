"""Predict whether a kernel would load a module, step by step as the kernel's loader decides it.

The steps, their order and their errors are those of ``load_module()`` (kernel/module/main.c; before 5.19
kernel/module.c). The first step that refuses the module ends the check. Of the symbols that cannot be used, all are
reported, and the last one gives the error. The effects of the module's own code when it starts, and of its relocations,
are not predicted.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kallsift.errors import SourceError
from kallsift.kallsyms.escapes import escaped, escaped_text
from kallsift.memory.formats.registry import system_reason
from kallsift.memory.memory import printable
from kallsift.modules.exports.ksymtab_entries import Export
from kallsift.modules.insmod.kernel_config import Loader
from kallsift.modules.insmod.ko_file import THIS_MODULE, ModuleFile, ModuleFileError, open_module

GPL_COMPATIBLE = frozenset(
    ("GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL")
)
"""Licences that ``license_is_gpl_compatible()`` accepts (include/linux/license.h)."""

NO_LICENCE = "unspecified"

MODULE_NAMESPACE = "module:"
"""Prefix of a namespace that names the modules that may use it (EXPORT_SYMBOL_GPL_FOR_MODULES, 6.16)."""

IGNORED = {"x86": "_GLOBAL_OFFSET_TABLE_", "x86-64": "_GLOBAL_OFFSET_TABLE_"}
"""The undefined symbol that the loader ignores, by architecture: assemblers leave it behind, and nothing uses it."""

LAYOUT = "module_layout"
"""Symbol whose checksum represents the layout of ``struct module`` and others."""

STILL_LOADING, UNLOADING, UNFORMED = "Loading", "Unloading", "Unformed"
"""States of modules whose exports cannot be used; the loader does not even look at modules in the last state."""


@dataclass(frozen=True, repr=False)
class Use:
    """A symbol that a module needs from elsewhere.

    Attributes:
        name: its name.
        export: export that the loader finds; None if there is none that the module may use.
        errno: error number; 0 if the module gets the symbol, or does without it.
        problem: reason why it does not get the symbol; empty if it does.
    """

    name: str
    export: Export | None
    errno: int = 0
    problem: str = ""

    def __repr__(self) -> str:
        found = self.problem or ("works without it" if self.export is None else self.export.owner)
        return f"<Use {escaped(self.name)}: {escaped_text(found)}>"


@dataclass(frozen=True, repr=False)
class Verdict:
    """The loader's expected answer.

    Attributes:
        name: the module's name, as the kernel calls it.
        errno: error of ``init_module(2)``; 0 if the module would be loaded.
        reason: reason in words close to the kernel's own; empty if the module would be loaded.
        uses: symbols that it needs, in the order of its symbol table, whether or not the loader reaches that step.
        remarks: points that the verdict leaves open, one line each.
    """

    name: str
    errno: int
    reason: str
    uses: tuple[Use, ...] = ()
    remarks: tuple[str, ...] = ()

    def __repr__(self) -> str:
        outcome = "loads" if self.loads else f"refused, {self.error}: {escaped_text(self.reason)}"
        return f"<Verdict {escaped(self.name)}: {outcome}>"

    @property
    def loads(self) -> bool:
        """True if the module would be loaded."""
        return not self.errno

    @property
    def error(self) -> str:
        """Name of the error, e.g. ``ENOENT``; empty if there is none."""
        return errno.errorcode.get(self.errno, str(self.errno)) if self.errno else ""


Refusal = tuple[int, str]
"""An error number and the reason for it."""


def check_file(loader: Loader, file: Path) -> tuple[ModuleFile | None, Verdict]:
    """Predict the result of loading a file as a module.

    Returns:
        The module, None if the file is none; and the loader's expected answer.

    Raises:
        SourceError: if the file cannot be read.
    """
    stem = file.name.partition(".ko")[0]
    try:
        module = open_module(file)
    except ModuleFileError as error:
        return None, Verdict(stem, errno.ENOEXEC, str(error))
    except OSError as error:
        raise SourceError(f"{printable(str(file))}: cannot be read ({system_reason(error)}); check the path") from error
    return module, check(loader, module, stem)


def check(loader: Loader, module: ModuleFile, stem: str) -> Verdict:
    """Predict the result of loading a module.

    Args:
        loader: the kernel's loader.
        module: the module.
        stem: its file's name without the ending, for modules from before 4.17, which do not have their name inside.
    """
    name = module.value("name") or stem.replace("-", "_")
    fits = not _elf_refusals(loader, module)
    uses = tuple(_uses(loader, module, name)) if fits else ()
    steps: tuple[Callable[[], Refusal | None], ...] = (
        lambda: (errno.EPERM, "kernel.modules_disabled is set: no module may be loaded") if loader.disabled else None,
        lambda: _unsigned(loader, module),
        lambda: _elf_refusals(loader, module),
        lambda: (errno.EPERM, f"Module {name} is blacklisted") if name in loader.blacklist else None,
        lambda: _layout(loader, module),
        lambda: _vermagic(loader, module),
        lambda: _loaded(loader, name),
        lambda: _own_checksums(loader, module),
        lambda: _symbols(module, uses),
        lambda: _duplicate(loader, module),
    )
    number, reason = next((refusal for step in steps if (refusal := step()) is not None), (0, ""))
    return Verdict(name, number, reason, uses, tuple(_remarks(loader, module)))


def _unsigned(loader: Loader, module: ModuleFile) -> Refusal | None:
    if module.signature is not None or not loader.checks_signatures:
        return None
    if loader.signed_only:
        return errno.EKEYREJECTED, "Loading of unsigned module is rejected"
    if loader.locked_down:
        return errno.EPERM, "Lockdown: unsigned module loading is restricted"
    return None


def _elf_refusals(loader: Loader, module: ModuleFile) -> Refusal | None:
    if not module.elf.relocatable:
        return errno.ENOEXEC, "is not a relocatable object"
    known = loader.architecture is None or module.elf.architecture == loader.architecture
    if not known or (module.elf.bits, module.elf.byte_order) != (loader.bits, loader.byte_order):
        order = "little" if module.elf.byte_order == "<" else "big"
        kind = f"{module.elf.architecture or 'an unknown machine'}, {module.elf.bits} bits, {order}-endian"
        return errno.ENOEXEC, f"is for {kind}; the kernel for {loader.architecture}, {loader.bits} bits"
    if not module.elf.symbols:
        return errno.ENOEXEC, "module has no symbols (stripped?)"
    if THIS_MODULE not in module.elf.sections:
        return errno.ENOEXEC, "No module found in object"
    return None


def _wanted_checksum(loader: Loader, module: ModuleFile, name: str) -> int | None:
    """Return the checksum of a symbol that the module was built against.

    The result is None if the module has none for this name.
    """
    if loader.extended_versions and module.extended_versions is not None:
        return module.extended_versions.get(name)
    return (module.versions or {}).get(name)


def _has_checksums(loader: Loader, module: ModuleFile) -> bool:
    return module.versions is not None or (loader.extended_versions and module.extended_versions is not None)


def _version_agrees(loader: Loader, module: ModuleFile, name: str, crc: int | None) -> bool:
    """Tell whether checksums agree, as ``check_version()`` decides it.

    A checksum that one side lacks is taken to agree, unless the module has no checksums at all.
    """
    if crc is None or not loader.checksums:
        return True
    if not _has_checksums(loader, module):
        return loader.forced
    wanted = _wanted_checksum(loader, module, name)
    return wanted == crc if wanted is not None else not loader.needs_every_version


def _layout(loader: Loader, module: ModuleFile) -> Refusal | None:
    own = next(iter(loader.exports.all(LAYOUT)), None)
    if own is None or _version_agrees(loader, module, LAYOUT, own.crc):
        return None
    return errno.ENOEXEC, f"disagrees about version of symbol {LAYOUT}"


def _vermagic(loader: Loader, module: ModuleFile) -> Refusal | None:
    magic, wanted = module.value("vermagic"), loader.vermagic
    if magic is None:
        return None if loader.forced else (errno.ENOEXEC, "has no version magic")
    if wanted is None:
        return None
    cut = _after_release if loader.checksums and _has_checksums(loader, module) else str
    if cut(magic) == cut(wanted):
        return None
    return errno.ENOEXEC, f"version magic '{magic}' should be '{wanted}'"


def _after_release(magic: str) -> str:
    """Return a vermagic without the release.

    The release is not compared if there are checksums.
    """
    return magic[magic.find(" ") :] if " " in magic else ""


def _loaded(loader: Loader, name: str) -> Refusal | None:
    state = _state(loader, name)
    if state is None:
        return None
    return errno.EEXIST, f"a module of that name is there already (state: {state})"


def _state(loader: Loader, name: str) -> str | None:
    """Return the state of the loaded module of a name; None if there is none."""
    return next((module.state for module in loader.exports.modules if module.name == name), None)


def _own_checksums(loader: Loader, module: ModuleFile) -> Refusal | None:
    if not loader.checksums or loader.forced:
        return None
    for end in ("", "_gpl"):
        if module.elf.sections.get(f"__ksymtab{end}") and f"__kcrctab{end}" not in module.elf.sections:
            return errno.ENOEXEC, "no versions for exported symbols"
    return None


def _symbols(module: ModuleFile, uses: tuple[Use, ...]) -> Refusal | None:
    """Return the refusal for the last symbol that the module cannot get.

    The last one determines the error, as in the kernel.
    """
    common = any(symbol.index == "COM" and not symbol.name.startswith("__gnu_lto") for symbol in module.elf.symbols)
    failed = [use for use in uses if use.errno]
    if not failed:
        return (errno.ENOEXEC, "has common symbols: please compile with -fno-common") if common else None
    last = failed[-1]
    others = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
    return last.errno, f"Unknown symbol {last.name} (err -{last.errno}): {last.problem}{others}"


def _duplicate(loader: Loader, module: ModuleFile) -> Refusal | None:
    for name in module.exported:
        for export in loader.exports.all(name):
            return errno.ENOEXEC, f"exports duplicate symbol {name} (owned by {export.owner})"
    return None


def _uses(loader: Loader, module: ModuleFile, name: str) -> Iterator[Use]:
    """Yield every undefined symbol, treated like the kernel does.

    The functions in the kernel are ``simplify_symbols()`` and ``resolve_symbol()``.
    """
    licence = module.value("license") or NO_LICENCE
    for symbol in module.elf.symbols[1:]:
        if symbol.index == "UND":
            use = _use(loader, module, name, licence, symbol.name)
            nothing = use.errno == errno.ENOENT and use.export is None
            if nothing and (symbol.bind == "WEAK" or symbol.name == IGNORED.get(loader.architecture or "")):
                use = Use(use.name, None)
            yield use


def _use(loader: Loader, module: ModuleFile, name: str, licence: str, wanted: str) -> Use:
    compatible = licence in GPL_COMPATIBLE
    there = [export for export in loader.exports.all(wanted) if _state(loader, export.owner) != UNFORMED]
    export = next((export for export in there if compatible or not export.gpl_only), None)
    if export is None:
        if not there:
            return Use(wanted, None, errno.ENOENT, "nothing exports it")
        return Use(wanted, None, errno.ENOENT, f"{there[0].owner} exports it for the GPL only, not for {licence!r}")
    if not _version_agrees(loader, module, wanted, export.crc):
        crc = _wanted_checksum(loader, module, wanted)
        problem = "has no symbol version of it"
        if crc is not None:
            problem = f"disagrees about its version: 0x{export.crc:08x}, not 0x{crc:08x}"
        return Use(wanted, export, errno.EINVAL, problem)
    if not loader.lax_namespaces and not _may_import(export.namespace, name, module):
        problem = f"uses it from namespace {export.namespace}, but does not import that"
        return Use(wanted, export, errno.EINVAL, problem)
    state = _state(loader, export.owner)
    if state == STILL_LOADING:
        return Use(wanted, export, errno.EBUSY, f"{export.owner} is still being loaded")
    if state == UNLOADING:
        return Use(wanted, export, errno.ENOENT, f"{export.owner} is being unloaded")
    return Use(wanted, export)


def _may_import(namespace: str, name: str, module: ModuleFile) -> bool:
    """Tell whether a module may use the symbols of a namespace.

    It may if it imports the namespace, or if the namespace names it.
    """
    if not namespace or namespace in module.values("import_ns"):
        return True
    if not namespace.startswith(MODULE_NAMESPACE):
        return False
    own = name.replace("-", "_")
    for pattern in namespace.removeprefix(MODULE_NAMESPACE).replace("-", "_").split(","):
        if own == pattern or (pattern.endswith("*") and own.startswith(pattern[:-1])):
            return True
    return False


def _remarks(loader: Loader, module: ModuleFile) -> Iterator[str]:
    """Yield the points that the verdict leaves open."""
    if loader.checks_signatures and module.signature is not None:
        yield (
            "its signature was not checked; the kernel refuses a module that was changed after signing (EKEYREJECTED)"
        )
    elif loader.checks_signatures and loader.signed_only is None:
        yield "it is not signed, and it is not known whether the kernel requires signatures"
    if loader.vermagic is None:
        yield "the kernel's version magic was not found, so the module's was not compared"
    yield from (f"the exports are incomplete: {line}" for line in loader.exports.missing)
