"""The options at the top of a script and on the command line (language §4) to `Settings`.

The command line wins over the script. An option that concerns only the original program (tunnel
device, wire mode, verbosity) is accepted and noted, an unknown one is an error.
"""

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ustack.drill.positions import Position
from ustack.drill.script import Settings

LONGEST_SECRET = 80  # bytes; Linux TCP_MD5SIG_MAXKEYLEN
IP_VERSIONS = ("ipv4", "ipv6", "ipv4-mapped-ipv6")
# Names that `#ifdef` may ask for: ustack follows the RFCs where FreeBSD's scripts have a choice.
PREDEFINED = {"STANDARD": "1"}

# What these set does not exist on a virtual clock over a device in memory.
WITHOUT_MEANING = frozenset(
    """send_omit_free code_command code_format code_sockopt is_anyip speed verbose debug dry_run
    psp_udp_port so_filename so_flags tun_dev persistent_tun_dev v wire_client wire_server
    wire_client_dev wire_server_dev wire_server_ip wire_server_port""".split()
)


@dataclass(slots=True, frozen=True)
class Option:
    """One written option; `value` None: there is no `=`."""

    position: Position
    name: str
    value: str | None


def apply_options(
    settings: Settings, options: Sequence[Option]
) -> tuple[Settings, dict[str, str], list[str]]:
    """`settings` changed by `options`, the definitions made, and notes on what means nothing here.

    Raises MalformedFile for an unknown option or a value that it cannot have.
    """
    definitions: dict[str, str] = {}
    notes: list[str] = []
    for option in options:
        if option.name in ("define", "D"):
            name, equals, value = (option.value or "").partition("=")
            if not name or not equals:
                raise option.position.error(f"--{option.name} needs NAME=value")
            definitions[name] = value
        elif option.name in WITHOUT_MEANING:
            notes.append(f"{option.position}: option --{option.name} has no meaning here")
        elif option.name in _SETTERS:
            settings = _SETTERS[option.name](settings, option)
        else:
            raise option.position.error(f"unknown option --{option.name}")
    return settings, definitions, notes


def for_family(settings: Settings) -> Settings:
    """`settings` without addresses of a family that `ip_version` does not put on the wire.

    The same file is played as IPv4 and as IPv6; addresses it gives hold for one of them.
    """
    version = 6 if settings.ipv6_packets else 4

    def fitting(text: str | None) -> str | None:
        if text is None or ipaddress.ip_address(text).version != version:
            return None
        return text

    return replace(
        settings,
        local_ip=fitting(settings.local_ip),
        remote_ip=fitting(settings.remote_ip),
        gateway_ip=fitting(settings.gateway_ip),
    )


def _needed(option: Option) -> str:
    if not option.value:
        raise option.position.error(f"option --{option.name} needs a value")
    return option.value


def _number(option: Option, low: int, high: int) -> int:
    text = _needed(option)
    try:
        value = int(text, 0)
    except ValueError:
        raise option.position.error(f"--{option.name}: '{text}' is not a number") from None
    if not low <= value <= high:
        raise option.position.error(f"--{option.name}: {value} is not in {low}..{high}")
    return value


def _address(option: Option) -> str:
    text, slash, length = _needed(option).partition("/")
    try:
        address = ipaddress.ip_address(text)
        if slash and not 0 <= int(length) <= address.max_prefixlen:
            raise ValueError
    except ValueError:
        raise option.position.error(f"--{option.name}: '{option.value}' is no address") from None
    return str(address)


def _ip_version(settings: Settings, option: Option) -> Settings:
    value = _needed(option)
    if value not in IP_VERSIONS:
        raise option.position.error(f"--ip_version is one of {', '.join(IP_VERSIONS)}")
    return replace(settings, ip_version=value)


def _percent(settings: Settings, option: Option) -> Settings:
    text = _needed(option)
    try:
        value = float(text)
    except ValueError:
        raise option.position.error(f"--{option.name}: '{text}' is not a number") from None
    return replace(settings, tolerance_percent=value)


def _non_fatal(settings: Settings, option: Option) -> Settings:
    kinds = frozenset(_needed(option).split(","))
    if not kinds <= {"packet", "syscall"}:
        raise option.position.error("--non_fatal takes packet and syscall")
    return replace(settings, non_fatal=kinds)


def _secret(option: Option) -> bytes:
    secret = _needed(option).strip('"').encode()
    if not 0 < len(secret) <= LONGEST_SECRET:
        raise option.position.error(f"--tcp_md5_secret has 1 to {LONGEST_SECRET} bytes")
    return secret


def _encapsulation(settings: Settings, option: Option) -> Settings:
    """It lets the original tell tunnelled TCP from datagrams; here every line says what it is."""
    if _needed(option) != "tcp":
        raise option.position.error("--udp_encapsulation takes tcp: there is no SCTP here")
    return settings


_MAX32 = 0xFFFF_FFFF
_SETTERS: dict[str, Callable[[Settings, Option], Settings]] = {
    "ip_version": _ip_version,
    "local_ip": lambda s, o: replace(s, local_ip=_address(o)),
    "remote_ip": lambda s, o: replace(s, remote_ip=_address(o)),
    "gateway_ip": lambda s, o: replace(s, gateway_ip=_address(o)),
    "netmask_ip": lambda s, o: replace(s, netmask_ip=_needed(o)),
    "bind_port": lambda s, o: replace(s, bind_port=_number(o, 1, 65535)),
    "connect_port": lambda s, o: replace(s, connect_port=_number(o, 1, 65535)),
    "tolerance_usecs": lambda s, o: replace(s, tolerance_us=_number(o, 0, _MAX32)),
    "tolerance_percent": _percent,
    "mtu": lambda s, o: replace(s, mtu=_number(o, 68, 65535)),
    "mss": lambda s, o: replace(s, mss=_number(o, 0, 65535)),
    "tcp_ts_tick_usecs": lambda s, o: replace(s, ts_tick_us=_number(o, 0, _MAX32)),
    "tcp_ts_ecr_scaled": lambda s, o: replace(s, ts_ecr_scaled=True),
    "strict_segments": lambda s, o: replace(s, strict_segments=True),
    "non_fatal": _non_fatal,
    "udp_encapsulation": _encapsulation,
    "tcp_md5_secret": lambda s, o: replace(s, md5_secret=_secret(o)),
    "init_scripts": lambda s, o: replace(s, init_scripts=tuple(_needed(o).split(","))),
}

NAMES = frozenset(_SETTERS) | WITHOUT_MEANING  # of all options but --define
