"""Write the verdict on a module that would be loaded.

The forms are a line, the symbols that it uses, its own symbols, and JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from kallsift.kallsyms.escapes import escaped
from kallsift.memory.memory import printable
from kallsift.modules.insmod.check import Use, Verdict
from kallsift.modules.insmod.ko_file import ModuleFile, ModuleSymbol

LARGEST_DECIMAL = 99999
"""Greatest size in decimal; larger ones are hexadecimal, as in readelf."""


def verdict_line(file: str, verdict: Verdict) -> str:
    """Return the line of a verdict on a file.

    It has the file, ``loads`` or ``refused``, the error's name or ``-``, and the reason, with tabs between.
    """
    word = "loads" if verdict.loads else "refused"
    return "\t".join((printable(file), word, verdict.error or "-", printable(verdict.reason))).rstrip() + "\n"


def use_lines(uses: Iterable[Use], digits: int) -> Iterator[str]:
    """Yield a line for each symbol that a module uses.

    The line has address, name, owner and, if the module does not get the symbol, the reason.
    """
    for use in uses:
        place = use.export.address if use.export else None
        address = "-" * digits if place is None else f"{place:0{digits}x}"
        owner = use.export.owner if use.export else "-"
        problem = use.problem or ("" if use.export else "nothing exports it, but the module works without it")
        yield "\t".join(("", address, escaped(use.name), escaped(owner), printable(problem))).rstrip() + "\n"


def symbol_lines(module: ModuleFile) -> Iterator[str]:
    """Yield the module's symbol table in the columns of ``readelf -sW``.

    The section's name stands instead of its number.
    """
    digits = module.elf.bits // 4
    width = max((len(symbol.section) for symbol in module.elf.symbols), default=3)
    yield f"{'Num:':>7} {'Value':>{digits}}  Size Type    Bind   Vis      {'Section':{width}} Name\n"
    yield from (_symbol_line(symbol, digits, width) for symbol in module.elf.symbols)


def _symbol_line(symbol: ModuleSymbol, digits: int, width: int) -> str:
    size = f"{symbol.size:5d}" if symbol.size <= LARGEST_DECIMAL else f"{symbol.size:#x}"
    section, name = escaped(symbol.section), escaped(symbol.name)
    text = (
        f"{symbol.number:6d}: {symbol.value:0{digits}x} {size} {symbol.type:7} {symbol.bind:6} {symbol.visibility:8} "
    )
    return f"{text}{section:{width}} {name}".rstrip() + "\n"


def check_document(file: str, verdict: Verdict, module: ModuleFile | None) -> dict[str, Any]:
    """Return a verdict as values that JSON can express.

    ``module`` adds the module's own symbols; None leaves them out.
    """
    document: dict[str, Any] = {
        "file": file,
        "name": verdict.name,
        "loads": verdict.loads,
        "errno": verdict.errno,
        "error": verdict.error or None,
        "reason": verdict.reason or None,
        "remarks": list(verdict.remarks),
        "uses": [_use(use) for use in verdict.uses],
    }
    if module is not None:
        document["symbols"] = [
            {
                "number": symbol.number,
                "value": f"{symbol.value:#x}",
                "size": symbol.size,
                "type": symbol.type,
                "bind": symbol.bind,
                "visibility": symbol.visibility,
                "section": symbol.section,
                "name": symbol.name,
            }
            for symbol in module.elf.symbols
        ]
    return document


def _use(use: Use) -> dict[str, Any]:
    address = use.export.address if use.export else None
    return {
        "name": use.name,
        "address": None if address is None else f"{address:#x}",
        "owner": use.export.owner if use.export else None,
        "errno": use.errno,
        "problem": use.problem or None,
    }
