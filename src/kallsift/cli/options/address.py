"""Read addresses as users write them."""

from __future__ import annotations

from typing import Any

import click


class Address(click.ParamType[int]):
    """An address: decimal, or hexadecimal with ``0x``."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number, from 0 to 2^64 - 1."""
        try:
            number = int(value, 0)
        except ValueError:
            number = -1
        if not 0 <= number < 1 << 64:
            self.fail(f"{value!r} is not an address; write it as 0x...", param, ctx)
        return number
