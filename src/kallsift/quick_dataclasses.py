"""Make dataclasses in a fifth of the time that the standard library's own decorator takes.

That compiles up to six methods for each class; for the hundred classes that a command imports it takes as long as to
place a kernel. Here one method is compiled for each class, and all classes share the others. To type checkers it is the
standard library's decorator, and so are its fields: `dataclasses.replace`, `fields` and ``match`` work as with that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass

Class = TypeVar("Class", bound=type)

COLLECT_FIELDS = dataclasses.dataclass(init=False, repr=False, eq=False)
"""What the standard library does without compiling anything: it reads the fields and checks them."""


def _quick(
    cls: type | None = None, /, *, frozen: bool = False, eq: bool = True, repr: bool = True
) -> type | Callable[[type], type]:
    """As `dataclasses.dataclass`, for the arguments that this package uses."""
    methods: dict[str, object] = {}
    if frozen:
        methods |= {"__setattr__": _refuse_assignment, "__delattr__": _refuse_deletion}
    if eq:
        methods |= {"__eq__": _equals, "__hash__": _hash if frozen else None}
    if repr:
        methods |= {"__repr__": _represent}
    return (lambda cls: _made(cls, methods)) if cls is None else _made(cls, methods)


def _made(cls: type, methods: dict[str, object]) -> type:
    """Return the class with its fields, a method that fills them, and what else it does not define itself."""
    COLLECT_FIELDS(cls)
    for name, method in {"__init__": _initializer(cls), **methods}.items():
        # who defines equality takes the default hash from a class
        if name not in cls.__dict__ or (name == "__hash__" and cls.__dict__[name] is None):
            setattr(cls, name, method)
    return cls


def _initializer(cls: type) -> object:
    """Compile the method that takes the fields' values."""
    known: dict[str, object] = {"assign": object.__setattr__, "missing": dataclasses.MISSING}
    parameters, body = ["self"], []
    fields = dataclasses.fields(cls)
    for field in fields:
        name, value = field.name, field.name
        if field.default_factory is not dataclasses.MISSING:
            known[f"make_{name}"] = field.default_factory
            value = f"make_{name}() if {name} is missing else {name}" if field.init else f"make_{name}()"
            parameters += [f"{name}=missing"] * field.init
        elif field.default is not dataclasses.MISSING:
            known[f"default_{name}"] = field.default
            parameters += [f"{name}=default_{name}"] * field.init
        else:
            parameters += [name] * field.init
        if field.init or field.default_factory is not dataclasses.MISSING:
            body.append(f"    assign(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        body.append("    self.__post_init__()")
    exec("\n".join((f"def __init__({', '.join(parameters)}):", *body, "    return None")), known)
    method: Any = known["__init__"]
    method.__qualname__ = f"{cls.__qualname__}.__init__"
    method.__module__ = cls.__module__
    method.__annotations__ = {field.name: field.type for field in fields if field.init} | {"return": None}
    return method


def _refuse_assignment(self: object, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_deletion(self: object, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _compared(self: Any) -> tuple[object, ...]:
    """Return the values by which instances are compared."""
    return tuple(getattr(self, field.name) for field in dataclasses.fields(self) if field.compare)


def _equals(self: object, other: object) -> bool:
    return _compared(self) == _compared(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: object) -> int:
    return hash(_compared(self))


@recursive_repr()
def _represent(self: Any) -> str:
    values = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if f.repr)
    return f"{type(self).__qualname__}({values})"


if not TYPE_CHECKING:
    dataclass = _quick
