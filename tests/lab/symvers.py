"""Debian's ``Module.symvers`` of a kernel: what its build says that it and its modules export."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from .apt import Suite
from .capture import Capture
from .errors import LabError
from .places import alone, building, lab_folder, say
from .tools import tool


def module_symvers(capture: Capture) -> Path:
    """The file of the headers package that belongs to a capture's kernel, downloaded if this is its first use."""
    kernel, architecture = capture.manifest["kernel"], capture.manifest["guest"]["architecture"]
    folder = lab_folder() / "symvers" / f"{kernel['release']}-{architecture}"
    with alone(f"symvers of {kernel['release']}", "symvers.lock"):  # no guest is booted
        if not (folder / "symvers.json").exists():
            with building(folder) as draft:
                _unpack(Suite(kernel["suite"], architecture), kernel["release"], draft)
    return folder / "Module.symvers"


def _unpack(suite: Suite, release: str, folder: Path) -> None:
    package = f"linux-headers-{release}"
    say(f"symvers: downloading {package} of {suite.name}")
    with tempfile.TemporaryDirectory(dir=folder) as work:
        (deb,) = suite.download([package], Path(work))
        subprocess.run([tool("dpkg-deb"), "-x", deb, f"{work}/tree"], check=True, timeout=120)
        found = [path for path in Path(work, "tree").glob(f"**/{package}/Module.symvers") if path.is_file()]
        if not found:
            raise LabError(f"{deb.name} has no Module.symvers: choose another kernel in guests.toml")
        shutil.copyfile(found[0], folder / "Module.symvers")
        facts = {"package": deb.name, "sha256": hashlib.sha256(deb.read_bytes()).hexdigest()}
    (folder / "symvers.json").write_text(json.dumps(facts, indent=1) + "\n")
