"""Compare what plugins say of the network with what the guest said."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

from checks_processes import equal, shared_pids
from runner import Rows
from truth import Truth, low

Socket = tuple[object, ...]
"""Family, type, protocol, source and its port, destination and its port, as Volatility prints them."""


def check_sockets(rows: Rows, truth: Truth) -> None:
    """All sockets in descriptors of processes that live."""
    known = {(space, inode): facts for space in truth.networks for inode, facts in _sockets(truth, space)}
    spaces = {number: name for name, number in truth.networks.items()}
    wanted = {}
    for place, path in truth.rows("descriptors.tsv"):
        if inode := re.fullmatch(r"socket:\[(\d+)\]", path):
            pid, number = int(place.split("/")[2]), int(place.split("/")[4])
            space = truth.namespaces[pid, "net"]
            wanted[pid, number] = (space, *known[spaces[space], int(inode[1])])
    names = ("NetNS", "Family", "Type", "Proto", "Source Addr", "Source Port", "Destination Addr", "Destination Port")
    found = {(row["PID"], row["FD"]): tuple(row[name] for name in names) for row in rows}
    both = shared_pids({pid for pid, _ in found}, {pid for pid, _ in wanted})
    assert {facts[1] for facts in wanted.values()} == {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET"}
    equal(
        {place: facts for place, facts in found.items() if place[0] in both},
        {place: facts for place, facts in wanted.items() if place[0] in both},
    )


def _sockets(truth: Truth, space: str) -> Iterator[tuple[int, Socket]]:
    """Yield the sockets of a network namespace by their inodes, from its files of /proc/net."""
    types = {1: "STREAM", 2: "DGRAM", 3: "RAW"}
    for name, kind, protocol in (("tcp", 1, "TCP"), ("udp", 2, "UDP"), ("raw", 3, "ICMP")):
        for family, suffix in (("AF_INET", ""), ("AF_INET6", "6")):
            for line in [] if name + suffix == "raw6" else _lines(truth, f"{space}-{name}{suffix}"):
                _, source, destination, _, _, _, _, _, _, inode, *_ = line.split()
                ends = (*_internet(source), *_internet(destination))
                yield int(inode), (family, types[kind], protocol, *ends)
    paths, inodes = {}, []
    for line in _lines(truth, f"{space}-unix"):
        _, _, _, _, unix_kind, _, inode, *path = line.split(maxsplit=7)
        # the name of an abstract one begins with a zero, where Volatility takes it to end
        paths[int(inode)] = "".join("" if name.startswith("@") else name for name in path) if path else None
        inodes.append((int(inode), types[int(unix_kind, 16)]))
    for number, type_name in inodes:
        yield number, ("AF_UNIX", type_name, None, paths[number], str(number), None, None)
    for line in _lines(truth, f"{space}-netlink"):
        _, _, port, _, _, _, _, _, _, inode = line.split()
        yield int(inode), ("AF_NETLINK", "RAW", "NETLINK_ROUTE", None, port, "group:0x00000000", "0")
    for line in _lines(truth, f"{space}-packet"):
        *_, inode = line.split()
        yield int(inode), ("AF_PACKET", "DGRAM", "ETH_P_ARP", "ANY", None, None, None)


def _lines(truth: Truth, name: str) -> list[str]:
    return [line for line in truth.text(name).splitlines()[1:] if line]


def _internet(text: str) -> tuple[str, str]:
    """Return an address and a port as /proc/net/tcp prints them: words of four bytes, each as a number."""
    address, _, port = text.partition(":")
    words = [int(address[place : place + 8], 16).to_bytes(4, "little") for place in range(0, len(address), 8)]
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    return socket.inet_ntop(family, b"".join(words)), str(int(port, 16))


def _interfaces(truth: Truth) -> Iterator[tuple[int, int, str, str]]:
    """Yield namespace, number, name and text of each interface, from ``ip addr``."""
    for space, number in truth.networks.items():
        for text in re.split(r"^(?=\d+: )", truth.text(f"{space}-addresses"), flags=re.MULTILINE):
            if head := re.match(r"(\d+): ([^:@]+)", text):
                yield number, int(head[1]), head[2], text


def check_addresses(rows: Rows, truth: Truth) -> None:
    """All addresses of all interfaces of both namespaces."""
    wanted = {
        (number, index, name, address, int(length), scope)
        for number, index, name, text in _interfaces(truth)
        for address, length, scope in re.findall(r"inet6? ([0-9a-f.:]+)/(\d+) .*?scope (\w+)", text)
    }
    assert {name for _, _, name, *_ in wanted} >= {"lo", "labdummy0", "labinner0"}
    names = ("NetNS", "Index", "Interface", "IP", "Prefix", "Scope Type")
    equal({tuple(row[name] for name in names) for row in rows}, wanted)


def check_links(rows: Rows, truth: Truth) -> None:
    """All interfaces of both namespaces: MTU, queue and flags; the address of those of Ethernet."""
    wanted, ethernet = set(), {}
    for number, _, name, text in _interfaces(truth):
        flags = frozenset(re.findall(r"<(.*?)>", text)[0].split(",")) - {"NO-CARRIER", "M-DOWN"}
        (mtu,), queue = re.findall(r" mtu (\d+)", text), re.findall(r" qlen (\d+)", text)
        wanted.add((number, name, int(mtu), int(queue[0]) if queue else 0, flags))
        if mac := re.search(r"link/ether (\S+)", text):
            ethernet[number, name] = mac[1]
    found = {(row["NS"], row["Interface"], row["MTU"], row["Qlen"], frozenset(row["Flags"].split(","))) for row in rows}
    equal(found, wanted)
    equal(
        {place: mac for row in rows if (place := (row["NS"], row["Interface"])) in ethernet for mac in [row["MAC"]]},
        ethernet,
    )


def check_hooks(rows: Rows, truth: Truth) -> None:
    """The lab's hook, and none whose module nobody knows."""
    (hook,) = (row for row in rows if row["Priority"] == -4242)
    facts = tuple(hook[name] for name in ("Net NS", "Proto", "Hook", "Module", "Symbol"))
    assert facts == (truth.networks["outer"], "IPV4", "LOCAL_IN", "labwatcher", "labwatcher_packet"), f"{facts}"
    assert low(hook["Handler"]) in truth.symbols["labwatcher_packet"]
    assert {str(row["Is Hooked"]) for row in rows} == {"False"}
    for row in rows:
        assert low(row["Handler"]) in truth.symbols[row["Symbol"]], f"{row['Symbol']} is no such function"
