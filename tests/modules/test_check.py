"""The loader's decisions, one by one: each module differs in one thing from one that would be loaded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kallsift.modules.insmod.check import Verdict, check
from kallsift.modules.insmod.kernel_config import Loader
from kallsift.modules.insmod.ko_file import read_module
from tests.modules.loadable import EXPORTS, GOOD, LOADER, MAGIC
from tests.modules.module_builder import COMMON, GLOBAL, TEXT, UNDEFINED, WEAK, Built


def verdict(loader: Loader = LOADER, **changes: Any) -> Verdict:
    """On the good module with changes; those of modinfo by ``information``, where None takes a key away."""
    information = {**GOOD["information"], **changes.pop("information", {})}
    known = {key: value for key, value in information.items() if value is not None}
    return check(loader, read_module(Built(**{**GOOD, **changes, "information": known}).data()), "a-file")


def wanting(*names: str, bind: int = GLOBAL) -> list[tuple[str, int, int]]:
    return [(name, bind, UNDEFINED) for name in names]


def test_a_good_module_is_loaded_and_gets_what_it_wants() -> None:
    found = verdict()
    assert (found.loads, found.errno, found.error, found.reason, found.name) == (True, 0, "", "", "good")
    assert [(use.name, use.export and use.export.owner, use.problem) for use in found.uses] == [
        ("free", "vmlinux", ""),
        ("bound", "vmlinux", ""),
    ]
    assert found.remarks == ()


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown": ({"symbols": wanting("free", "nobody")}, "ENOENT", "Unknown symbol nobody (err -2): nothing exports it"),
    "proprietary": (
        {"information": {"license": "Proprietary"}},
        "ENOENT",
        "Unknown symbol bound (err -2): vmlinux exports it for the GPL only, not for 'Proprietary'",
    ),
    "no licence": ({"information": {"license": None}}, "ENOENT", "Unknown symbol bound (err -2): vmlinux exports it"),
    "vermagic": (
        {"information": {"vermagic": "6.1.0 SMP preempt mod_unload modversions "}},
        "ENOEXEC",
        "version magic '6.1.0 SMP preempt mod_unload modversions ' should be '6.1.0 SMP mod_unload modversions '",
    ),
    "no vermagic": ({"information": {"vermagic": None}}, "ENOEXEC", "has no version magic"),
    "checksum": (
        {"versions": {"module_layout": 1, "free": 99, "bound": 3}},
        "EINVAL",
        "Unknown symbol free (err -22): disagrees about its version: 0x00000002, not 0x00000063",
    ),
    "layout": ({"versions": {"module_layout": 9}}, "ENOEXEC", "disagrees about version of symbol module_layout"),
    "no checksums": ({"versions": None}, "ENOEXEC", "disagrees about version of symbol module_layout"),
    "namespace": (
        {"symbols": wanting("spaced")},
        "EINVAL",
        "Unknown symbol spaced (err -22): uses it from namespace SPACE, but does not import that",
    ),
    "named namespace": ({"symbols": wanting("named")}, "EINVAL", "Unknown symbol named (err -22): uses it from"),
    "machine": ({"machine": "arm64"}, "ENOEXEC", "is for arm64, 64 bits, little-endian; the kernel for x86-64"),
    "class": ({"machine": "x86", "bits": 32}, "ENOEXEC", "is for x86, 32 bits"),
    "type": ({"kind": 2}, "ENOEXEC", "is not a relocatable object"),
    "object": ({"this_module": False}, "ENOEXEC", "No module found in object"),
    "common": ({"symbols": [("mine", GLOBAL, COMMON)]}, "ENOEXEC", "has common symbols"),
    "there": ({"information": {"name": "other"}}, "EEXIST", "a module of that name is there already (state: Live)"),
    "banned": ({"information": {"name": "banned"}}, "EPERM", "Module banned is blacklisted"),
    "duplicate": (
        {"symbols": [("__ksymtab_free", GLOBAL, TEXT)]},
        "ENOEXEC",
        "exports duplicate symbol free (owned by",
    ),
    "coming": ({"symbols": wanting("of_coming")}, "EBUSY", "Unknown symbol of_coming (err -16): coming is still"),
    "going": ({"symbols": wanting("of_going")}, "ENOENT", "Unknown symbol of_going (err -2): going is being unloaded"),
    "the last one counts": (
        {"symbols": wanting("nobody", "spaced")},
        "EINVAL",
        "Unknown symbol spaced (err -22): uses it from namespace SPACE, but does not import that, and 1 more",
    ),
    "layout before vermagic": (
        {"versions": {"module_layout": 9}, "information": {"vermagic": "other"}},
        "ENOEXEC",
        "disagrees about version of symbol module_layout",
    ),
    "vermagic before existence": ({"information": {"vermagic": "x", "name": "other"}}, "ENOEXEC", "version magic 'x'"),
    "existence before symbols": ({"symbols": wanting("nobody"), "information": {"name": "other"}}, "EEXIST", ""),
}
"""Changes of the good module, the error, and how the reason begins."""


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    changes, error, reason = REFUSED[name]
    found = verdict(**changes)
    assert (found.error, found.loads) == (error, False)
    assert found.reason.startswith(reason)


TAKEN: dict[str, dict[str, Any]] = {
    "weak": {"symbols": wanting("nobody", bind=WEAK)},
    "weak, for the GPL only": {"symbols": wanting("bound", bind=WEAK), "information": {"license": "Proprietary"}},
    "proprietary, and content with what is free": {
        "symbols": wanting("free"),
        "information": {"license": "Proprietary"},
    },
    "left behind by an assembler": {"symbols": wanting("_GLOBAL_OFFSET_TABLE_")},
    "another release": {"information": {"vermagic": MAGIC.replace("6.1.0", "6.1.1")}},
    "imported": {"symbols": wanting("spaced"), "information": {"import_ns": ["OTHER", "SPACE"]}},
    "named": {"symbols": wanting("named"), "information": {"name": "friend_of_mine"}},
    "named as a whole": {"symbols": wanting("named"), "information": {"name": "good_module"}},
    "a module's": {"symbols": wanting("of_other")},
    "no checksum of its own": {"versions": {"module_layout": 1, "free": 2}},
    "no checksum of the kernel's": {"symbols": wanting("uncounted"), "versions": {"module_layout": 1, "uncounted": 9}},
}


@pytest.mark.parametrize("name", TAKEN)
def test_taken(name: str) -> None:
    found = verdict(**TAKEN[name])
    assert (found.errno, found.reason) == (0, "")


def test_a_loader_that_takes_what_is_forced() -> None:
    forced = replace(LOADER, forced=True)
    assert verdict(forced, versions=None).loads
    assert verdict(forced, information={"vermagic": None}).loads
    assert not verdict(forced, versions=None, information={"vermagic": "6.1.1 SMP mod_unload modversions "}).loads


def test_a_loader_without_checksums() -> None:
    plain = replace(LOADER, vermagic="6.1.0 SMP ", exports=replace(EXPORTS, checksums=False))
    assert verdict(plain, versions={"free": 99}, information={"vermagic": "6.1.0 SMP "}).loads
    assert verdict(plain, information={"vermagic": "6.1.1 SMP "}).error == "ENOEXEC"


def test_checksums_in_the_newer_form() -> None:
    newer, wrong = replace(LOADER, extended_versions=True), {"module_layout": 1, "free": 9}
    assert verdict(newer, versions=None, extended={"module_layout": 1, "free": 2}).loads
    assert verdict(newer, extended=wrong).error == "EINVAL"
    assert verdict(LOADER, extended=wrong).loads


def test_a_loader_that_wants_a_checksum_of_every_symbol() -> None:
    """As Debian's do."""
    strict, without = replace(LOADER, needs_every_version=True), {"module_layout": 1, "free": 2}
    assert verdict(strict).loads
    found = verdict(strict, versions=without)
    assert (found.error, found.reason) == ("EINVAL", "Unknown symbol bound (err -22): has no symbol version of it")


def test_namespaces_that_only_warn() -> None:
    assert verdict(replace(LOADER, lax_namespaces=True), symbols=wanting("spaced")).loads


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"signed_only": True}, "EKEYREJECTED"), ({"locked_down": True}, "EPERM"), ({"disabled": True}, "EPERM")],
)
def test_policies(changes: dict[str, Any], error: str) -> None:
    strict = replace(LOADER, **changes)
    assert verdict(strict).error == error
    signed = verdict(strict, signature=b"s" * 99)
    assert signed.error == ("EPERM" if strict.disabled else "")
    assert "signature was not checked" in signed.remarks[0]


def test_what_is_not_known_is_told() -> None:
    unknown = replace(LOADER, signed_only=None, vermagic=None, exports=replace(EXPORTS, missing=("modules: gone",)))
    assert len(verdict(unknown).remarks) == 3


def test_modules_that_do_not_name_themselves() -> None:
    assert verdict(information={"name": None}).name == "a_file"
