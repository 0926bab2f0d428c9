"""A parsed packetdrill script: options, events, packets and expressions, with their positions.

Plain data. Sequence numbers and timestamps are those of the script ("script space"); `mapping`
translates them. A packet that was seen on the wire is described by the same classes, so the
matcher compares like with like and one printer serves both.
"""

from dataclasses import dataclass, field
from enum import Enum

from ustack.drill.positions import Position
from ustack.wire.tcp import AE, CWR, ECE

ACE_FLAGS = AE | CWR | ECE  # the AccECN counter (RFC 9768 §3.1), most significant bit first
ACE_SHIFT = 6  # ECE is bit 6, so the counter is (flags & ACE_FLAGS) >> 6

# Time


class TimeKind(Enum):
    """The forms in which a script writes the time of an event (language §5.1)."""

    ABSOLUTE = "absolute"
    RELATIVE = "relative"
    ANY = "*"
    ABSOLUTE_WINDOW = "absolute window"
    RELATIVE_WINDOW = "relative window"


@dataclass(slots=True, frozen=True)
class When:
    """The written time of an event, in µs; `end_us` is the right edge of a window."""

    kind: TimeKind
    start_us: int = 0
    end_us: int = 0

    @property
    def relative(self) -> bool:
        """Whether the numbers count from the reference point (language §5.2)."""
        return self.kind in (TimeKind.RELATIVE, TimeKind.RELATIVE_WINDOW)

    @property
    def is_window(self) -> bool:
        """Whether any time between the two numbers is right."""
        return self.kind in (TimeKind.ABSOLUTE_WINDOW, TimeKind.RELATIVE_WINDOW)


# TCP options


@dataclass(slots=True, frozen=True)
class Nop:
    """Kind 1."""


@dataclass(slots=True, frozen=True)
class EndOfOptions:
    """Kind 0."""


@dataclass(slots=True, frozen=True)
class Mss:
    """Kind 2, RFC 9293 §3.7.1."""

    value: int


@dataclass(slots=True, frozen=True)
class WindowScale:
    """Kind 3, RFC 7323 §2."""

    shift: int


@dataclass(slots=True, frozen=True)
class SackPermitted:
    """Kind 4, RFC 2018 §2."""


@dataclass(slots=True, frozen=True)
class Sack:
    """Kind 5, RFC 2018 §3: (left, right) edges in wire order."""

    blocks: tuple[tuple[int, int], ...]


@dataclass(slots=True, frozen=True)
class Timestamp:
    """Kind 8, RFC 7323 §3. None: written `...`, not checked. `ecr_absolute`: written `N!`."""

    val: int | None
    ecr: int | None
    ecr_absolute: bool = False


@dataclass(slots=True, frozen=True)
class FastOpen:
    """Kind 34 (RFC 7413), or 254 with the magic 0xF989; an empty cookie asks for one."""

    cookie: bytes
    experimental: bool


@dataclass(slots=True, frozen=True)
class Md5:
    """Kind 19, RFC 2385. `valid`: the digest is that of the secret (`--tcp_md5_secret`)."""

    digest: bytes
    valid: bool = False


@dataclass(slots=True, frozen=True)
class AccEcn:
    """Kind 172 (order e0b, ceb, e1b) or 174 (order e1b, ceb, e0b), RFC 9768; counters in order."""

    kind: int
    counters: tuple[int, ...]


@dataclass(slots=True, frozen=True)
class RawOption:
    """Any other kind: `data` is all that follows kind and length."""

    kind: int
    data: bytes


TcpOption = (
    Nop
    | EndOfOptions
    | Mss
    | WindowScale
    | SackPermitted
    | Sack
    | Timestamp
    | FastOpen
    | Md5
    | AccEcn
    | RawOption
)

# Packets


@dataclass(slots=True, frozen=True)
class IpInfo:
    """What is written of the IP header. None: not written, and then not compared.

    `ecn` is one of noecn, ect0, ect1, ce, ect01.
    """

    ecn: str | None = None
    tos: int | None = None
    ttl: int | None = None
    flow_label: int | None = None


@dataclass(slots=True, frozen=True)
class TcpPacket:
    """A TCP segment in script space.

    `options` None: written `<...>`. `window` None: not written. `seq` None: written `...(length)`.
    `absolute`, `ack_absolute`: the number is followed by `!` and not mapped. `ports` (source,
    destination) None: those of the socket.
    """

    flags: int
    seq: int | None
    length: int
    ack: int = 0
    window: int | None = None
    urgent: int = 0
    options: tuple[TcpOption, ...] | None = ()
    ip: IpInfo = IpInfo()
    ports: tuple[int, int] | None = None
    absolute: bool = False
    ace: int | None = None  # the AccECN counter, written as a digit
    udp_ports: tuple[int, int] | None = None  # encapsulated in UDP
    ack_absolute: bool = False


@dataclass(slots=True, frozen=True)
class UdpPacket:
    """A datagram with `length` bytes of payload."""

    length: int
    ports: tuple[int, int] | None = None
    ip: IpInfo = IpInfo()


class Quoted(Enum):
    """What the brackets of an ICMP message say that it quotes."""

    TCP = "tcp"
    UDP = "udp"
    RAW = "raw"


@dataclass(slots=True, frozen=True)
class IcmpPacket:
    """An ICMP or ICMPv6 message; `seq` and `length` describe the packet it quotes."""

    type: int
    code: int = 0
    mtu: int | None = None
    identifier: int | None = None
    quoted: Quoted = Quoted.TCP
    seq: int = 0
    length: int = 0
    ip: IpInfo = IpInfo()


Packet = TcpPacket | UdpPacket | IcmpPacket

# Expressions


@dataclass(slots=True, frozen=True)
class Anything:
    """`...`"""


@dataclass(slots=True, frozen=True)
class Integer:
    """A number, decimal or hexadecimal."""

    value: int


@dataclass(slots=True, frozen=True)
class Name:
    """A symbol to be looked up in the tables of constants."""

    name: str


@dataclass(slots=True, frozen=True)
class String:
    """Adjacent string literals, escapes resolved; `open_ended` when `...` follows."""

    value: bytes
    open_ended: bool = False


@dataclass(slots=True, frozen=True)
class Or:
    """Bitwise or."""

    left: "Expression"
    right: "Expression"


@dataclass(slots=True, frozen=True)
class Array:
    """`[a, b, ...]`"""

    items: tuple["Expression", ...]


@dataclass(slots=True, frozen=True)
class Function:
    """`htons(8080)`, `inet_addr("192.0.2.1")`, `inet6_addr("::1")`"""

    name: str
    arguments: tuple["Expression", ...]


@dataclass(slots=True, frozen=True)
class Field:
    """One member of a structure: `key = value`, `key(count) = value`, or a bare value."""

    key: str | None
    count: "Expression | None"
    value: "Expression"


@dataclass(slots=True, frozen=True)
class Struct:
    """`{key=value, ...}`"""

    fields: tuple[Field, ...]

    def get(self, key: str) -> "Expression | None":
        """The value of the member `key`, or None."""
        return next((field.value for field in self.fields if field.key == key), None)


Expression = Anything | Integer | Name | String | Or | Array | Function | Struct

# Events


@dataclass(slots=True, frozen=True)
class PacketEvent:
    """A packet to inject (`inbound`) or to expect. `tunnel`: it is written with outer headers."""

    position: Position
    when: When
    inbound: bool
    packet: Packet
    tunnel: bool = False


@dataclass(slots=True, frozen=True)
class SyscallEvent:
    """A system call. `end_us` is the written end of a blocking call."""

    position: Position
    when: When
    name: str
    arguments: tuple[Expression, ...]
    result: Expression
    errno: str | None = None
    end_us: int | None = None


@dataclass(slots=True, frozen=True)
class CommandEvent:
    """A shell command."""

    position: Position
    when: When
    text: str


@dataclass(slots=True, frozen=True)
class CodeEvent:
    """A snippet of Python."""

    position: Position
    when: When
    text: str


Event = PacketEvent | SyscallEvent | CommandEvent | CodeEvent


@dataclass(slots=True, frozen=True)
class Settings:
    """The options of a script (language §4), those of the command line already applied."""

    ip_version: str = "ipv4"  # ipv4, ipv6 or ipv4-mapped-ipv6
    local_ip: str | None = None
    remote_ip: str | None = None
    gateway_ip: str | None = None
    netmask_ip: str | None = None
    bind_port: int = 8080
    connect_port: int = 8080
    tolerance_us: int = 4000
    tolerance_percent: float = 12.5
    mtu: int | None = None
    mss: int = 0  # segment size of injected super-segments; 0: none
    ts_tick_us: int = 0  # 0: TS val is not checked
    ts_ecr_scaled: bool = False
    strict_segments: bool = False
    non_fatal: frozenset[str] = frozenset()  # "packet", "syscall": mismatches are warnings
    init_scripts: tuple[str, ...] = ()
    md5_secret: bytes = b"packetdrill"  # the key of `md5 valid`, and of TCP_MD5SIG set to 1
    tunnelled: bool = False  # some packet is TCP in UDP

    @property
    def ipv6_packets(self) -> bool:
        """Whether the packets on the wire are IPv6."""
        return self.ip_version == "ipv6"

    @property
    def device_mtu(self) -> int:
        """The MTU of the device; by default the one that makes the MSS 1460 in both families."""
        return self.mtu or (1520 if self.ipv6_packets else 1500)

    @property
    def ipv6_sockets(self) -> bool:
        """Whether the sockets are AF_INET6."""
        return self.ip_version != "ipv4"

    @property
    def local_address(self) -> str:
        """The address of the stack under test."""
        return self.local_ip or ("fd3d:a0b:17d6::1" if self.ipv6_packets else "192.168.0.1")

    @property
    def remote_address(self) -> str:
        """The address that the player speaks for."""
        return self.remote_ip or ("fd3d:fa7b:d17d::1" if self.ipv6_packets else "192.0.2.1")


@dataclass(slots=True, frozen=True)
class Script:
    """A whole script."""

    file: str
    settings: Settings
    events: tuple[Event, ...]
    init: CommandEvent | None = None
    cleanup: CommandEvent | None = None
    notes: tuple[str, ...] = field(default=())  # options that were accepted and mean nothing here
