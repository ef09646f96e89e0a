"""Dataclasses that are made quickly do what those of the standard library do."""

from __future__ import annotations

import ast
import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import Any

import pytest

import kallsift
from kallsift.quick_dataclasses import dataclass

Decorator = Callable[..., Any]
DECORATORS: dict[str, Decorator] = {"quick": dataclass, "standard": dataclasses.dataclass}
both = pytest.mark.parametrize("decorator", DECORATORS.values(), ids=DECORATORS)


@dataclass(frozen=True)
class Kept:
    """As its definition stands in a module, which pickle needs."""

    name: str
    sizes: tuple[int, ...] = ()


def made(decorator: Decorator, **options: bool) -> tuple[Any, Any]:
    """A class with each kind of field, and one that extends it."""

    class Base:
        """Has fields."""

        name: str
        size: int = 4
        parts: list[int] = field(default_factory=list)
        hidden: int = field(default=0, repr=False, compare=False)
        counted: dict[str, int] = field(default_factory=dict, init=False)

        def __post_init__(self) -> None:
            self.counted[self.name] = self.size

    base = decorator(**options)(Base)

    class Extended(base):  # type: ignore[misc, valid-type]
        """Has one more."""

        more: int = 1

    return base, decorator(**options)(Extended)


@both
@pytest.mark.parametrize("frozen", [True, False])
def test_values(decorator: Decorator, frozen: bool) -> None:
    _, extended = made(decorator, frozen=frozen)
    one = extended("a", parts=[1])
    assert (one.name, one.size, one.parts, one.hidden, one.counted, one.more) == ("a", 4, [1], 0, {"a": 4}, 1)
    assert repr(one).endswith("Extended(name='a', size=4, parts=[1], counted={'a': 4}, more=1)")
    assert dataclasses.replace(one, size=8, more=2).counted == {"a": 8}
    assert extended("b").parts is not extended("b").parts
    assert extended.__match_args__ == ("name", "size", "parts", "hidden", "more")
    assert list(inspect.signature(extended).parameters) == ["name", "size", "parts", "hidden", "more"]
    wrong: tuple[object, ...]
    for wrong in ((), ("a", 1, [], 0, 1, 1)):
        with pytest.raises(TypeError, match="__init__"):
            extended(*wrong)


@both
def test_equality(decorator: Decorator) -> None:
    base, extended = made(decorator, frozen=True)
    assert base("a", hidden=1) == base("a", hidden=2)
    assert base("a") != base("b")
    assert base("a") != extended("a")
    with pytest.raises(TypeError, match="unhashable type: 'list'"):
        hash(base("a"))
    by_identity, _ = made(decorator, frozen=True, eq=False)
    assert by_identity("a") != by_identity("a")
    assert isinstance(hash(by_identity("a")), int)
    changeable, _ = made(decorator)
    assert changeable.__hash__ is None


@both
def test_frozen(decorator: Decorator) -> None:
    one = made(decorator, frozen=True)[1]("a")
    for name in ("size", "new"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(one, name, 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        del one.size
    other = made(decorator)[1]("a")
    other.size = 5
    assert other.size == 5


@both
def test_what_a_class_defines_itself_stays(decorator: Decorator) -> None:
    class Own:
        """Says what it is."""

        name: str

        def __repr__(self) -> str:
            return "own"

        def __eq__(self, other: object) -> bool:
            return True

    own = decorator(frozen=True)(Own)
    assert repr(own("a")) == "own"
    assert own("a") == own("b")
    assert hash(own("a")) == hash(own("a"))
    assert "object at" in repr(made(decorator, repr=False)[0]("a"))


@both
def test_a_circle_is_printed_once(decorator: Decorator) -> None:
    one = made(decorator)[0]("a")
    one.parts.append(one)
    assert "parts=[...]" in repr(one)


def test_copies() -> None:
    one = Kept("a", (1, 2))
    assert pickle.loads(pickle.dumps(one)) == one == copy.deepcopy(one)
    assert len({one, copy.copy(one)}) == 1


def test_the_package_makes_no_others() -> None:
    own = Path(kallsift.__file__).with_name("quick_dataclasses.py")
    for path in own.parent.rglob("*.py"):
        imports = (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ImportFrom))
        names = {alias.name for node in imports if node.module == "dataclasses" for alias in node.names}
        assert path == own or "dataclass" not in names, path
