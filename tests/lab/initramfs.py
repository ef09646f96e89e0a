"""Builds the guest's initramfs: busybox, guest-init and the modules it loads, in order."""

from __future__ import annotations

import gzip
import lzma
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from .errors import LabError

# Loaded in the guest with all they depend on; those a kernel lacks are left out.
MODULES = [
    "virtio_pci", "virtio_mmio", "virtio_ccw", "virtio_console", "virtio_rng", "virtio_net",
    "virtio_balloon", "virtio_blk", "msr", "dummy", "loop", "crc32c_generic", "crc32c_cryptoapi",
    "crc32_generic", "crct10dif_generic", "cbc", "ecb", "xts", "ghash_generic", "cmac", "ccm", "ext4",
    "xfs", "btrfs", "vfat", "isofs", "overlay", "fuse", "squashfs", "nls_utf8", "nls_cp437", "zram",
    "nf_conntrack", "nf_nat", "nf_tables", "nft_ct", "nft_chain_nat", "iptable_filter", "ip_tables",
    "xt_conntrack", "xt_tcpudp", "bridge", "8021q", "tun", "veth", "vxlan", "macvlan", "wireguard",
    "sch_fq", "tcp_bbr", "udp_diag", "inet_diag", "nfsd", "cifs",
]  # fmt: skip

_INIT = Path(__file__).with_name("guest-init")
_DAEMON = b"""#!/bin/sh
exec 7</etc/labopen.txt 8>>/tmp/labwrite.log
echo "labdaemon started" >&8
while :; do busybox sleep 3600; done
"""


def module_order(folder: Path, wanted: list[str]) -> list[Path]:
    """The wanted modules below a modules folder, each after those it depends on."""
    listing = folder / "modules.dep"
    if not listing.exists():
        return []
    needs, paths = {}, {}
    for line in listing.read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
        paths[_module_name(path).replace("-", "_")] = path
    order: dict[str, None] = {}
    for name in wanted:
        if path := paths.get(name, ""):
            order.update(dict.fromkeys([*reversed(needs[path]), path]))
    return [folder / path for path in order]


def _module_name(path: str) -> str:
    return re.sub(r"\.ko(\.\w+)?$", "", path.rpartition("/")[2])


def _module_bytes(path: Path) -> bytes:
    data = path.read_bytes()
    match path.suffix:
        case ".ko":
            return data
        case ".xz":
            return lzma.decompress(data)
        case ".gz":
            return gzip.decompress(data)
        case other:
            raise LabError(f"{path.name}: the lab cannot unpack {other} modules: teach initramfs.py to")


class _Cpio:
    """A "newc" cpio archive in the making."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def add(self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        label = name.encode() + b"\0"
        fields = (len(self._parts) + 1, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(label), 0)
        head = b"070701" + "".join(f"{field:08x}" for field in fields).encode() + label
        self._parts += [head + bytes(-len(head) % 4), data + bytes(-len(data) % 4)]

    def folder(self, name: str) -> None:
        self.add(name, stat.S_IFDIR | 0o755)

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        self.add(name, stat.S_IFREG | mode, data)

    def finish(self) -> bytes:
        self.add("TRAILER!!!", 0)
        return b"".join(self._parts)


def build_initramfs(busybox: Path, modules: Path | None, extra: list[str], added: Mapping[str, bytes]) -> bytes:
    """The compressed archive.

    Args:
        busybox: the guest's program for everything.
        modules: the folder of modules.dep, or None to load none.
        extra: more modules to load.
        added: more files by their paths; those of bin and lib64 can be run.
    """
    archive = _Cpio()
    for name in ("bin", "dev", "proc", "sys", "etc", "mods", "tmp", "mnt", "ko", "lib", "lib64"):
        archive.folder(name)
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.add("dev/null", stat.S_IFCHR | 0o666, device=(1, 3))
    archive.file("bin/busybox", busybox.read_bytes(), 0o755)
    archive.add("bin/sh", stat.S_IFLNK | 0o777, b"busybox")
    archive.file("init", _INIT.read_bytes(), 0o755)
    archive.file("bin/labdaemon", _DAEMON, 0o755)
    archive.file("etc/labopen.txt", b"LAB-OPEN-FILE-MARKER\n" * 64)
    order = module_order(modules, [*MODULES, *extra]) if modules else []
    for path in order:
        archive.file(f"mods/{_module_name(path.name)}.ko", _module_bytes(path))
    archive.file("mods/order", "".join(f"{_module_name(path.name)}.ko\n" for path in order).encode())
    for name, data in added.items():
        archive.file(name, data, 0o755 if name.startswith(("bin/", "lib64/")) else 0o644)
    return gzip.compress(archive.finish(), compresslevel=1, mtime=0)
