"""Signatures of RFC 2385: the digest, and which key is whose."""

import pytest

from ustack.config import Md5Key, TcpConfig
from ustack.tcp.md5_signature import for_peer, is_right, key_of, signed
from ustack.wire.tcp import RST

REMOTE, LOCAL = bytes([192, 0, 2, 1]), bytes([192, 168, 0, 1])
PORTS = (49152).to_bytes(2, "big") + (8080).to_bytes(2, "big")
FLOW = REMOTE + LOCAL + PORTS
FLOW6 = bytes.fromhex("fd3dfa7bd17d00000000000000000001fd3d0a0b17d600000000000000000001") + PORTS
NOP_NOP_MD5 = bytes((1, 1, 19, 18))


def test_a_reset_is_signed_as_linux_signs_it() -> None:
    """Linux 6.18, listening at 192.168.0.1:8080 with the key "packetdrill", sent this RST to
    192.0.2.1:49152 when an ACK of 1 came without a connection."""
    options = signed(b"packetdrill", FLOW, 1, 0, RST, 0, b"")
    assert options == NOP_NOP_MD5 + bytes.fromhex("3d3734ecff0562cde5ca7e9d298fc4c3")


def test_without_a_key_options_stay_as_they_are() -> None:
    assert signed(None, FLOW, 1, 2, RST, 0, b"\1\1\1\1") == b"\1\1\1\1"


@pytest.mark.parametrize("flow", [FLOW, FLOW6])
def test_what_is_signed_is_right_until_anything_signed_changes(flow: bytes) -> None:
    half = (len(flow) - 4) // 2
    reverse = flow[half : 2 * half] + flow[:half] + flow[-2:] + flow[-4:-2]
    options = signed(b"key", flow, 7, 9, 0x18, 500, b"", b"text")
    header = flow[-2:] + flow[-4:-2] + (7).to_bytes(4, "big") + (9).to_bytes(4, "big")
    header += bytes((0xA0, 0x18)) + (500).to_bytes(2, "big") + b"\xab\xcd\0\0" + options
    digest = options[4:]
    assert is_right(b"key", reverse, header, b"text", digest)
    other_checksum = header[:16] + b"\0\1" + header[18:]
    assert is_right(b"key", reverse, other_checksum, b"text", digest)
    assert not is_right(b"kez", reverse, header, b"text", digest)
    assert not is_right(b"key", reverse, header, b"texu", digest)
    assert not is_right(b"key", flow, header, b"text", digest)
    for at in (0, 5, 9, 13, 14, 19):
        changed = header[:at] + bytes((header[at] ^ 1,)) + header[at + 1 :]
        assert not is_right(b"key", reverse, changed, b"text", digest)


def test_options_are_not_signed_but_their_size_is() -> None:
    """RFC 2385 §2.0: the header is taken without them, its data offset is theirs."""
    one = signed(b"key", FLOW, 7, 9, 0x10, 500, b"\1\1\1\1")
    other = signed(b"key", FLOW, 7, 9, 0x10, 500, b"\1\1\1\0")
    longer = signed(b"key", FLOW, 7, 9, 0x10, 500, bytes(8))
    assert one[:20] == other[:20] != longer[:20]
    assert signed(b"key", FLOW, 7, 9, 0x10, 500, b"\1\1\1\0", last=True) == b"\1\1\1\0" + one[:20]


def test_the_key_of_the_longest_prefix_counts() -> None:
    keys = (
        Md5Key("192.0.0.0/16", b"wide"),
        Md5Key("192.0.2.0/24", b"net"),
        Md5Key("192.0.2.9", b"host"),
        Md5Key("fd3d:fa7b::/32", b"six"),
    )
    config = TcpConfig(md5_keys=keys)
    assert key_of(config, FLOW) == b"net"
    assert key_of(config, bytes([192, 0, 2, 9]) + FLOW[4:]) == b"host"
    assert key_of(config, bytes([192, 0, 3, 9]) + FLOW[4:]) == b"wide"
    assert key_of(config, bytes([193, 0, 3, 9]) + FLOW[4:]) is None
    assert key_of(config, FLOW6) == b"six"
    assert key_of(TcpConfig(), FLOW) is None


def test_a_child_has_the_key_of_its_peer_only() -> None:
    keys = Md5Key("192.0.2.0/24", b"net"), Md5Key("10.0.0.0/8", b"ten")
    child = for_peer(TcpConfig(md5_keys=keys), FLOW)
    assert child.md5_keys == (Md5Key("192.0.2.1", b"net"),)
    assert for_peer(TcpConfig(md5_keys=keys[1:]), FLOW).md5_keys == ()


@pytest.mark.parametrize("peers, key", [("192.0.2.1", b""), ("here", b"k"), ("::1", bytes(81))])
def test_what_is_no_key_is_refused(peers: str, key: bytes) -> None:
    with pytest.raises(ValueError, match=r"length|here"):
        Md5Key(peers, key)


def test_a_key_is_not_shown() -> None:
    assert "secret" not in repr(TcpConfig(md5_keys=(Md5Key("192.0.2.1", b"secret"),)))
