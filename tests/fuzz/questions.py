"""Every question to a running kernel, asked of a real guest's memory that is damaged where the answers stand.

The kernel is recovered once, of what is whole. What a case does not damage must be answered as before, and what cannot
be answered must be said to be so.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import kallsift
from kallsift import Kernel, Resolver, dynamic_symbols, virtual_processors
from kallsift.analysis.address_space.layout import layout
from kallsift.analysis.pointer_tables.pointer_tables import pointer_table
from kallsift.errors import KallsiftError
from kallsift.kernel.access.virtual_memory import virtual_memory
from kallsift.modules.exports.exports import exports
from kallsift.modules.insmod.check import check
from kallsift.modules.insmod.kernel_config import loader
from kallsift.modules.insmod.ko_file import read_module
from kallsift.modules.inventory import Inventory, inventory
from kallsift.output.symbols.kallsyms import kallsyms_text
from kallsift.output.text.exports import symvers_lines
from kallsift.output.text.insmod_check import use_lines, verdict_line
from kallsift.output.text.layout import layout_document, layout_lines, page_table_lines
from kallsift.output.text.modules import module_table, modules_document, parameter_lines, proc_modules, section_lines
from tests.lab import Capture, capture, guest_named
from tests.modules.module_builder import GLOBAL, UNDEFINED, Built
from tests.real.conftest import memory_of, writable

from .kernel_damage import Damage
from .kernel_targets import targets
from .trials import FAILED, ROOM, Trials, refusal

PATIENCE = 20.0
"""Seconds that all questions together may take."""

MAPS = 3
"""How often the dump is mapped at most: whole, damaged, and by an error that is not gone yet."""

TABLES = ("sys_call_table", "idt_table", "vectors", "ia32_sys_call_table", "softirq_vec", "exception_table")

FEW = 2
"""Modules that may be damaged without any loss of others."""

OTHERS = {"users", "found_by"}
"""Facts of a module that others have a part in."""

Module = dict[str, Any]


class Questions:
    """One guest's kernel and what it answers while it is whole."""

    def __init__(self, taken: Capture) -> None:
        self.taken = taken
        with kallsift.open(taken.dump("elf")) as memory:
            self.kernel: Kernel = replace(kallsift.recover(memory), memory=memory_of(writable(taken)))
        self.memory = virtual_memory(self.kernel)
        loaded = inventory(self.kernel)
        self.targets = targets(self.kernel, self.memory, loaded)
        self.modules = modules_of(loaded)
        self.groups = {group.owner: group for group in dynamic_symbols(self.kernel).groups}
        self.took: dict[str, float] = {}
        self.damage = Damage(random.Random(), np.empty(0, np.uint8), self.memory, {})
        architecture = self.kernel.architecture or ""
        self.module = read_module(
            Built(
                machine=architecture if architecture != "arm" else "x86",
                bits=8 * self.kernel.symbols.word_size,
                order=self.kernel.byte_order,
                symbols=[(name, GLOBAL, UNDEFINED) for name in ("_printk", "printk", "kfree", "nothing_at_all")],
                information={"name": "fuzz", "license": "GPL", "vermagic": "1"},
            ).data()
        )

    def attempt(self, number: int, chance: random.Random) -> str:
        """One case: some damage, then all questions."""
        self.damage.data = np.empty(0, np.uint8)
        gc.collect()  # errors keep the memory that they came of until then
        data = writable(self.taken)
        self.damage = Damage(chance, data, self.memory, self.targets)
        self.damage.happen()
        kernel = replace(self.kernel, memory=memory_of(data))
        outcomes = []
        for name, (question, often) in QUESTIONS.items():
            if chance.random() >= often:
                continue
            started = time.monotonic()
            try:
                outcomes.append(question(self, kernel) or "answered")
            except KallsiftError as error:
                outcomes.append(refusal(error))
            except Exception:
                print(f"{name}:", end=" ")
                raise
            took = time.monotonic() - started
            if took > self.took.get(name, 0):
                self.took[name] = took
                if took > 2:
                    print(f"case {number}: {name} took {took:.1f} s: {self.damage.done[:4]}", flush=True)
        return min(outcomes, default="nothing asked")  # FAILED is the first in the order of letters

    def told(self, number: int) -> str:
        """What a case did, by which it can be done again."""
        return "--case " + "\n    ".join([str(number), *self.damage.done[:8]])

    def few_modules_damaged(self) -> bool:
        """Whether the damage is within some single modules."""
        return None not in self.damage.owners and len(self.damage.owners) <= FEW


def modules_of(loaded: Inventory) -> dict[str, Module]:
    """All that is known of each module, by the address of its structure."""
    return {one["address"]: one for one in modules_document(loaded, loaded.modules)["modules"]}


def all_symbols(asked: Questions, kernel: Kernel) -> str | None:
    found = dynamic_symbols(kernel)
    assert b"".join(kallsyms_text(kernel, found))
    resolver = Resolver.of(kernel, found)
    for group in found.groups:
        for symbol in (group.symbols.symbol(0), group.symbols.symbol(len(group.symbols) - 1)):
            resolver.at(symbol.address)
            resolver.backtrace(symbol.address + 1)
            resolver.resolve(f"{group.owner}:{symbol.name}")
    for address in (0, 1 << 63, (1 << 64) - 1):
        resolver.at(address)
    resolver.resolve("nothing:nothing")
    if not all(line.isprintable() for line in found.missing):
        return f"{FAILED}: missing is not printable"
    groups = {group.owner: group for group in found.groups}
    damaged = {asked.modules[f"{owner:#x}"]["name"] for owner in asked.damage.owners if owner is not None}
    if asked.few_modules_damaged():
        for owner, group in asked.groups.items():
            if owner not in damaged and not (owner in groups and groups[owner].symbols.same_as(group.symbols)):
                return f"{FAILED}: the symbols of {owner} are lost or others, missing: {found.missing}"
        if len(found.groups) < len(asked.groups) and not found.missing:
            return f"{FAILED}: the symbols of {damaged} are lost without a word"
    return None


def all_facts(asked: Questions, kernel: Kernel) -> str | None:
    loaded = inventory(kernel)
    known = modules_of(loaded)
    for lines in (module_table, proc_modules, section_lines, parameter_lines):
        list(lines(loaded, loaded.modules))
    for module in loaded.modules:
        module.symbols  # noqa: B018
    loaded.at(0)
    if not all(line.isprintable() for line in loaded.missing):
        return f"{FAILED}: missing is not printable"
    if asked.few_modules_damaged():
        damaged = {f"{owner:#x}" for owner in asked.damage.owners if owner is not None}
        for address in asked.modules.keys() - damaged:
            if address not in known:
                return f"{FAILED}: the module at {address} is lost"
            for fact, value in asked.modules[address].items():
                now = known[address][fact]
                told = now is None and (loaded.unknown or loaded.missing)
                if fact not in OTHERS and now != value and not told:
                    return f"{FAILED}: {fact} of the module at {address} is {now!r:.200}, not {value!r:.200}"
    return None


def all_exports(asked: Questions, kernel: Kernel) -> str | None:
    found = exports(kernel)
    assert len(list(symvers_lines(found))) == len(found)
    return None if all(line.isprintable() for line in found.missing) else f"{FAILED}: missing is not printable"


def whether_it_loads(asked: Questions, kernel: Kernel) -> str | None:
    verdict = check(loader(kernel, exports(kernel)), asked.module, "fuzz")
    assert verdict_line("fuzz.ko", verdict)
    list(use_lines(verdict.uses, 2 * kernel.symbols.word_size))
    return None


def all_regions(asked: Questions, kernel: Kernel) -> str | None:
    found, size = layout(kernel), kernel.symbols.word_size
    assert list(layout_lines(found, size))
    layout_document(found)
    found.at(0)
    if found.page_table is not None:
        for _ in page_table_lines(found.page_table.ranges, found, size):
            pass
    return None


def all_tables(asked: Questions, kernel: Kernel) -> str | None:
    for name in TABLES:
        try:
            pointer_table(kernel, name)
        except KallsiftError as error:
            if (outcome := refusal(error)).startswith(FAILED):
                return outcome
    return None


def all_guests(asked: Questions, kernel: Kernel) -> str | None:
    virtual_processors(kernel)
    return None


QUESTIONS: dict[str, tuple[Callable[[Questions, Kernel], str | None], float]] = {
    "symbols": (all_symbols, 0.5),
    "modules": (all_facts, 0.5),
    "exports": (all_exports, 0.2),
    "check": (whether_it_loads, 0.1),
    "layout": (all_regions, 0.3),
    "tables": (all_tables, 0.2),
    "guests": (all_guests, 0.02),
}
"""The questions, and how often each is asked."""


def question_trials(guest: str) -> Trials:
    """Questions to a guest's kernel."""
    asked = Questions(capture(guest_named(guest)))
    return Trials(f"questions to {guest}", asked.attempt, asked.told, PATIENCE, ROOM + MAPS * asked.kernel.memory.size)
