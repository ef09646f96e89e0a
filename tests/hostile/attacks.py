"""What an unprivileged process can leave in memory, or a forger in a file, so that nobody recovers anything from it.

Each attack is small to store: a function that writes the file. Where a machine is part of it, its kernel must come out
as if the rest were not there.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import lz4.frame
import numpy as np
from backports import zstd
from numpy.typing import NDArray

from kallsift.kallsyms.token_scan import DIGITS
from kallsift.memory.formats import elf_headers
from kallsift.memory.formats.avml_frames import IDENTIFIER
from tests.image.builders import lzop
from tests.kernel.made_machine import MIB, Machine
from tests.memory.writers import hyperv, xen
from tests.memory.writers.kdump import Kdump, kdump

PAGE = 4096
LOW = MIB
"""Where memory of a process begins in the made machine: before its kernel, which is found later."""


@dataclass(frozen=True)
class Attack:
    """A file that is contrived.

    Attributes:
        write: makes its bytes.
        has_kernel: whether a running kernel is in it.
        every: whether all kernels are asked for.
        is_memory: whether it is plain memory.
    """

    write: Callable[[], bytes]
    has_kernel: bool = False
    every: bool = False
    is_memory: bool = False


def token_table(longest: int = 5) -> bytes:
    """A token table as every kernel has it, and the index that fits it."""
    codes = range(256)
    strings = [bytes([code]) if 0x21 <= code < 0x7F else b"x" * (code % longest + 2) for code in codes]
    table = b"".join(text + b"\0" for text in strings)
    index = np.concatenate(([0], np.cumsum([len(text) + 1 for text in strings])[:-1])).astype("<u2").tobytes()
    return table + bytes(-len(table) % 8) + index


def lookalike() -> bytes:
    """The strings of a token table, one of them empty, without an index."""
    strings = [bytes([code]) if 0x21 <= code < 0x7F else b"xy" for code in range(256)]
    strings[200] = b""
    return b"".join(text + b"\0" for text in strings)


def forged_markers(count: int) -> bytes:
    """Token tables, each behind more words that can be markers than the machine's kernel has, a page each."""
    markers = (np.arange(600) * 3000).astype("<u4").tobytes()
    return (markers + token_table()).ljust(PAGE, b"\0") * count


@lru_cache(maxsize=1)
def machine() -> Machine:
    """The machine that is attacked; its kernel is at 6 MiB."""
    return Machine()


def attacked(content: bytes, place: int = LOW) -> bytes:
    """The machine's memory with some bytes where no kernel is."""
    data = machine().data.copy()
    assert place >= machine().heap or place + len(content) <= machine().place
    data[place : place + len(content)] = np.frombuffer(content, np.uint8)
    return data.tobytes()


def spread(content: bytes, count: int, size: int, data: NDArray[np.uint8] | None = None) -> bytes:
    """Zeros, or other bytes, with something in them at equal distances."""
    data = np.zeros(size, np.uint8) if data is None else data
    for place in range(PAGE, size - len(content), size // count):
        data[place : place + len(content)] = np.frombuffer(content, np.uint8)
    return data.tobytes()


def spread_in_machine(content: bytes, count: int, size: int) -> bytes:
    """The machine's memory with so many bytes behind it, which hold something at equal distances."""
    return machine().data.tobytes() + spread(content, count, size)


GZIP = b"\x1f\x8b\x08\x08\1\1\1\1\2\3"
"""A header of gzip that a name follows, without a NUL: all further ones up to the next are its name."""


def gzip_headers() -> bytes:
    """Headers of gzip before stored blocks that hold nothing: each is a stream that goes on to the end of the file."""
    return bytes(PAGE) + GZIP * 4095 + b"\0" + b"\0\0\0\xff\xff" * (4 * MIB // 5)


def tiny_bzip2() -> bytes:
    """Streams of one byte each, and a stream of lz4 that holds many headers of gzip."""
    inner = lz4.frame.compress(GZIP * (32 * MIB), store_size=False)
    return bytes(PAGE) + bz2.compress(b"x") * 4000 + bytes(inner) + bytes(MIB)


def wide_zstd() -> bytes:
    """A frame of zstd of one byte whose decoder needs 128 MiB: no size of its content, a window of 2^27."""
    return b"\x28\xb5\x2f\xfd\0" + bytes([27 - 10 << 3]) + b"\x09\0\0x"


def wide_xz() -> bytes:
    """A stream of xz of one byte whose decoder needs 128 MiB."""
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 128 * MIB}]
    return lzma.compress(b"x", format=lzma.FORMAT_XZ, filters=filters)


def repeated(content: bytes, size: int) -> bytes:
    """Something again and again."""
    return content * (size // len(content))


def scattered_kdump(runs: int) -> bytes:
    """A kdump in which every other page is there, and all of them are the same."""
    content = kdump({0: b"\xaa" * PAGE}, Kdump(highest=2 * runs))
    head = bytearray(content)
    (bitmap_blocks,) = struct.unpack_from("<I", head, 8 + 4 + 390 + 6 + 16 + 12)
    (sub_blocks,) = struct.unpack_from("<I", head, 8 + 4 + 390 + 6 + 16 + 8)
    begin = (1 + sub_blocks) * PAGE
    bitmap = bitmap_blocks * PAGE // 2
    every_other = bytes([0x55]) * (2 * runs // 8)
    head[begin + bitmap : begin + bitmap + len(every_other)] = every_other
    descriptors = begin + 2 * bitmap
    page = zlib.compress(b"\xaa" * PAGE)
    descriptor = struct.pack("<QIIQ", descriptors + 24 * runs, len(page), 1, 0)
    return bytes(head[:descriptors]) + descriptor * runs + page


def many_keys(size: int) -> bytes:
    """A saved state of Hyper-V of which most is one table of keys."""
    content = bytearray(hyperv.saved_state(bytes(2 * MIB), [(512, 0, 0)]))
    entry = struct.pack("<BBIHIIIB", hyperv.ARRAY, 0, 26, 0, 0, 0, 1, 1) + b"a" + struct.pack("<I", 0)
    table = struct.pack("<HHHI", 2, 60000, 1, 0) + entry * (size // len(entry))
    (count,) = struct.unpack_from("<I", content, 0x2004)
    place = len(content)
    struct.pack_into("<BIQIB", content, 0x2008 + 18 * (count - 1), 2, 0, place, len(table), 1)
    return bytes(content) + table


def tiny_chunks(count: int) -> bytes:
    """An AVML dump whose chunks hold one byte each."""
    chunk = b"\x01" + (4 + 1).to_bytes(3, "little") + bytes(4) + b"x"
    header = struct.pack("<4sIQQ8x", b"AVML", 2, 0, count - 1)
    return header + chunk * count + struct.pack("<Q", 0)


def tiny_ranges(size: int) -> bytes:
    """An AVML dump whose ranges hold one byte each."""
    chunk = IDENTIFIER + b"\x01" + (4 + 1).to_bytes(3, "little") + bytes(4) + b"x"
    one = struct.pack("<4sIQQ8x", b"AVML", 2, 0, 0) + chunk + struct.pack("<Q", len(chunk))
    count = size // len(one)
    content = np.frombuffer(one * count, np.uint8).reshape(count, len(one)).copy()
    for place in (8, 16):
        content[:, place : place + 8] = (np.arange(count, dtype="<u8") * 2)[:, None].view(np.uint8)
    return content.tobytes()


def empty_promises(size: int) -> bytes:
    """An AVML dump of chunks that say that they hold 64 KiB each, and have a byte for that."""
    chunk = b"\0" + (4 + 3 + 1).to_bytes(3, "little") + bytes(4) + b"\x80\x80\x04x"
    count = size // len(chunk)
    return struct.pack("<4sIQQ8x", b"AVML", 2, 0, count * 65536 - 1) + IDENTIFIER + chunk * count + bytes(8)


def many_headers(count: int, size: int) -> bytes:
    """An ELF core whose program headers lead to the same bytes, each to other addresses."""
    content = b"\xaa" * size
    programs = np.zeros(count, elf_headers.PROGRAM_HEADER[64])
    behind = 64 + programs.nbytes + 64
    programs["type"], programs["offset"] = elf_headers.LOAD, behind
    programs["physical"] = np.arange(count, dtype=np.uint64) * np.uint64(2 * size)
    programs["file_size"] = programs["memory_size"] = size
    fields = (4, 62, 1, 0, 64, 64 + programs.nbytes, 0, 64, 56, 0xFFFF, 64, 1, 0)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack("<HHIQQQIHHHHHH", *fields)
    section = struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, count, 0, 0)
    return header + programs.tobytes() + section + content


def tiny_lime(count: int) -> bytes:
    """A LiME dump whose ranges hold one byte each."""
    return b"".join(struct.pack("<4sIQQ8xB", b"EMiL", 1, 2 * number, 2 * number, 7) for number in range(count))


def apart(count: int) -> bytes:
    """A dump of Xen's of pages none of which is beside another."""
    return xen.core([(2 * number, b"\xaa" * PAGE) for number in range(count)], [])


def damaged_bzip2(size: int) -> bytes:
    """A stream of bzip2 in which nothing but the marks of blocks follows."""
    return bz2.compress(b"x" * 100) + b"BZh9" + repeated(struct.pack(">QQ", 0x314159265359 << 16, 1), size)


def tiny_lzop(size: int) -> bytes:
    """A stream of lzop whose blocks hold one byte each, and then nothing but headers of full blocks."""
    blocks, headers = struct.pack(">IIB", 1, 1, 7), struct.pack(">II", 1 << 18, 9)
    return lzop(b"x", 0)[:-4] + repeated(blocks, size // 2) + repeated(headers, size // 2)


DIGIT_RUNS = DIGITS * 65_537
TABLES = token_table() * 258

ATTACKS: dict[str, Attack] = {
    "65,537 runs of digits": Attack(partial(attacked, DIGIT_RUNS), True, False, True),
    "65,537 runs of digits, all kernels": Attack(partial(attacked, DIGIT_RUNS), True, True, True),
    "258 token tables": Attack(partial(attacked, TABLES), True, False, True),
    "258 token tables, all kernels": Attack(partial(attacked, TABLES), True, True, True),
    "258 token tables behind": Attack(partial(spread_in_machine, token_table(), 258, 64 * MIB), True, True, True),
    "64 token tables behind forged markers": Attack(partial(attacked, forged_markers(64)), True, False, True),
    "64 token tables behind forged markers, all kernels": Attack(
        partial(attacked, forged_markers(64)), True, True, True
    ),
    "8 token tables among zeros": Attack(partial(spread, token_table(), 8, 64 * MIB), is_memory=True),
    "8 token tables among zeros, a kernel": Attack(
        partial(spread_in_machine, token_table(), 8, 64 * MIB), True, True, True
    ),
    "400 lookalikes among zeros": Attack(partial(spread, lookalike(), 400, 32 * MIB), is_memory=True),
    "400 lookalikes, a kernel": Attack(partial(spread_in_machine, lookalike(), 400, 32 * MIB), True, True, True),
    "65,500 runs of digits over 256 MiB": Attack(partial(spread, DIGITS, 65_500, 256 * MIB), is_memory=True),
    "65,500 runs of digits, a kernel": Attack(partial(spread_in_machine, DIGITS, 65_500, 256 * MIB), True, True, True),
    "gzip headers before empty blocks": Attack(gzip_headers),
    "tiny bzip2 streams, lz4 of gzip": Attack(tiny_bzip2),
    "2 MiB of zstd frames": Attack(lambda: repeated(zstd.compress(b"x"), 2 * MIB)),
    "2 MiB of empty zstd frames": Attack(lambda: repeated(zstd.compress(b""), 2 * MIB)),
    "2 MiB of zstd frames behind": Attack(lambda: bytes(PAGE) + repeated(zstd.compress(b"x"), 2 * MIB)),
    "2 MiB of wide zstd frames": Attack(lambda: repeated(wide_zstd(), 2 * MIB)),
    "2 MiB of wide zstd frames behind": Attack(lambda: bytes(PAGE) + repeated(wide_zstd(), 2 * MIB)),
    "2 MiB of xz streams": Attack(lambda: repeated(lzma.compress(b"x"), 2 * MIB)),
    "2 MiB of empty xz streams": Attack(lambda: repeated(lzma.compress(b""), 2 * MIB)),
    "2 MiB of xz streams behind": Attack(lambda: bytes(PAGE) + repeated(lzma.compress(b"x"), 2 * MIB)),
    "2 MiB of wide xz streams": Attack(lambda: repeated(wide_xz(), 2 * MIB)),
    "2 MiB of wide xz streams behind": Attack(lambda: bytes(PAGE) + repeated(wide_xz(), 2 * MIB)),
    "kdump of 100,000 runs": Attack(partial(scattered_kdump, 100_000)),
    "kdump of 400,000 runs": Attack(partial(scattered_kdump, 400_000)),
    "kdump of 4.19 million runs": Attack(partial(scattered_kdump, 4_190_000)),
    "Hyper-V with 256 MiB of keys": Attack(partial(many_keys, 256 * MIB)),
    "AVML with chunks of a byte": Attack(partial(tiny_chunks, 16 << 20)),
    "AVML with ranges of a byte": Attack(partial(tiny_ranges, 64 * MIB)),
    "ELF of 131,072 headers of a page": Attack(partial(many_headers, 131_072, PAGE)),
    "ELF of 2,000 headers of 64 MiB": Attack(partial(many_headers, 2_000, 64 * MIB)),
    "ELF of 131,072 headers of 64 MiB": Attack(partial(many_headers, 131_072, 64 * MIB)),
    "LiME with ranges of a byte": Attack(partial(tiny_lime, 65_536)),
    "Xen's, with pages apart": Attack(partial(apart, 16_384)),
    "bzip2 of nothing but marks": Attack(partial(damaged_bzip2, 8 * MIB)),
    "lzop of blocks of a byte": Attack(partial(tiny_lzop, 8 * MIB)),
    "AVML with empty promises": Attack(partial(empty_promises, 64 * MIB)),
}
"""By name, as the issue that asked for each has it, and some near it."""
