"""Write the differences of two listings as lines, as a summary, or as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kallsift.analysis.comparison import Change, Comparison, Difference
from kallsift.kallsyms.escapes import escaped, letter_text
from kallsift.kallsyms.symbol_table import Symbol

WORDS = {Change.MISSING: "missing", Change.ADDED: "added", Change.MOVED: "moved", Change.RETYPED: "of another type"}


def comparison_lines(comparison: Comparison, word_size: int) -> Iterator[str]:
    """Yield a line for each difference, safe to print.

    ``- address type name``, ``+ address type name``, ``~ address address type name``, ``! address type type name``,
    the first listing's before the second's; with ``[module]`` behind a tab.
    """
    for sign, modules in (("-", comparison.only_before), ("+", comparison.only_after)):
        for owner, count in modules:
            yield f"{sign} [{escaped(owner)}] with {count:,} symbols"
    for difference in comparison.differences:
        yield _line(difference, 2 * word_size)


def _line(difference: Difference, digits: int) -> str:
    sign, before, after = difference.change.value, difference.before, difference.after
    owner = f"\t[{escaped(difference.owner)}]" if difference.owner else ""
    shown = before or after
    assert shown is not None
    fields = [f"{shown.address:0{digits}x}", letter_text(shown.type)]
    if before is not None and after is not None:
        if difference.change is Change.MOVED:
            fields.insert(1, f"{after.address:0{digits}x}")
        else:
            fields.append(letter_text(after.type))
    return " ".join((sign, *fields, escaped(shown.name))) + owner


def comparison_summary(comparison: Comparison) -> str:
    """Return the result of a comparison in one line."""
    if comparison.agree:
        known = " that are known in both" if comparison.unknown else ""
        outcome = f"agree in all {comparison.same:,} symbols{known}"
    else:
        counts = [f"{count:,} {WORDS[change]}" for change in Change if (count := comparison.count(change))]
        modules = len(comparison.only_before) + len(comparison.only_after)
        counts += [f"{modules} {('module' if modules == 1 else 'modules')} only in one of them"] * bool(modules)
        outcome = f"differ: {', '.join(counts)}; {comparison.same:,} symbols are the same"
    if comparison.unknown:
        outcome += f"; {comparison.unknown:,} lost their name or address, and were not compared"
    if comparison.slide is None:
        return f"{outcome}; no name occurs in both"
    return outcome + (f"; the second lies {comparison.slide:+#x} from the first" if comparison.slide else "")


def comparison_json(comparison: Comparison, sources: tuple[str, str]) -> str:
    """Return a comparison as one indented document with a line break at its end.

    Addresses are hexadecimal strings.
    """
    from kallsift.output.symbols.json_writer import FORMAT, text_of

    document: dict[str, Any] = {
        "format": FORMAT,
        "command": "diff",
        "sources": list(sources),
        "agree": comparison.agree,
        "same": comparison.same,
        "unknown": comparison.unknown,
        "slide": None if comparison.slide is None else f"{comparison.slide:#x}",
        "modules_missing": [owner for owner, _ in comparison.only_before],
        "modules_added": [owner for owner, _ in comparison.only_after],
        "differences": [
            {
                "change": difference.change.name.lower(),
                "module": difference.owner or None,
                "before": _symbol(difference.before),
                "after": _symbol(difference.after),
            }
            for difference in comparison.differences
        ],
    }
    return text_of(document)


def _symbol(symbol: Symbol | None) -> dict[str, str] | None:
    if symbol is None:
        return None
    return {"address": f"{symbol.address:#x}", "type": symbol.type, "name": symbol.name}
