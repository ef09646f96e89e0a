"""The oracle against Debian's own ``scripts/kallsyms`` programs."""

from __future__ import annotations
