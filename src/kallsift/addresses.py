"""Distinct types for the addresses that must never be mixed up.

They cost nothing at run time and make a wrong mixture a type error under mypy.
"""

from __future__ import annotations

from typing import NewType

PhysicalAddress = NewType("PhysicalAddress", int)
"""A byte's place on the machine's memory bus, as page tables name it."""

VirtualAddress = NewType("VirtualAddress", int)
"""A byte's place as the kernel itself names it (always non-negative, modulo the word size)."""
