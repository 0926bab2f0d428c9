"""TCP Fast Open (RFC 7413) as one connection sees it, and its cookies.

`FastOpen` hangs at the Tcbs that use it only: one that a listener has opened with the text of a
SYN, or one of ours whose SYN asked for a cookie or carried text.
"""

from typing import NamedTuple

from ustack.tcp.siphash import siphash24

# Bits of StackConfig.fast_open (Linux tcp_fastopen)
CLIENT = 1
SERVER = 2
CLIENT_WITHOUT_COOKIE = 4
SERVER_WITHOUT_COOKIE = 0x200
EVERY_LISTENER = 0x400

KEY_SIZE = 16  # bytes
MAX_OPTIONS_ON_SYN = 40  # bytes; left free in a SYN with text (Linux MAX_TCP_OPTION_SPACE)

# Why text on our SYN was of no use (Linux tcpi_fastopen_client_fail)
UNSPECIFIED, COOKIE_UNAVAILABLE, DATA_NOT_ACKED, SYN_RETRANSMITTED = range(4)


class Cookie(NamedTuple):
    """What the option carries; an empty cookie asks for one."""

    value: bytes
    experimental: bool = False  # in option kind 254 (RFC 6994), as before RFC 7413


class FastOpen:
    """What Fast Open adds to one connection."""

    __slots__ = (
        "asked",
        "blackholed",
        "client_fail",
        "cookie",
        "ended_at",
        "experimental",
        "resent",
        "size",
        "syn_at",
        "text_acked",
    )

    def __init__(self, cookie: Cookie | None) -> None:
        self.cookie = cookie  # on the next SYN or SYN,ACK, None: no option
        self.asked = cookie is not None  # our SYN had the option
        self.experimental = cookie is not None and cookie.experimental
        self.syn_at = 0  # µs, when our SYN or SYN,ACK left last
        self.size = 0  # bytes of text on our SYN
        self.resent = False  # our SYN had to be sent again
        self.text_acked = False  # text on a SYN was acknowledged with it
        self.client_fail = UNSPECIFIED
        self.blackholed = False  # its timeouts have been counted
        self.ended_at = 0  # µs, when the connection was over


def make_cookie(key: bytes, remote: bytes, local: bytes) -> bytes:
    """The cookie of a client (§4.1.2): as Linux makes it, 8 bytes."""
    return siphash24(key, remote + local).to_bytes(8, "little")


def split_keys(keys: bytes) -> tuple[bytes, ...]:
    """The key in use, and the one before it, which is still good (§4.1.2: keys are replaced)."""
    return tuple(keys[at : at + KEY_SIZE] for at in range(0, len(keys), KEY_SIZE))


def parse_keys(text: str) -> bytes:
    """Keys as Linux writes them, a1b2c3d4-...,...: one or two. ValueError."""
    keys = b""
    for written in text.strip().split(","):
        words = written.split("-")
        if len(words) != 4:
            raise ValueError(f"not a Fast Open key: {written!r}")
        keys += b"".join(int(word, 16).to_bytes(4, "little") for word in words)
    if len(keys) > 2 * KEY_SIZE:
        raise ValueError("at most two Fast Open keys")
    return keys
