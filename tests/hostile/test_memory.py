"""What anybody can leave in a machine's memory costs a bounded search, and takes nothing from what is recovered."""

from __future__ import annotations

import numpy as np
import pytest

import kallsift
from kallsift.budget import MIN_WORK, WORK_RATIO, WorkBudget
from kallsift.kernel.kernel import Kernel
from kallsift.kernel.recovery.search import recover, recover_all
from kallsift.memory.memory import Memory
from tests.kernel.made_machine import MIB, memory_of

from .attacks import ATTACKS, machine, spread, spread_in_machine, token_table

IN_MEMORY = [name for name, attack in ATTACKS.items() if attack.is_memory]


def memory(content: bytes) -> Memory:
    return memory_of(np.frombuffer(content, np.uint8))


def listed(kernel: Kernel) -> list[tuple[int, str, str]]:
    return [(symbol.address, symbol.type, symbol.name) for symbol in kernel.symbols]


@pytest.fixture(scope="module")
def truth() -> list[tuple[int, str, str]]:
    return listed(recover(machine().memory()))


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", IN_MEMORY)
def test_an_attack_takes_nothing_from_the_kernel(name: str, truth: list[tuple[int, str, str]]) -> None:
    attack = ATTACKS[name]
    source = memory(attack.write())
    budget = WorkBudget.of(source.size)
    if not attack.has_kernel:
        with pytest.raises(kallsift.RecoveryError):
            recover(source, budget=budget)
    elif attack.every:
        kernels = recover_all(source, budget=budget)
        assert [listed(kernel) for kernel in kernels if kernel.proven] == [truth]
    else:
        kernel = recover(source, budget=budget)
        assert kernel.proven
        assert kernel.left_out is None
        assert listed(kernel) == truth
    assert budget.spent_work <= MIN_WORK + WORK_RATIO * source.size


def test_what_is_left_out_is_said() -> None:
    source = memory(spread_in_machine(token_table(), 64, 8 * MIB))
    budget = WorkBudget(1 << 28, 1 << 26)
    kernels = recover_all(source, budget=budget)
    assert any(kernel.proven for kernel in kernels)
    assert all(kernel.left_out is not None and "token tables" in kernel.left_out for kernel in kernels)
    assert budget.spent_work <= 1 << 28


def test_an_error_says_what_was_left_out() -> None:
    source = memory(spread(token_table(), 64, 8 * MIB))
    with pytest.raises(kallsift.RecoveryError, match=r"left out: .* token tables"):
        recover(source, budget=WorkBudget(1 << 24, 1 << 24))


def test_a_table_at_the_very_beginning_is_no_error_of_addresses() -> None:
    with pytest.raises(kallsift.RecoveryError, match="names: token table at 0x0"):
        recover(memory(token_table() + bytes(9000)))
