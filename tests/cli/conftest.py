"""A command line whose recovery is played by kernels made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from kallsift.analysis.dynamic import dynamic_symbols
from kallsift.analysis.dynamic.dynamic_symbols import DynamicSymbols
from kallsift.cli import symbol_sources
from kallsift.cli.app import run
from kallsift.cli.options import source as source_options
from kallsift.errors import RecoveryError, Step
from kallsift.kernel.kernel import Kernel
from kallsift.kernel.recovery.search import Progress
from kallsift.memory.input_files import open_input
from kallsift.memory.memory import Memory
from tests.output.sample import memory


@dataclass(frozen=True)
class Result:
    """What one run of the command left behind."""

    code: int
    out: str
    err: str


Command = Callable[..., Result]
"""Takes the arguments of ``kallsift``."""

Plant = Callable[..., None]
"""Takes the kernels that the source holds from now on."""


@pytest.fixture
def command(capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    """Runs the command in this process."""

    def run_it(*arguments: str | Path) -> Result:
        code = run([str(argument) for argument in arguments])
        captured = capfdbinary.readouterr()
        return Result(code, captured.out.decode(), captured.err.decode())

    return run_it


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Makes any source hold the given kernels."""

    def plant_them(*kernels: Kernel) -> None:
        def recover_all(_memory: Memory, *, progress: Progress | None = None) -> tuple[Kernel, ...]:
            if not kernels:
                raise RecoveryError(Step.TOKEN_TABLE, "none found in 4096 bytes; is this a Linux memory dump?")
            return kernels

        def recover(memory: Memory, *, progress: Progress | None = None) -> Kernel:
            return recover_all(memory, progress=progress)[0]

        def open_memory(source: str, **_: object) -> Memory:
            if Path(source).is_file():
                open_input(source).close()
            return memory(source)

        monkeypatch.setattr(source_options, "open_memory", open_memory)
        monkeypatch.setattr(source_options, "recover_all", recover_all)
        monkeypatch.setattr(source_options, "recover", recover)
        for module in (symbol_sources, dynamic_symbols):
            monkeypatch.setattr(module, "dynamic_symbols", lambda _, **__: DynamicSymbols())

    return plant_them
