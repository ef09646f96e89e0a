"""Find the types of loaded modules: each has those that the kernel lacks, in memory of its own (split BTF).

``module.btf_data`` is gone when a module runs; ``struct btf_module`` of the list ``btf_modules`` (kernel/bpf/btf.c) has
it from then on. Its types number on behind the kernel's, which ``struct btf`` confirms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from kallsift.errors import UnmappedError
from kallsift.kallsyms.escapes import escaped
from kallsift.kernel.access.btf_blob import MAX_SIZE, BtfError, parse
from kallsift.kernel.access.list_head import MAX_MEMBERS, ListError, reachable
from kallsift.types.btf import Btf
from kallsift.types.type import Type
from kallsift.types.types import Types

LIST = "btf_modules"


BTF_FIELDS = ("data", "data_size", "start_id", "start_str_off")
"""Members of ``struct btf`` that say where a module's types are, and what they build on."""


@dataclass(frozen=True)
class _Entry:
    """A module's types as the kernel keeps them.

    Attributes:
        name: the module's name.
        btf: address of its ``struct btf``.
        fields: offsets in that of `BTF_FIELDS`.
    """

    name: str
    btf: int
    fields: tuple[int, ...]


def module_types(types: Types, name: str) -> Types:
    """Return the types of a loaded module, together with the kernel's.

    Raises:
        BtfError: if it has none, or they cannot be read.
    """
    known: list[str] = []
    for entry in _entries(types):
        if entry.name == name:
            return _module_types(types, entry)
        known.append(entry.name)
    near = get_close_matches(name, known, 1)
    some = (
        f"modules with types: {len(known):,}, for example {escaped(known[0])}"
        if known
        else "no loaded module has types"
    )
    advice = f"did you mean {escaped(near[0])}?" if near else some
    raise BtfError(f"no loaded module called {escaped(name)} has types of its own; {advice}")


def modules_with_types(types: Types) -> tuple[str, ...]:
    """Return the names of all loaded modules that have types of their own.

    Raises:
        BtfError: if the list of them is not there, or cannot be read.
    """
    return tuple(entry.name for entry in _entries(types))


def loaded_types(types: Types) -> tuple[list[tuple[str, Types]], list[BtfError]]:
    """Return all loaded modules with their types, and the errors.

    Nothing for images, and for kernels that keep no types of modules.
    """
    found: list[tuple[str, Types]] = []
    errors: list[BtfError] = []
    if types.kernel.memory.image is not None or LIST not in types.kernel.symbols:
        return found, errors
    try:
        for name, own in types_of_modules(types):
            if isinstance(own, BtfError):
                errors.append(own)
            else:
                found.append((name, own))
    except BtfError as error:
        errors.append(error)
    return found, errors


def types_of_modules(types: Types) -> Iterator[tuple[str, Types | BtfError]]:
    """Yield each loaded module that has types, with these or with their error.

    Raises:
        BtfError: if the list of them is not there, or cannot be read.
    """
    for entry in _entries(types):
        try:
            yield entry.name, _module_types(types, entry)
        except BtfError as error:
            yield entry.name, error


def _entries(types: Types) -> Iterator[_Entry]:
    """Yield the types of each module that has some.

    Raises:
        BtfError: if the list of them is not there, or cannot be read.
    """
    head = types.kernel.symbols.find(LIST)
    if head is None:
        raise BtfError("the kernel keeps no types of modules, or its table lacks the symbol of their list")
    entry, module, btf = (_structure(types, structure) for structure in ("btf_module", "module", "btf"))
    link, owner, own = (_offset(entry, field) for field in ("list", "module", "btf"))
    name, fields = _offset(module, "name"), tuple(_offset(btf, field) for field in BTF_FIELDS)
    longest = module["name"].type.length
    memory = types.memory
    try:
        found = reachable(memory, int(types.kernel.symbols.addresses[head]), MAX_MEMBERS)
        for node in found.nodes.tolist():
            text = memory.string(memory.value(node - link + owner) + name, longest)
            yield _Entry(text.decode("latin-1"), memory.value(node - link + own), fields)
    except (UnmappedError, ListError) as error:
        raise BtfError(f"the list of modules' types cannot be read: {error}") from error


def _module_types(types: Types, entry: _Entry) -> Types:
    """Return the types of one module."""
    memory, name = types.memory, escaped(entry.name)
    try:
        data, *rest = (entry.btf + offset for offset in entry.fields)
        size, start, start_names = (memory.value(address, 4) for address in rest)
        if size > MAX_SIZE:
            raise BtfError("they are larger than those of any module")
        found = Btf(parse(memory.read(memory.value(data), size)), types.btf.word_size, types.btf)
    except (UnmappedError, BtfError) as error:
        raise BtfError(f"{name}: its types cannot be read: {error}") from error
    if (found.first, found.name_base) != (start, start_names):
        raise BtfError(f"{name}: its types do not extend the kernel's")
    return Types(found, entry.name, types.kernel, memory)


def _structure(types: Types, name: str) -> Type:
    found = types.get(f"struct {name}")
    if found is None:
        raise BtfError(f"the kernel has no struct {name}")
    return found


def _offset(type_: Type, name: str) -> int:
    member = type_.get(name)
    if member is None:
        raise BtfError(f"struct {type_.name} has no member {name}")
    return member.offset
