"""Downloads and unpacks Debian's kernels, and the static busybox their guests run."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .apt import Suite
from .errors import LabError
from .guests import Guest
from .places import building, lab_folder, say
from .tools import run, tool

# Bulky trees with nothing the guests load.
_DRIVERS_LEFT_OUT = (
    "gpu", "media", "infiniband", "staging", "iio", "hwmon", "net/wireless", "net/ethernet", "scsi", "usb",
    "isdn", "input", "mfd", "leds", "comedi", "mtd", "power", "regulator", "rtc", "video", "watchdog", "w1",
    "ata", "target", "md", "iommu", "thunderbolt", "nvme", "bluetooth", "pinctrl", "clk",
)  # fmt: skip
_LEFT_OUT = [
    *("*/usr/share/doc", "*/kernel/sound", "*/kernel/net/bluetooth", "*/kernel/net/mac80211"),
    *(f"*/kernel/drivers/{name}" for name in _DRIVERS_LEFT_OUT),
]
_BUSYBOX_SUITES = ("bookworm", "trixie", "sid")
_NAME = re.compile(r"linux-(?:image|binary)-(\d.*?)(?:-unsigned)?")


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel package."""

    release: str
    suite: str
    architecture: str
    folder: Path
    image: Path  # vmlinuz, as the boot loader gets it
    packages: dict[str, str]  # file name -> SHA-256
    busybox: Path  # for its initramfs

    @property
    def modules(self) -> Path:
        """The folder of modules.dep; it may not exist."""
        return self.folder / "tree/lib/modules" / self.release


def _version_key(release: str) -> list[tuple[int, int | str]]:
    return [(1, int(part)) if part.isdigit() else (0, part) for part in re.split(r"(\d+)", release)]


def newest(packages: list[str], pattern: str) -> str | None:
    """The newest kernel release among package names which matches the regular expression."""
    names = [match[1] for package in packages if (match := _NAME.fullmatch(package))]
    found = [name for name in names if not name.endswith("-dbg") and re.search(pattern, name)]
    return max(found, key=_version_key, default=None)


def find(guest: Guest) -> tuple[Suite, str]:
    """The first of the guest's suites which has a matching kernel, and that kernel's release."""
    failure = ""
    for name in guest.suites:
        suite = Suite(name, guest.architecture)
        try:
            release = newest(suite.packages("linux-"), guest.package)
        except LabError as error:
            failure = str(error)
            continue
        if release:
            return suite, release
    where = ", ".join(guest.suites)
    raise LabError(
        f"no kernel of {where} ({guest.architecture}) matches {guest.package}: "
        "give it another suite or package in guests.toml",
        failure,
    )


def kernel_for(guest: Guest) -> Kernel:
    """The guest's kernel, downloaded if this is its first use."""
    suite, release = find(guest)
    folder = lab_folder() / "kernels" / release
    if not (folder / "kernel.json").exists():
        with building(folder) as draft:
            _unpack(suite, release, draft)
    facts = json.loads((folder / "kernel.json").read_text())
    return Kernel(
        release=release,
        suite=facts["suite"],
        architecture=suite.architecture,
        folder=folder,
        image=folder / facts["image"],
        packages=facts["packages"],
        busybox=busybox_for(suite.architecture),
    )


def _package_names(suite: Suite, release: str) -> list[str]:
    there = set(suite.packages("linux-"))
    if f"linux-binary-{release}" in there:
        # Image and modules apart. Where the archive has lost the modules, the kernel boots without them.
        names = [f"linux-binary-{release}", f"linux-modules-{release}"]
        return [name for name in names if name in there]
    signed = f"linux-image-{release}"
    return [signed if signed in there else f"{signed}-unsigned"]


def _unpack(suite: Suite, release: str, folder: Path) -> None:
    names = _package_names(suite, release)
    say(f"kernel {release}: downloading {' '.join(names)}")
    (debs := folder / "debs").mkdir()
    (tree := folder / "tree").mkdir()
    packages = {}
    for deb in suite.download(names, debs):
        packages[deb.name] = hashlib.sha256(deb.read_bytes()).hexdigest()
        extract(deb, tree)
    shutil.rmtree(debs)
    if not (tree / "lib").exists() and (tree / "usr/lib").is_dir():
        (tree / "lib").symlink_to("usr/lib")  # where depmod looks
    images = [
        path
        for pattern in (f"boot/vmlinu?-{release}", "**/vmlinu[xz]*", "**/Image*")
        for path in sorted(tree.glob(pattern))
        if path.is_file()
    ]
    if not images:
        raise LabError(f"kernel {release}: no image in {' '.join(names)}: choose another in guests.toml")
    if (tree / "lib/modules" / release).is_dir():
        run(["depmod", "-b", tree, release], timeout=300)
    facts = {"suite": suite.name, "image": str(images[0].relative_to(folder)), "packages": packages}
    (folder / "kernel.json").write_text(json.dumps(facts, indent=1) + "\n")


def extract(deb: Path, tree: Path) -> None:
    """Unpacks a package below ``tree``, without documentation and drivers that no guest has devices for."""
    left_out = [f"--exclude={pattern}" for pattern in _LEFT_OUT]
    unpack = [tool("tar"), "-x", "--no-same-owner", "-C", str(tree), *left_out]
    with subprocess.Popen([tool("dpkg-deb"), "--fsys-tarfile", deb], stdout=subprocess.PIPE) as package:
        done = subprocess.run(unpack, stdin=package.stdout, timeout=900)
    if done.returncode or package.returncode:
        raise LabError(f"could not unpack {deb.name}: is the disk full? Then try again")


def busybox_for(architecture: str) -> Path:
    """A static busybox, the same for every kernel of an architecture."""
    binary = lab_folder() / "busybox" / architecture
    if binary.exists():
        return binary
    failures = []
    for name in _BUSYBOX_SUITES:
        with tempfile.TemporaryDirectory() as folder:
            try:
                (deb,) = Suite(name, architecture).download(["busybox-static"], Path(folder))
            except LabError as error:
                failures.append(str(error))
                continue
            extract(deb, Path(folder))
            found = next(path for path in Path(folder).glob("**/bin/busybox") if path.is_file())
            binary.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found, draft := binary.with_suffix(".new"))
            draft.rename(binary)
            return binary
    message = f"the mirror has no busybox-static for {architecture}: try another mirror"
    raise LabError(message, "\n".join(failures))
