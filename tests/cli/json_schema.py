"""Check JSON documents against docs/json.schema.json: as much of JSON Schema (2020-12) as that file uses.

One thing is stricter: every key of a document must be described.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SCHEMA = Path(__file__).parents[2] / "docs" / "json.schema.json"

KINDS: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
    "null": type(None),
}
ANNOTATIONS = {"description", "title", "$schema", "$defs"}


def problems(document: Any) -> list[str]:
    """What is wrong with a document, each with where; empty if nothing is."""
    schema = json.loads(SCHEMA.read_text())
    return list(_problems(document, schema, schema, "$"))


def _problems(value: Any, schema: dict[str, Any], root: dict[str, Any], place: str) -> Iterator[str]:
    for word, rule in schema.items():
        if word in ANNOTATIONS:
            continue
        yield from _RULES[word](value, rule, root, place)
    if isinstance(value, dict) and schema.get("type") == "object":
        yield from (f"{place}: {key} is not described" for key in value.keys() - schema["properties"].keys())


def _type(value: Any, rule: str, _root: dict[str, Any], place: str) -> Iterator[str]:
    if not isinstance(value, KINDS[rule]) or (rule == "integer" and isinstance(value, bool)):
        yield f"{place}: {value!r} is no {rule}"


def _same(value: Any, rule: Any, _root: dict[str, Any], place: str) -> Iterator[str]:
    if value != rule:
        yield f"{place}: {value!r} is not {rule!r}"


def _one_of(value: Any, rule: list[Any], _root: dict[str, Any], place: str) -> Iterator[str]:
    if value not in rule:
        yield f"{place}: {value!r} is none of {rule}"


def _pattern(value: Any, rule: str, _root: dict[str, Any], place: str) -> Iterator[str]:
    if isinstance(value, str) and not re.search(rule, value):
        yield f"{place}: {value!r} does not match {rule}"


def _least(value: Any, rule: int, _root: dict[str, Any], place: str) -> Iterator[str]:
    if isinstance(value, str) and len(value) < rule:
        yield f"{place}: {value!r} is too short"


def _most(value: Any, rule: int, _root: dict[str, Any], place: str) -> Iterator[str]:
    if isinstance(value, str) and len(value) > rule:
        yield f"{place}: {value!r} is too long"


def _required(value: Any, rule: list[str], _root: dict[str, Any], place: str) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (f"{place}: {key} is missing" for key in rule if key not in value)


def _properties(value: Any, rule: dict[str, Any], root: dict[str, Any], place: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key in value.keys() & rule.keys():
            yield from _problems(value[key], rule[key], root, f"{place}.{key}")


def _items(value: Any, rule: dict[str, Any], root: dict[str, Any], place: str) -> Iterator[str]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _problems(item, rule, root, f"{place}[{index}]")


def _any(value: Any, rule: list[dict[str, Any]], root: dict[str, Any], place: str) -> Iterator[str]:
    found = [list(_problems(value, one, root, place)) for one in rule]
    if all(found):
        yield from min(found, key=len)


def _reference(value: Any, rule: str, root: dict[str, Any], place: str) -> Iterator[str]:
    yield from _problems(value, root["$defs"][rule.removeprefix("#/$defs/")], root, place)


_RULES: dict[str, Callable[[Any, Any, dict[str, Any], str], Iterator[str]]] = {
    "type": _type,
    "const": _same,
    "enum": _one_of,
    "pattern": _pattern,
    "minLength": _least,
    "maxLength": _most,
    "required": _required,
    "properties": _properties,
    "items": _items,
    "anyOf": _any,
    "$ref": _reference,
}
