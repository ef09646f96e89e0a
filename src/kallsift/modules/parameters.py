"""Read the parameters of a module as ``/sys/module/NAME/parameters`` shows them.

``struct kernel_param`` has five words since 4.1: name, module, operations, permissions, and a pointer to the variable
(include/linux/moduleparam.h). The function in the operations that prints the parameter tells the type
(kernel/params.c).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from kallsift.errors import UnmappedError
from kallsift.kernel.access.virtual_memory import VirtualMemory

WORDS = 5
"""Size of ``struct kernel_param`` in words."""

MAX_PARAMETERS = 1 << 10
"""Highest number of parameters of a module; few have a hundred."""

MAX_ELEMENTS = 1 << 9
"""Highest number of elements of an array parameter."""

MAX_NAME = 256
MAX_VALUE = 1024
"""Highest number of characters of a string; the kernel takes no longer one (kernel/params.c)."""

GETTERS = {
    "param_get_byte": "byte",
    "param_get_short": "short",
    "param_get_ushort": "ushort",
    "param_get_int": "int",
    "param_get_uint": "uint",
    "param_get_hexint": "hexint",
    "param_get_long": "long",
    "param_get_ulong": "ulong",
    "param_get_ullong": "ullong",
    "param_get_bool": "bool",
    "param_get_invbool": "invbool",
    "param_get_charp": "charp",
    "param_get_string": "string",
    "param_array_get": "array",
}
"""The kernel's functions that print parameters, and the types of these (kernel/params.c)."""

NUMBERS: Mapping[str, tuple[int | None, bool]] = {
    "byte": (1, False),
    "short": (2, True),
    "ushort": (2, False),
    "int": (4, True),
    "uint": (4, False),
    "hexint": (4, False),
    "long": (None, True),
    "ulong": (None, False),
    "ullong": (8, False),
}
"""Types of numbers: their size in bytes (None for a word), and whether they are signed."""


@dataclass(frozen=True)
class ModuleParameter:
    """One parameter of a module.

    Attributes:
        name: name without the module's.
        type: type as in `GETTERS`; None if the module prints it by a function of its own.
        value: value as the kernel prints it; None if it is not known.
        mode: permissions of its file; 0 if it has none.
    """

    name: str
    type: str | None
    value: str | None
    mode: int


Namer = Callable[[int], str | None]
"""Function that returns the type for the address of a function that prints parameters, and None for any other."""


def parameters(memory: VirtualMemory, start: int, count: int, type_of: Namer) -> tuple[ModuleParameter, ...]:
    """Return all parameters of a module in its own order.

    Raises:
        UnmappedError: if they cannot be read, or there are too many.
    """
    if count > MAX_PARAMETERS:
        raise UnmappedError(start, count)
    size = memory.words.size
    return tuple(_parameter(memory, start + number * WORDS * size, type_of) for number in range(count))


def _parameter(memory: VirtualMemory, place: int, type_of: Namer) -> ModuleParameter:
    size = memory.words.size
    name, operations, argument = (memory.value(place + word * size) for word in (0, 2, 4))
    kind = _type(memory, operations, type_of)
    try:
        value = None if kind is None else _printed(memory, argument, kind, type_of)
    except UnmappedError:
        value = None
    mode = memory.value(place + 3 * size, 2)
    return ModuleParameter(memory.string(name, MAX_NAME).decode("latin-1"), kind, value, mode)


def _type(memory: VirtualMemory, operations: int, type_of: Namer) -> str | None:
    """Return the type of a parameter by the function that prints it.

    In the operations, this function stands behind the flags and the function that sets the parameter.
    """
    functions, held = memory.values(np.array([operations + 2 * memory.words.size], np.uint64))
    return type_of(int(functions[0])) if held[0] else None


def _printed(memory: VirtualMemory, place: int, kind: str, type_of: Namer) -> str | None:
    size = memory.words.size
    if kind in NUMBERS:
        width, signed = NUMBERS[kind]
        width = width or size
        number = memory.value(place, width)
        if signed and number >> 8 * width - 1:
            number -= 1 << 8 * width
        return f"{number:#08x}" if kind == "hexint" else str(number)
    if kind in ("bool", "invbool"):
        return "Y" if (memory.value(place, 1) != 0) is (kind == "bool") else "N"
    if kind == "charp":
        text = memory.value(place)
        return memory.string(text, MAX_VALUE).decode("latin-1") if text else "(null)"
    if kind == "string":  # struct kparam_string: size, text
        return memory.string(memory.value(place + size), MAX_VALUE).decode("latin-1")
    return _elements(memory, place, type_of)


def _elements(memory: VirtualMemory, place: int, type_of: Namer) -> str | None:
    """Return the elements of a ``struct kparam_array`` as text; None if unknown.

    The structure has the highest number of elements, the size of one, a pointer to the number, the operations, and the
    pointer to the elements.
    """
    size = memory.words.size
    most, width = memory.value(place, 4), memory.value(place + 4, 4)
    counted, operations, elements = (memory.value(place + 8 + word * size) for word in range(3))
    count = memory.value(counted, 4) if counted else most
    kind = _type(memory, operations, type_of)
    if count > min(most, MAX_ELEMENTS) or kind in (None, "array"):
        return None
    values = [_printed(memory, elements + number * width, str(kind), type_of) for number in range(count)]
    return None if None in values else ",".join(str(value) for value in values)
