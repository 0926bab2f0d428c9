"""Files below /proc/net as Linux writes them, of the connections and counters of ustack."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from ustack.drill.pipelines import ListedSocket, Machine

# include/net/tcp_states.h
STATES = {
    "ESTABLISHED": 1,
    "SYN_SENT": 2,
    "SYN_RECEIVED": 3,
    "FIN_WAIT_1": 4,
    "FIN_WAIT_2": 5,
    "TIME_WAIT": 6,
    "CLOSED": 7,
    "CLOSE_WAIT": 8,
    "LAST_ACK": 9,
    "LISTEN": 10,
    "CLOSING": 11,
}
_TCP_HEAD = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
    "inode"
)
_TCP6_HEAD = (
    "  sl  local_address                         remote_address                        st tx_queue "
    "rx_queue tr tm->when retrnsmt   uid  timeout inode"
)
_FIRST_INODE = 10_000
_NETSTAT = ("TcpExt", "IpExt")
_SNMP = ("Ip", "Icmp", "Tcp", "Udp")


def proc_net(path: str, machine: Machine) -> list[str] | None:
    """The lines of the file `path`; None: there is none of that name here."""
    match path.removeprefix("/proc/self").removeprefix("/proc"):
        case "/net/tcp":
            return _sockets(machine.sockets(), _TCP_HEAD, words=1)
        case "/net/tcp6":
            return _sockets(machine.sockets(), _TCP6_HEAD, words=4)
        case "/net/netstat":
            return _groups(machine.counters(), _NETSTAT)
        case "/net/snmp":
            return _groups(machine.counters(), _SNMP)
        case "/net/sockstat":
            return _totals(machine.sockets())
    return None


def _sockets(listed: Sequence[ListedSocket], head: str, *, words: int) -> list[str]:
    lines = [head]
    for each in listed:
        local, remote = _end(each.local, words), _end(each.remote, words)
        if local is None or remote is None:
            continue
        index = len(lines) - 1
        lines.append(
            f"{index:4}: {local} {remote} {STATES.get(each.state, 7):02X} 00000000:00000000 "
            f"00:00000000 00000000     0        0 {_FIRST_INODE + index} 1 0000000000000000"
        )
    return lines


def _end(text: str, words: int) -> str | None:
    """`192.168.0.1:8080` in hexadecimal; each word of the address is in the order of x86."""
    address, _, port = text.rpartition(":")
    if address == "*":
        packed = bytes(4 * words)
    else:
        packed = ip_address(address).packed
    if len(packed) != 4 * words:
        return None
    number = 0 if port == "*" else int(port)
    swapped = b"".join(packed[at : at + 4][::-1] for at in range(0, len(packed), 4))
    return f"{swapped.hex().upper()}:{number:04X}"


def _groups(counters: Mapping[str, int], prefixes: Sequence[str]) -> list[str]:
    """Two lines for each group: the names, the values."""
    lines = []
    for prefix in prefixes:
        names = [name for name in counters if _group(name) == prefix]
        if names:
            short = (name.removeprefix(prefix) for name in names)
            lines.append(f"{prefix}: {' '.join(short)}")
            lines.append(f"{prefix}: {' '.join(str(counters[name]) for name in names)}")
    return lines


def _group(name: str) -> str:
    return next((each for each in (*_NETSTAT, *_SNMP) if name.startswith(each)), "")


def _totals(listed: Sequence[ListedSocket]) -> list[str]:
    waiting = sum(each.state == "TIME_WAIT" for each in listed)
    used = len(listed) - waiting
    return [f"sockets: used {used}", f"TCP: inuse {used} orphan 0 tw {waiting} alloc {used} mem 0"]
