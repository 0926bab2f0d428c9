"""The Linux TUN device: our packets come from and go to the kernel's stack of this machine.

Owns the descriptor and the kernel's side of the interface (addresses, MTU). With offload the
kernel hands over super-segments of up to 64 KiB, takes them of up to 448 KiB, and leaves and
completes checksums (IFF_VNET_HDR, TUNSETOFFLOAD); without, plain packets with complete checksums.
"""

import errno
import fcntl
import io
import ipaddress
import os
import re
import struct
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pytun_pmd3 import TunTapDevice

from ustack.device.steering import steer_away
from ustack.errors import UsageError
from ustack.wire import Buffer
from ustack.wire.ipv4 import MAX_PACKET
from ustack.wire.virtio import HEADER_LEN

# linux/if_tun.h
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000  # no struct tun_pi before each packet
IFF_VNET_HDR = 0x4000  # a virtio_net_hdr before each packet
TUNSETOFFLOAD = 0x400454D0  # _IOW('T', 208, unsigned int)
TUNSETVNETHDRSZ = 0x400454D8  # _IOW('T', 216, int)
TUNSETVNETLE = 0x400454DC  # _IOW('T', 220, int)
TUN_F_CSUM = 0x01  # we take packets whose checksum is still to be completed
TUN_F_TSO4 = 0x02
TUN_F_TSO6 = 0x04
TUN_F_TSO_ECN = 0x08  # a super-segment may have CWR, for its first piece (RFC 3168 §6.1.2)

IFNAMSIZ = 16  # linux/if.h, with the closing zero
MIN_MTU = 68  # RFC 791 §3.2
MIN_MTU_IPV6 = 1280  # RFC 8200 §5
BIG_TCP_SINCE = 6, 3  # Linux version that takes IPv4 super-segments without a total length
# bytes. Linux copies a frame into 16 blocks of memory, of 32 KiB where it has them; the last ones
# are smaller. Up to here that is enough, above it for some sizes only.
BIG_PACKET = 14 * 32_768
READ_SIZE = HEADER_LEN + MAX_PACKET
READ_BATCH = 4 * READ_SIZE  # bytes after which one read() ends; see there
IOV_MAX = 1024  # linux/uio.h UIO_MAXIOV: parts in one writev
IN6_ADDR_GEN_MODE_NONE = 1  # linux/if_link.h: no link-local address, so no router solicitation
IFA_F_NODAD = 0x02  # linux/if_addr.h: usable at once; nobody else is on this link
RTN_LOCAL = 2  # linux/rtnetlink.h: a route to this machine itself
LOCAL_ROUTE_TIMEOUT_S = 2.0  # some ms is normal
LOCAL_ROUTE_POLL_S = 0.001

NO_OFFLOAD = bytes(HEADER_LEN)  # checksum complete, not a super-segment

_INT = struct.Struct("=i")

IPInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


class TunDevice:
    """A TUN interface of this machine's kernel, opened non-blocking.

    `name` "" lets the kernel choose; `name` then tells. An interface that exists and is ours to
    open (`ip tuntap add ... user`) is attached to. Raises OSError with the reason in words when
    the system refuses, UsageError for an impossible name or MTU.
    """

    def __init__(self, name: str, *, offload: bool = True, mtu: int = 1500) -> None:
        if not MIN_MTU <= mtu <= MAX_PACKET:
            raise UsageError(f"MTU {mtu}: must lie between {MIN_MTU} and {MAX_PACKET}")
        self.mtu = mtu
        self.gso_max = _largest_super_segment() if offload else 0
        self.checksum_offload = offload
        self.on_readable: Callable[[], None] | None = None  # never called: there is a descriptor
        self.write_errors = 0  # frames that the kernel refused; lost
        self._tun = _open(name, IFF_TUN | IFF_NO_PI | (IFF_VNET_HDR if offload else 0))
        self.name: str = self._tun.name
        self._fd: int = self._tun.fileno()
        self._file = io.FileIO(self._fd, closefd=False)  # for reading
        self._offload = offload
        os.set_blocking(self._fd, False)
        features = 0
        if offload:
            features = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN
            fcntl.ioctl(self._fd, TUNSETVNETHDRSZ, _INT.pack(HEADER_LEN))
            fcntl.ioctl(self._fd, TUNSETVNETLE, _INT.pack(1))
        fcntl.ioctl(self._fd, TUNSETOFFLOAD, features)

    def configure(self, addresses: Sequence[str]) -> list[str]:
        """The interface is up with the kernel's addresses, one per given address of ours.

        `addresses` are ours with the prefix ("10.9.0.2/24", "fd00:9::2/64"); the kernel gets the
        first host address of each network (10.9.0.1, fd00:9::1), or the second when the first is
        ours. Returns the kernel's, with the prefix. Raises UsageError for an address that leaves
        none for the kernel, OSError when the system refuses.
        """
        hosts = [kernel_side(address) for address in addresses]
        if self.mtu < MIN_MTU_IPV6 and any(host.version == 6 for host in hosts):
            raise UsageError(f"MTU {self.mtu}: IPv6 needs at least {MIN_MTU_IPV6}")
        # pyroute2 runs an event loop of its own, which cannot be nested in a running one.
        with ThreadPoolExecutor(max_workers=1) as thread:
            thread.submit(_bring_up, self.name, self.mtu, hosts).result()
        if self.gso_max > MAX_PACKET:
            steer_away(self.name)
        return [str(host) for host in hosts]

    def fileno(self) -> int:
        return self._fd

    def read(self, budget: int, now: int) -> list[bytes]:  # hot
        """Fresh `bytes` per frame: payload views stay valid as long as anyone wants them.

        Stops after READ_BATCH bytes too: the memory of one batch is then still in the heap and in
        the caches when the next is read. Measured with super-segments, per frame: 5 µs, against
        50 µs in batches of 64, whose 4 MiB the allocator gives back and faults in anew each time;
        as a bulk rate from the kernel's TCP 2.1 against 1.2 GB/s. Reading into reused buffers
        (readv) is no faster, and the payload would have to be copied out. A FileIO says None when
        there is nothing to read, where os.read raises an exception, which costs as much as a read.
        """
        read = self._file.read
        frames: list[bytes] = []
        room = READ_BATCH
        try:
            frame: bytes | None = read(READ_SIZE)
            while frame is not None:
                if not self._offload:
                    frame = NO_OFFLOAD + frame
                frames.append(frame)
                room -= len(frame)
                if len(frames) >= budget or room <= 0:
                    break
                frame = read(READ_SIZE)
        except OSError as error:
            if not frames:  # otherwise the next read says it again
                raise OSError(error.errno, f"{self.name}: the interface is gone") from error
        return frames

    def write(self, parts: Sequence[Buffer], now: int) -> bool:  # hot
        """False when the kernel's queue is full, or when it has no memory now.

        The blocks for a larger frame than 64 KiB may be missing for long: `gso_max` falls.

        A frame that the kernel refuses for any other reason (interface down, bad header) is lost,
        as on a wire, and counted in `write_errors`.
        """
        try:
            if self._offload:
                os.writev(self._fd, parts)
            else:
                os.writev(self._fd, [memoryview(parts[0])[HEADER_LEN:], *parts[1:]])
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                if sum(map(len, parts)) > READ_SIZE:
                    self.gso_max = MAX_PACKET
                return False
            if error.errno == errno.EINVAL and len(parts) > IOV_MAX:
                return self.write([b"".join(parts)], now)
            self.write_errors += 1
        return True

    def next_deadline(self) -> int | None:
        return None

    def close(self) -> None:
        """The interface disappears, unless it was made persistent by someone else."""
        self._file.close()
        self._tun.close()
        self._fd = -1


def _largest_super_segment() -> int:
    """What this kernel takes from us, in bytes."""
    version = tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
    return BIG_PACKET if version >= BIG_TCP_SINCE else MAX_PACKET


def kernel_side(address: str) -> IPInterface:
    """The address that the kernel gets on the network in which `address` is ours."""
    try:
        ours = ipaddress.ip_interface(address)
    except ValueError as error:
        raise UsageError(f"address {address!r}: {error}") from error
    if "/" not in address:
        raise UsageError(f"address {address!r}: the prefix length is missing, as in 10.9.0.2/24")
    network = ours.network
    # hosts() leaves out the network and broadcast addresses where the family has them.
    hosts = network.hosts()
    candidates = [host for host, _ in zip(hosts, range(2), strict=False)]
    if ours.ip == network.network_address and network.num_addresses > 2:
        raise UsageError(f"address {address!r}: this is the address of the network itself")
    if ours.version == 4 and ours.ip == network.broadcast_address and network.num_addresses > 2:
        raise UsageError(f"address {address!r}: this is the broadcast address of the network")
    for candidate in candidates:
        if candidate != ours.ip:
            return ipaddress.ip_interface(f"{candidate}/{network.prefixlen}")
    raise UsageError(f"address {address!r}: the prefix leaves no address for the kernel's side")


class _TunTapDevice(TunTapDevice):  # type: ignore[misc]
    """When TUNSETIFF fails, pytun-pmd3 3.0.3 closes the descriptor and forgets that it did.

    Its finalizer would close the number again, which is someone else's by then.
    """

    def __init__(self, name: str, flags: int) -> None:
        try:
            super().__init__(name, flags)
        except OSError:
            self._fd = -1
            raise


def _open(name: str, flags: int) -> _TunTapDevice:
    if len(name.encode()) >= IFNAMSIZ or "/" in name or any(c.isspace() for c in name):
        raise UsageError(f"interface name {name!r}: at most {IFNAMSIZ - 1} bytes, no space or /")
    try:
        return _TunTapDevice(name, flags)
    except OSError as error:
        reasons = {
            errno.ENOENT: "/dev/net/tun is missing (modprobe tun, or map it into the container)",
            errno.ENODEV: "/dev/net/tun is there, but the kernel has no TUN driver (modprobe tun)",
            errno.EACCES: "no permission to open /dev/net/tun",
            errno.EPERM: "creating a TUN interface needs CAP_NET_ADMIN (root, or unshare -rn)",
            errno.EBUSY: "the interface is in use by another process",
            errno.EINVAL: "the name belongs to an interface of another kind",
        }
        reason = reasons.get(error.errno or 0, error.strerror or str(error))
        raise OSError(error.errno, f"TUN {name!r}: {reason}") from error


def _bring_up(name: str, mtu: int, hosts: Sequence[IPInterface]) -> None:
    try:
        with IPRoute() as route:
            (index,) = route.link_lookup(ifname=name)
            families = {"attrs": [("AF_INET6", _no_link_local())]}
            route.link("set", index=index, IFLA_AF_SPEC=families)
            route.link("set", index=index, mtu=mtu, state="up")
            for host in hosts:
                route.addr(
                    "add",
                    index=index,
                    address=str(host.ip),
                    prefixlen=host.network.prefixlen,
                    IFA_FLAGS=IFA_F_NODAD if host.version == 6 else 0,
                )
            for host in hosts:
                _wait_until_local(route, host)
    except NetlinkError as error:
        reasons = {
            errno.EPERM: "configuring an interface needs CAP_NET_ADMIN (root, or unshare -rn)",
            errno.EEXIST: "the address is already on the interface",
        }
        reason = reasons.get(error.code, error.args[1])
        raise OSError(error.code, f"TUN {name!r}: {reason}") from error


def _wait_until_local(route: IPRoute, host: IPInterface) -> None:
    """Packets to `host` are delivered.

    Linux: an IPv6 address gets its local route from a work queue, some time after netlink said
    that it was added; until then, what we send to it is lost.
    """
    end = time.monotonic() + LOCAL_ROUTE_TIMEOUT_S
    while route.route("get", dst=str(host.ip))[0]["type"] != RTN_LOCAL:
        if time.monotonic() > end:
            raise OSError(errno.ETIMEDOUT, f"the kernel does not take its address {host.ip}")
        time.sleep(LOCAL_ROUTE_POLL_S)


def _no_link_local() -> dict[str, list[tuple[str, int]]]:
    return {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", IN6_ADDR_GEN_MODE_NONE)]}
