"""The guests the lab can boot, as guests.toml declares them."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import LabError

GUESTS = Path(__file__).with_name("guests.toml")


@dataclass(frozen=True)
class Guest:
    """One kernel and the machine it runs on."""

    name: str
    suites: tuple[str, ...]  # where to look for the kernel: the first suite which has it wins
    architecture: str  # Debian's name
    package: str  # regular expression on the kernel's release; the newest match wins
    sets: tuple[str, ...] = ()
    memory: int = 512  # MiB
    processors: int = 2
    la57: bool = False  # 5-level paging
    vmcoreinfo: bool = True  # QEMU's vmcoreinfo device, and the guest's driver of it
    modules: bool = True
    kaslr: bool = True
    cpu: str = ""  # instead of the architecture's
    accelerator: str = ""  # instead of what the host can do, such as "tcg,thread=multi"
    append: str = ""  # more kernel command line
    scenario: str = ""  # what the guest does besides: a folder of scenarios/
    resets: bool = False  # QEMU goes on after a reset
    timeout: int = 600  # seconds until the guest must be ready
    note: str = ""

    def settings(self) -> dict[str, Any]:
        """What a capture depends on, as JSON has it."""
        fields = dataclasses.asdict(self)
        for name in ("sets", "note", "timeout"):
            del fields[name]
        for name in ("scenario", "resets"):
            if not fields[name]:
                del fields[name]
        return {**fields, "suites": " ".join(self.suites)}


def _read(name: str, table: dict[str, Any]) -> Guest:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    try:
        return Guest(name=name, **fields)
    except TypeError as error:
        raise LabError(f"guests.toml, {name}: {str(error).removeprefix('Guest.__init__() ')}") from None


def load_guests(path: Path = GUESTS) -> dict[str, Guest]:
    """All guests by name, in the file's order."""
    return {name: _read(name, table) for name, table in tomllib.loads(path.read_text()).items()}


def guests_of_set(name: str) -> list[Guest]:
    chosen = [guest for guest in load_guests().values() if name in guest.sets]
    if not chosen:
        known = sorted({s for guest in load_guests().values() for s in guest.sets})
        raise LabError(f"no set named {name}: there are {', '.join(known)}")
    return chosen


def guest_named(name: str) -> Guest:
    guests = load_guests()
    if name not in guests:
        raise LabError(f"no guest named {name}: python -m tests.lab list shows them")
    return guests[name]
