"""Writes Hyper-V's saved states, in the way of the writer that Microsoft describes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

PAGE = 4096
BLOCK = 1 << 20
INLINE = 2048
"""Bytes from which on a value stands in an object of its own."""
KEY_TABLE = 4096

NODE, ARRAY, FREE = 9, 7, 1


def aligned(size: int) -> int:
    return -(-size // PAGE) * PAGE


def with_checksum(raw: bytes, place: int) -> bytes:
    """A structure with its CRC-32, in which the place of that itself is zero."""
    return raw[:place] + struct.pack("<I", zlib.crc32(raw)) + raw[place + 4 :]


def key(kind: int, parent: tuple[int, int], name: str, data: bytes, elsewhere: bool = False, rest: int = 0) -> bytes:
    """An entry of a table of keys."""
    text = name.encode() + b"\0" if name else b""
    size = 21 + len(text) + len(data) + rest
    raw = struct.pack("<BBIHIIIB", kind, elsewhere, size, *parent, 0, 1, len(text)) + text + data
    return with_checksum(raw, 12) + bytes(rest)


def header(sequence: int, log: int) -> bytes:
    raw = struct.pack("<IIHIIIIQQI", 0x01282014, 0, sequence, 0x400, 0, 0, PAGE, log, PAGE, PAGE)
    return with_checksum(raw, 4).ljust(PAGE, b"\0")


def store(arrays: Mapping[str, bytes], per_table: int = 200, unmade: int = 0) -> bytes:
    """As `pieces`, in one."""
    return b"".join(pieces(arrays, per_table, unmade))


def pieces(arrays: Mapping[str, bytes], per_table: int = 200, unmade: int = 0) -> Iterator[bytes]:
    """A file with arrays by their paths, from its beginning on.

    Args:
        arrays: the values.
        per_table: objects that a table of objects names before it goes on in another.
        unmade: changes that the log counts.
    """
    tables: list[bytearray] = []
    folders: dict[tuple[str, ...], tuple[int, int]] = {(): (0, 0)}
    patches: list[tuple[int, int, bytes]] = []

    def add(kind: int, parent: tuple[int, int], name: str, data: bytes, elsewhere: bool = False) -> tuple[int, int]:
        entry = key(kind, parent, name, data, elsewhere)
        # what is left must be more than the head of an entry
        if not tables or len(tables[-1]) + len(entry) > KEY_TABLE - 22:
            tables.append(bytearray(struct.pack("<HHHI", 2, len(tables) + 1, 1, 0)))
        tables[-1] += entry
        return len(tables), len(tables[-1]) - len(entry)

    for path, value in arrays.items():
        *names, name = path.split("/")
        for depth in range(len(names)):
            whole = tuple(names[: depth + 1])
            if whole not in folders:
                folders[whole] = add(NODE, folders[whole[:-1]], whole[-1], struct.pack("<QI", 0, 2))
        parent = folders[tuple(names)]
        if len(value) < INLINE:
            add(ARRAY, parent, name, struct.pack("<I", len(value)) + value)
        else:
            table, place = add(ARRAY, parent, name, bytes(12), True)
            patches.append((table, place, value))

    objects: list[tuple[int, bytes]] = []
    for content in tables:
        content += key(FREE, (0, 0), "", b"", rest=KEY_TABLE - len(content) - 21)
        objects.append((2, bytes(content)))
    count = len(objects) + len(patches)
    table_size = aligned(8 + 18 * (per_table + 1))
    position = 2 * PAGE + table_size * -(-count // per_table)
    log, position = position, position + PAGE
    places = [position + number * KEY_TABLE for number in range(len(objects))]
    position += KEY_TABLE * len(objects)
    for table, place, value in patches:
        data = bytearray(objects[table - 1][1])
        size, named = struct.unpack_from("<I", data, place + 2)[0], data[place + 20]
        struct.pack_into("<IQ", data, place + 21 + named, len(value), position)
        data[place : place + size] = with_checksum(
            bytes(data[place : place + 12]) + bytes(4) + data[place + 16 : place + size], 12
        )
        objects[table - 1] = 2, bytes(data)
        places.append(position)
        position += aligned(len(value))
    sizes = [KEY_TABLE] * len(objects) + [aligned(len(value)) for _, _, value in patches]
    kinds = [2] * len(objects) + [3] * len(patches)
    entries = [
        with_checksum(struct.pack("<BIQIB", kind, 0, place, size, 1), 1)
        for kind, place, size in zip(kinds, places, sizes, strict=True)
    ]
    yield header(4, log) + header(5, log)
    for number in range(0, len(entries), per_table):
        some = entries[number : number + per_table]
        further = 2 * PAGE + (number // per_table + 1) * table_size if number + per_table < len(entries) else 0
        some += [bytes(18)] * (per_table - len(some))
        some.append(with_checksum(struct.pack("<BIQIB", 1, 0, further, table_size, 1), 1) if further else bytes(18))
        yield (struct.pack("<II", 0x01110001, len(some)) + b"".join(some)).ljust(table_size, b"\0")
    yield with_checksum(struct.pack("<IIIBIIIIIB", 0x01110003, 0, unmade, 0, 100, 0, 0, 0, 0, 0), 4).ljust(PAGE, b"\0")
    yield from (data for _, data in objects)
    yield from (value.ljust(aligned(len(value)), b"\0") for _, _, value in patches)


def run(pages: int, ram_page: int, guest_page: int) -> bytes:
    """Where pages of the RAM belong."""
    return struct.pack("<IIQQQIIQ", 3, 0, pages, ram_page, guest_page, 0, 0, 0)


def packed_page(data: bytes) -> bytes:
    """Plain LZ77: the words of flags before 32 symbols each; a match may overlap what it makes."""
    symbols: list[tuple[bool, bytes]] = []
    last: dict[bytes, int] = {}
    half: int | None = None  # the symbol whose byte of lengths has four bits left
    place = 0
    while place < len(data):
        start = last.get(data[place : place + 3], -1)
        length = 0
        if start >= 0 and place - start <= 8192:
            while place + length < len(data) and data[start + length] == data[place + length]:
                length += 1
        if length < 3:
            symbols.append((False, data[place : place + 1]))
            last[data[place : place + 3]] = place
            place += 1
            continue
        rest = length - 3
        word = struct.pack("<H", place - start - 1 << 3 | min(rest, 7))
        if rest >= 7:
            more = min(rest - 7, 15)
            if half is None:
                half, word = len(symbols), word + bytes([more])
            else:
                flag, other = symbols[half]
                symbols[half] = flag, other[:2] + bytes([other[2] | more << 4]) + other[3:]
                half = None
            if more == 15:
                word += bytes([min(rest - 22, 255)])
                if rest - 22 >= 255:
                    word += struct.pack("<H", rest)
        symbols.append((True, word))
        for each in range(place, place + length):
            last[data[each : each + 3]] = each
        place += length
    out = b""
    for number in range(0, len(symbols) + 1, 32):
        some = symbols[number : number + 32]
        flags = [flag for flag, _ in some] + [True] * (32 - len(some))
        out += struct.pack("<I", int("".join(str(int(flag)) for flag in flags), 2)) + b"".join(word for _, word in some)
    return out


@lru_cache(maxsize=8)
def packed_block(data: bytes) -> bytes:
    """A block, page by page: one of the same eight bytes, or packed, or as it is."""
    out = b""
    pages = [data[place : place + PAGE] for place in range(0, len(data), PAGE)]
    while pages:
        page = pages.pop(0)
        if page == page[:8] * (PAGE // 8):
            count = 1
            while pages and pages[0] == page:
                count += len(pages.pop(0)) // PAGE
            one = struct.pack("<I", 0xFFFFFFFE) + page[:8]
            out += one if count == 1 else struct.pack("<I", 0xFFFFFFFD) + page[:8] + struct.pack("<I", count)
            continue
        packed = packed_page(page)
        out += struct.pack("<I", min(len(packed), PAGE)) + (packed if len(packed) < PAGE else page)
    return out + struct.pack("<I", 0xFFFFFFFF)


def chunk(kind: int, data: bytes) -> bytes:
    return struct.pack("<II8x", kind, len(data)) + data


def x86(number: int, registers: Mapping[str, int]) -> bytes:
    """The chunks of a processor of x86-64."""

    def word(name: str) -> bytes:
        return struct.pack("<Q", registers.get(name, 0))

    control = b"".join(word(name) for name in ("cr0", "cr2", "cr3", "cr4", "cr8", "efer"))
    segments = bytes(5 * 16) + word("gs_base") + bytes(8 + 2 * 16 + 16)
    tables = b"".join(bytes(6) + struct.pack("<H", 0xFFF) + word(name) for name in ("idt_base", "gdt_base"))
    return (
        chunk(0x30001000, struct.pack("<I12x", number))
        + chunk(0x30005000, bytes(16 * 8) + word("rip") + word("rflags"))
        + chunk(0x30007000, control)
        + chunk(0x30009000, segments)
        + chunk(0x3000A000, tables)
    )


def arm64(number: int, ttbr0: int, ttbr1: int, vbar: int) -> bytes:
    """The chunks of a processor of arm64."""
    tables = chunk(0x3000A000, struct.pack("<QQQ8x", ttbr0, ttbr1, vbar))
    return chunk(0x30001000, struct.pack("<I12x", number)) + chunk(0x30005000, bytes(43 * 8)) + tables


def partition(processors: Iterable[bytes], arm: bool = False) -> bytes:
    """The hypervisor's record of a partition."""
    prolog = struct.pack("<IB3xI", 0x50546475, 0, 0x10 if arm else 1).ljust(4064, b"\0")
    chunks = chunk(0, prolog) + chunk(0x20001000, bytes(16)) + chunk(0x30000000, bytes(48))
    chunks += b"".join(processors) + chunk(0xF0000000, b"")
    return struct.pack("<QQQ", 24, 24, 40 + len(chunks)) + bytes(16) + chunks


def saved_state(ram: bytes, runs: Sequence[tuple[int, int, int]], record: bytes = b"", packed: bool = True) -> bytes:
    """A .vmrs file of all the RAM in order, and where runs of its pages belong."""
    blocks = (ram[place : place + BLOCK] for place in range(0, len(ram), BLOCK))
    return store(saved(((packed_block(block) if packed else block) for block in blocks), runs, record))


def saved(blocks: Iterable[bytes], runs: Sequence[tuple[int, int, int]], record: bytes = b"") -> dict[str, bytes]:
    """The arrays of a .vmrs file: blocks of RAM, packed or not, and where runs of its pages belong."""
    arrays = {"savedstate/savedVM/partition_state": record} if record else {}
    arrays |= {f"savedstate/RamMemoryBlock{number}": run(*each) for number, each in enumerate(runs)}
    return arrays | {f"savedstate/RamBlock{number}": block for number, block in enumerate(blocks)}
