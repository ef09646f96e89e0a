"""Find the types of loaded modules: each has those that the kernel lacks, in memory of its own (split BTF).

``module.btf_data`` is gone when a module runs; ``struct btf_module`` of the list ``btf_modules`` (kernel/bpf/btf.c) has
it from then on. Its types number on behind the kernel's, which ``struct btf`` confirms.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from kallsift.errors import UnmappedError
from kallsift.kallsyms.escapes import escaped
from kallsift.kernel.access.btf_blob import MAX_SIZE, BtfError, parse
from kallsift.kernel.access.list_head import MAX_MEMBERS, ListError, reachable
from kallsift.types.btf import Btf
from kallsift.types.type import Type
from kallsift.types.types import Types

LIST = "btf_modules"


def module_types(types: Types, name: str) -> Types:
    """Return the types of a loaded module, together with the kernel's.

    Raises:
        BtfError: if it has none, or they cannot be read.
    """
    known: list[str] = []
    for module, entry in _entries(types):
        if module == name:
            return _module_types(types, name, entry)
        known.append(module)
    near = get_close_matches(name, known, 1)
    some = f"{len(known):,} have types, {escaped(known[0])} for one" if known else "none has"
    advice = f"did you mean {escaped(near[0])}?" if near else some
    raise BtfError(f"no module called {escaped(name)} is loaded, or it has no types of its own; {advice}")


def modules_with_types(types: Types) -> tuple[str, ...]:
    """Return the names of all loaded modules that have types of their own.

    Raises:
        BtfError: if the list of them is not there, or cannot be read.
    """
    return tuple(name for name, _ in _entries(types))


def _entries(types: Types) -> Iterator[tuple[str, int]]:
    """Yield name and ``struct btf_module`` of each module with types.

    Raises:
        BtfError: if the list of them is not there, or cannot be read.
    """
    head = types.kernel.symbols.find(LIST)
    if head is None:
        raise BtfError("the kernel keeps no types of modules, or its table does not name the list of them")
    entry, module = _structure(types, "btf_module"), _structure(types, "module")
    link, owner, name = _offset(entry, "list"), _offset(entry, "module"), _offset(module, "name")
    longest = module["name"].type.length
    try:
        found = reachable(types.memory, int(types.kernel.symbols.addresses[head]), MAX_MEMBERS)
        for node in found.nodes.tolist():
            address = types.memory.value(node - link + owner)
            yield types.memory.string(address + name, longest).decode("latin-1"), node - link
    except (UnmappedError, ListError) as error:
        raise BtfError(f"the list of modules' types cannot be read: {error}") from error


def _module_types(types: Types, name: str, entry: int) -> Types:
    """Return the types that a ``struct btf_module`` has."""
    memory, btf = types.memory, _structure(types, "btf")
    try:
        place = memory.value(entry + _offset(_structure(types, "btf_module"), "btf"))
        data = memory.value(place + _offset(btf, "data"))
        size, start, start_names = (
            memory.value(place + _offset(btf, field), 4) for field in ("data_size", "start_id", "start_str_off")
        )
        if size > MAX_SIZE:
            raise BtfError("they are larger than any")
        found = Btf(parse(memory.read(data, size)), types.btf.word_size, types.btf)
    except (UnmappedError, BtfError) as error:
        raise BtfError(f"{escaped(name)}: its types cannot be read: {error}") from error
    if (found.first, found.name_base) != (start, start_names):
        raise BtfError(f"{escaped(name)}: its types do not build on the kernel's")
    return Types(found, name, types.kernel, memory)


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
