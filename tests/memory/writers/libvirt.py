"""Writes libvirt's save files around a migration stream."""

from __future__ import annotations

import struct

FORMATS = {"raw": 0, "gzip": 1, "bzip2": 2, "xz": 3, "lzop": 4, "zstd": 5, "sparse": 6}
XML = b"<domain type='kvm'><name>guest</name></domain>\0"
COOKIE = b"<qemusave/>\0"


def header(compression: str, *, order: str = "<", magic: bytes = b"LibvirtQemudSave", version: int = 2) -> bytes:
    """All that stands before the stream."""
    fields = struct.pack(f"{order}5I", version, len(XML) + len(COOKIE), 1, FORMATS[compression], len(XML))
    return magic + fields + bytes(14 * 4) + XML + COOKIE
