"""Compare one placed table with all sources that have names or addresses a second time."""

from __future__ import annotations

from collections.abc import Callable

from kallsift.kallsyms.evidence import Check, CheckId, Outcome
from kallsift.kernel.cross_checks.btf_functions import btf_finding
from kallsift.kernel.cross_checks.exports import export_finding
from kallsift.kernel.cross_checks.findings import Finding, summary
from kallsift.kernel.cross_checks.function_starts import start_finding
from kallsift.kernel.cross_checks.linker_arrays import array_finding
from kallsift.kernel.cross_checks.name_keys import Names
from kallsift.kernel.cross_checks.named_pointers import pointer_finding
from kallsift.kernel.cross_checks.siblings import sibling_finding
from kallsift.kernel.cross_checks.static_keys import key_finding
from kallsift.kernel.placement.placement import Placement
from kallsift.memory.memory import Memory
from kallsift.threads import in_threads


def held_twice(memory: Memory, placement: Placement) -> tuple[Check, ...]:
    """Check the symbols against all second copies that the kernel keeps of them.

    Args:
        memory: the memory with the kernel's image.
        placement: its placement, with the symbols.

    Returns:
        One check for each source, and one that counts the symbols that any of them confirms.
    """
    symbols = placement.symbols
    if not len(symbols) or not symbols.whole.all():
        return (Check(CheckId.HELD_TWICE, Outcome.ABSENT, "not looked for: some names or addresses are lost"),)
    names = Names.of_symbols(symbols)
    questions: tuple[Callable[[], Finding], ...] = (
        lambda: sibling_finding(names, symbols),
        lambda: export_finding(memory, placement, names),
        lambda: btf_finding(memory, placement, names),
        lambda: pointer_finding(memory, placement, names),
        lambda: array_finding(names, symbols),
        lambda: key_finding(memory, placement, names),
    )
    siblings, exports, types, pointers, arrays, keys = in_threads(lambda question: question(), questions)
    starts = start_finding(memory, placement, names, siblings.addresses)
    findings = (siblings, exports, types, pointers, starts, arrays, keys)
    return (*(finding.check for finding in findings), summary(findings, len(symbols)))
