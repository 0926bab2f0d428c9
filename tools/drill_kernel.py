"""The Linux kernel as the thing under test of packetdrill scripts: see tools/drill-kernel.

`KernelHost` runs in a network namespace that holds nothing but a TUN: what the kernel's TCP sends
comes out of it with a time stamp, injected packets go in. System calls are real ones; those that
may block run in a thread. Only the TUN's own addresses are configured, only in the namespace.
"""

import ctypes
import errno
import os
import queue
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, NoReturn

import click

from tools.kernel_messages import CONTROL_SIZE, control_message
from ustack.device.tun import TunDevice
from ustack.drill.constants import CONSTANTS
from ustack.drill.failure import ScriptFailure
from ustack.drill.fragments import Defragmenter
from ustack.drill.host import Message, Snapshot, Task
from ustack.drill.packets import LivePacket, framed
from ustack.drill.parser import COMMAND_LINE, read_script
from ustack.drill.player import Player
from ustack.drill.positions import Position
from ustack.drill.run import find_scripts, plays_in
from ustack.drill.script import Settings
from ustack.drill.settings import IP_VERSIONS, Option
from ustack.drill.snippets import bbr_info, memory_info
from ustack.errors import MalformedFile, MalformedPacket
from ustack.stack.error_queue import ControlMessage
from ustack.stack.socket_base import Call
from ustack.wire.gso import split
from ustack.wire.virtio import HEADER_LEN

TUN = "tun0"  # the name that scripts use
MIN_TOLERANCE_US = 20_000  # this is Python, and the machine may be busy
ASLEEP_US = 1_000  # a call that has not returned after this long is taken to be blocked
READ_BUDGET = 64
DIFFERS = "// Kernel differs:"
INT = 4
LONGEST_S = 900  # a script that takes longer has failed; a-live-peer-is-kept takes eleven minutes
CLONE_NEWNET = 0x4000_0000  # linux/sched.h
MACHINE = "USTACK_MACHINE_NETNS"  # set by tools/in-namespace: what must not be configured

# struct tcp_info of linux/tcp.h, as far as scripts look
_TCP_INFO_BYTES = ("state", "ca_state", "retransmits", "probes", "backoff", "options")
_TCP_INFO_WORDS = """rto ato snd_mss rcv_mss unacked sacked lost retrans fackets last_data_sent
    last_ack_sent last_data_recv last_ack_recv pmtu rcv_ssthresh rtt rttvar snd_ssthresh snd_cwnd
    advmss reordering rcv_rtt rcv_space total_retrans""".split()
_TCP_INFO_REST = (
    ("Q", "pacing_rate max_pacing_rate bytes_acked bytes_received".split()),
    ("I", "segs_out segs_in notsent_bytes min_rtt data_segs_in data_segs_out".split()),
    ("Q", "delivery_rate busy_time rwnd_limited sndbuf_limited".split()),
    ("I", "delivered delivered_ce".split()),
    ("Q", "bytes_sent bytes_retrans".split()),
    ("I", "dsack_dups reord_seen rcv_ooopack snd_wnd rcv_wnd".split()),
)


class KernelHost:
    """A `Host` of ustack.drill. Only to be made inside a namespace of its own."""

    def __init__(self, settings: Settings) -> None:
        _require_namespace()
        self._settings = settings
        # With offload, as scripts are written for it: without, MSG_ZEROCOPY ends at once.
        self._tun = TunDevice(TUN, mtu=settings.device_mtu)
        _configure(settings)
        self.api = KernelApi(self._epoch_us)
        self._started_ns = time.monotonic_ns()
        self._packets: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
        self._defragmenter = Defragmenter()
        self._stopped = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        poller = select.poll()
        poller.register(self._tun.fileno(), select.POLLIN)
        while not self._stopped:
            if not poller.poll(100):
                continue
            now = time.monotonic_ns()
            for frame in self._tun.read(READ_BUDGET, 0):
                for packet in split(frame):
                    self._packets.put((now, packet[HEADER_LEN:]))

    def prepare(self, text: str, position: Position) -> None:
        self.command(text, position)

    def start(self) -> None:
        self._started_ns = time.monotonic_ns()

    def _epoch_us(self) -> int:
        """The wall clock when the test began."""
        return (time.time_ns() - time.monotonic_ns() + self._started_ns) // 1000

    def now(self) -> int:
        return (time.monotonic_ns() - self._started_ns) // 1000

    def sleep_until(self, when_us: int) -> None:
        # The last ms is spent awake: sleeping overshoots.
        while (left := when_us - self.now()) > 0:
            if left > ASLEEP_US:
                time.sleep((left - ASLEEP_US) / 1e6)

    def inject(self, packet: bytes) -> None:
        if not self._tun.write([framed(packet, self._settings)], 0):
            raise OSError(errno.ENOBUFS, "the TUN is full")

    def next_packet(self, until_us: int | None) -> LivePacket | None:
        while True:
            left = None if until_us is None else (until_us - self.now()) / 1e6
            try:
                if left is not None and left <= 0:
                    at, data = self._packets.get_nowait()
                else:
                    at, data = self._packets.get(timeout=left)
            except queue.Empty:
                return None
            try:
                sent = self._defragmenter.feed(data, (at - self._started_ns) // 1000)
            except MalformedPacket:
                continue  # not ours: the kernel's own IPv6 chatter
            if sent is not None:
                return sent

    def begin(self, call: Call[int]) -> Task:
        task = Task(call)
        ended = threading.Event()
        threading.Thread(target=self._run, args=(task, ended), daemon=True).start()
        ended.wait(ASLEEP_US / 1e6)
        return task

    def _run(self, task: Task, ended: threading.Event) -> None:
        try:
            next(task.call)
        except StopIteration as stop:
            task.result = stop.value
        except ScriptFailure as failure:
            task.failure = failure
        except OSError as error:
            task.result, task.errno = -1, error.errno or 0
        except ValueError:  # Python's own check, where the kernel says EINVAL
            task.result, task.errno = -1, errno.EINVAL
        task.finished_us = self.now()
        task.done = True
        ended.set()

    def finish(self, task: Task, until_us: int | None) -> None:
        limit = self.now() + 600_000_000 if until_us is None else until_us
        while not task.done and self.now() < limit:
            time.sleep(ASLEEP_US / 1e7)

    def command(self, text: str, position: Position) -> None:
        folder = Path(position.file).parent
        done = subprocess.run(["/bin/sh", "-c", text], cwd=folder, check=False)
        if done.returncode:
            raise ScriptFailure(position, f"'{text}' ended with exit status {done.returncode}")

    def snapshot(self, fd: int | None) -> Snapshot:
        if fd is None:
            return Snapshot()
        sock = self.api.socket_of(fd)
        memory = sock.getsockopt(CONSTANTS["SOL_SOCKET"], CONSTANTS["SO_MEMINFO"], 36)
        congestion = sock.getsockopt(CONSTANTS["SOL_TCP"], CONSTANTS["TCP_CC_INFO"], 64)
        return Snapshot(_tcp_info(sock) | memory_info(memory) | bbr_info(congestion))

    def notes(self) -> list[str]:
        return []

    def close(self) -> None:
        self._stopped = True
        self._reader.join()
        self._tun.close()


def _require_namespace() -> None:
    here = str(Path("/proc/self/ns/net").readlink())
    if os.environ.get(MACHINE, here) == here:
        raise click.ClickException("not in a namespace of its own: start tools/drill-kernel")


def _configure(settings: Settings) -> None:
    local, remote = settings.local_address, settings.remote_address
    length = 64 if ":" in local else 16
    nodad = ["nodad"] if ":" in local else []
    for command in (
        ["addr", "add", f"{local}/{length}", "dev", TUN, *nodad],
        ["link", "set", TUN, "mtu", str(settings.device_mtu), "up"],
        ["route", "replace", remote, "dev", TUN],
    ):
        subprocess.run(["ip", *command], check=True)


def _tcp_info(sock: socket.socket) -> dict[str, int]:
    raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 512)
    values = dict(zip(_TCP_INFO_BYTES, raw, strict=False))
    values["snd_wscale"], values["rcv_wscale"] = raw[6] & 0xF, raw[6] >> 4
    values["delivery_rate_app_limited"] = raw[7] & 1
    values["fastopen_client_fail"] = raw[7] >> 1 & 3
    words = struct.unpack_from(f"={len(_TCP_INFO_WORDS)}I", raw, 8)
    values |= zip(_TCP_INFO_WORDS, words, strict=True)
    at = 8 + 4 * len(_TCP_INFO_WORDS)
    for letter, names in _TCP_INFO_REST:
        layout = struct.Struct(f"={len(names)}{letter}")
        if at + layout.size > len(raw):
            break
        values |= zip(names, layout.unpack_from(raw, at), strict=True)
        at += layout.size
    return {f"tcpi_{name}": value for name, value in values.items()}


_libc = ctypes.CDLL(None, use_errno=True)


def _now(action: Callable[[], int | None]) -> Call[int]:
    """An action as a call that never waits in between; None is 0."""
    yield from ()
    return action() or 0


class KernelApi:
    """`SocketApi` on real sockets; descriptors are the kernel's."""

    def __init__(self, epoch_us: Callable[[], int]) -> None:
        self._epoch_us = epoch_us
        self._sockets: dict[int, socket.socket] = {}
        self._epolls: dict[int, select.epoll] = {}
        self._epoll_data: dict[tuple[int, int], int] = {}

    def socket_of(self, fd: int) -> socket.socket:
        try:
            return self._sockets[fd]
        except KeyError:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None

    def _install(self, made: socket.socket) -> int:
        made.setblocking(True)  # Python's own idea of time-outs is off, whatever the flags say
        self._sockets[made.fileno()] = made
        return made.fileno()

    def socket(self, domain: int, kind: int, protocol: int) -> Call[int]:
        def act() -> int:
            made = socket.socket(domain, kind & ~CONSTANTS["SOCK_NONBLOCK"], protocol)
            fd = self._install(made)
            if kind & CONSTANTS["SOCK_NONBLOCK"]:
                os.set_blocking(fd, False)
            return fd

        return _now(act)

    def bind(self, fd: int, address: str, port: int) -> Call[int]:
        return _now(lambda: self.socket_of(fd).bind((address, port)))

    def listen(self, fd: int, backlog: int) -> Call[int]:
        return _now(lambda: self.socket_of(fd).listen(backlog))

    def accept(self, fd: int) -> Call[tuple[int, int]]:
        yield from ()
        child, address = self.socket_of(fd).accept()
        return self._install(child), address[1]

    def connect(self, fd: int, address: str, port: int) -> Call[int]:
        return _now(lambda: self.socket_of(fd).connect((address, port)))

    def disconnect(self, fd: int) -> Call[int]:
        def act() -> int:
            unspecified = struct.pack("=H14x", CONSTANTS["AF_UNSPEC"])
            if _libc.connect(fd, unspecified, len(unspecified)) < 0:
                _raise_errno()
            return 0

        return _now(act)

    def send(
        self,
        fd: int,
        sizes: Sequence[int],
        flags: int,
        null: bool,
        control: Sequence[ControlMessage] = (),
    ) -> Call[int]:
        ancillary = [
            (each.level, each.kind, struct.pack("=i", each.data))
            for each in control
            if isinstance(each.data, int)
        ]

        def act() -> int:
            if null:
                result = int(_libc.send(fd, None, sum(sizes), flags))
                return result if result >= 0 else _raise_errno()
            # The player gets EPIPE, not a signal.
            quiet = flags | CONSTANTS["MSG_NOSIGNAL"]
            return self.socket_of(fd).sendmsg([bytes(size) for size in sizes], ancillary, quiet)

        return _now(act)

    def send_to(
        self, fd: int, address: str, port: int, sizes: Sequence[int], flags: int
    ) -> Call[int]:
        def act() -> int:
            buffers = [bytes(size) for size in sizes]
            quiet = flags | CONSTANTS["MSG_NOSIGNAL"]
            if address:
                return self.socket_of(fd).sendmsg(buffers, [], quiet, (address, port))
            unspecified, joined = struct.pack("=H14x", CONSTANTS["AF_UNSPEC"]), b"".join(buffers)
            size = len(unspecified)
            result = int(_libc.sendto(fd, joined, len(joined), quiet, unspecified, size))
            return result if result >= 0 else _raise_errno()

        return _now(act)

    def local_port(self, fd: int) -> Call[int]:
        return _now(lambda: int(self.socket_of(fd).getsockname()[1]))

    def receive(self, fd: int, size: int, flags: int, null: bool) -> Call[Message]:
        yield from ()
        sock = self.socket_of(fd)
        whole = flags & CONSTANTS["MSG_TRUNC"] and sock.type == socket.SOCK_DGRAM
        if null or whole:  # recv(2) gives the size of the whole datagram, Python what it copied
            buffer = None if null else ctypes.create_string_buffer(max(size, 1))
            result = int(_libc.recv(fd, buffer, size, flags))
            return Message(result if result >= 0 else _raise_errno())
        data, control, out_flags, _ = sock.recvmsg(size, CONTROL_SIZE, flags)
        epoch_us = self._epoch_us()
        messages = tuple(control_message(*each, epoch_us) for each in control)
        return Message(len(data), out_flags, messages)

    def shutdown(self, fd: int, how: int) -> Call[int]:
        return _now(lambda: self.socket_of(fd).shutdown(how))

    def close(self, fd: int) -> Call[int]:
        def act() -> int:
            if fd in self._epolls:
                self._epolls.pop(fd).close()
            elif fd in self._sockets:
                self._sockets.pop(fd).close()
            else:
                os.close(fd)
            return 0

        return _now(act)

    def getsockopt(self, fd: int, level: int, name: int, size: int) -> Call[int | bytes]:
        yield from ()
        raw = self.socket_of(fd).getsockopt(level, name, size)
        return int.from_bytes(raw, sys.byteorder, signed=True) if len(raw) == INT else raw

    def setsockopt(self, fd: int, level: int, name: int, value: bytes) -> Call[int]:
        return _now(lambda: self.socket_of(fd).setsockopt(level, name, value))

    def fcntl(self, fd: int, command: int, argument: int) -> Call[int]:
        def act() -> int:
            result = int(_libc.fcntl(fd, command, argument))
            return result if result >= 0 else _raise_errno()

        return _now(act)

    def ioctl(self, fd: int, request: int, argument: int) -> Call[int]:
        def act() -> int:
            buffer = ctypes.c_int(argument)
            if _libc.ioctl(fd, request, ctypes.byref(buffer)) < 0:
                _raise_errno()
            return int(buffer.value)

        return _now(act)

    def pipe(self) -> Call[tuple[int, int]]:
        yield from ()
        return os.pipe()

    def splice(self, source: int, target: int, size: int, flags: int) -> Call[int]:
        return _now(lambda: os.splice(source, target, size, flags=flags))

    def open(self, path: str, flags: int) -> Call[int]:
        return _now(lambda: os.open(path, flags))

    def sendfile(self, target: int, source: int, offset: int | None, size: int) -> Call[int]:
        return _now(lambda: os.sendfile(target, source, offset, size))

    def poll(self, entries: Sequence[tuple[int, int]], timeout_ms: int) -> Call[list[int]]:
        yield from ()
        poller = select.poll()
        for fd, events in entries:
            if fd >= 0:  # others are ignored
                poller.register(fd, events)
        found = dict(poller.poll(timeout_ms))
        return [found.get(fd, 0) for fd, _ in entries]

    def epoll_create(self, size: int) -> Call[int]:
        def act() -> int:
            made = select.epoll(size)
            self._epolls[made.fileno()] = made
            return made.fileno()

        return _now(act)

    def epoll_ctl(self, epfd: int, op: int, fd: int, events: int, data: int) -> Call[int]:
        def act() -> int:
            epoll = self._epolls[epfd]
            self._epoll_data[epfd, fd] = data
            if op == CONSTANTS["EPOLL_CTL_ADD"]:
                epoll.register(fd, events)
            elif op == CONSTANTS["EPOLL_CTL_MOD"]:
                epoll.modify(fd, events)
            else:
                epoll.unregister(fd)
            return 0

        return _now(act)

    def epoll_wait(self, epfd: int, most: int, timeout_ms: int) -> Call[list[tuple[int, int]]]:
        yield from ()
        timeout = None if timeout_ms < 0 else timeout_ms / 1000
        found = self._epolls[epfd].poll(timeout, most)
        return [(events, self._epoll_data[epfd, fd]) for fd, events in found]


def _raise_errno() -> NoReturn:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))


# One script, inside a namespace


def play(path: Path, options: Sequence[Option]) -> bool:
    """Plays one script here and prints how it went."""
    version = next((option.value for option in options if option.name == "ip_version"), None)
    label = f"{path} [{version}]" if version else str(path)
    try:
        script = read_script(path, options)
    except MalformedFile as error:
        print(f"FAIL {error}")
        return False
    tolerance = max(script.settings.tolerance_us, MIN_TOLERANCE_US)
    script = replace(script, settings=replace(script.settings, tolerance_us=tolerance))
    report = Player(script, KernelHost(script.settings)).play()
    print(f"{'PASS' if report.passed else 'FAIL'} {label}")
    for line in [] if report.passed else report.lines:
        print(f"  {line}")
    return report.passed


# All scripts, each in a namespace of its own


@dataclass(frozen=True, slots=True)
class Turn:
    """A script to be played with one `ip_version`; None: the one it says itself."""

    path: Path
    version: str | None


def _differs(path: Path) -> bool:
    """The script says that Linux does something else, and why: not for the kernel."""
    return any(line.startswith(DIFFERS) for line in path.read_text().splitlines())


def _begin(turn: Turn, output: IO[bytes]) -> int:
    """Starts a process that plays the script. Returns its id; exit status 0: passed."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 2
    try:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        signal.alarm(LONGEST_S)
        _enter_namespace()
        version = turn.version
        options = [Option(COMMAND_LINE, "ip_version", version)] if version else []
        status = 0 if play(turn.path, options) else 1
    except BaseException:  # noqa: BLE001 (told in the output; nothing may leave this process)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)  # a call that still blocks must not keep us


def _enter_namespace() -> None:
    if _libc.unshare(CLONE_NEWNET) < 0:
        _raise_errno()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def play_all(turns: Sequence[Turn], side_by_side: int) -> Iterator[tuple[Turn, bool, str]]:
    """Plays scripts, so many at once: each with whether it passed and what it printed."""
    waiting = deque(turns)
    playing: dict[int, tuple[Turn, IO[bytes]]] = {}
    while waiting or playing:
        while waiting and len(playing) < side_by_side:
            turn = waiting.popleft()
            output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed when played)
            playing[_begin(turn, output)] = turn, output
        child, status = os.wait()
        turn, output = playing.pop(child)
        with output:
            output.seek(0)
            yield turn, status == 0, output.read().decode(errors="replace")


def play_with_patience(
    turns: Sequence[Turn], side_by_side: int, tries: int
) -> Iterator[tuple[bool, str]]:
    """Plays scripts; those that fail are played again at the end, with nothing beside them."""
    for left in reversed(range(tries)):
        again = []
        for turn, passed, output in play_all(turns, side_by_side):
            if passed or not left:
                yield passed, output
            else:
                again.append(turn)
        turns, side_by_side = again, 1


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--ip_version", "versions", multiple=True, type=click.Choice([*IP_VERSIONS, "all"]))
@click.option("-j", "side_by_side", default=4, show_default=True, help="Scripts played at once.")
@click.option("--tries", default=3, show_default=True, help="A busy machine is given this many.")
@click.option("--all", "everything", is_flag=True, help=f"Also scripts with '{DIFFERS}'.")
def main(
    paths: tuple[Path, ...],
    versions: tuple[str, ...],
    side_by_side: int,
    tries: int,
    everything: bool,
) -> None:
    """Plays packetdrill scripts (files, or all *.pkt below folders) on the Linux kernel.

    Scripts that say "// Kernel differs:" and why are left out. They mostly wait, so several are
    played side by side; one that fails is played again at the end, alone.
    """
    if MACHINE not in os.environ:
        enter = str(Path(__file__).with_name("in-namespace"))
        os.execv(enter, [enter, sys.executable, "-m", "tools.drill_kernel", *sys.argv[1:]])
    chosen: list[str | None] = [*(IP_VERSIONS if "all" in versions else versions)] or [None]
    scripts = find_scripts(paths)
    same = scripts if everything else [path for path in scripts if not _differs(path)]
    turns = [Turn(path, version) for version in chosen for path in same if plays_in(path, version)]
    failed = 0
    for passed, output in play_with_patience(turns, side_by_side, tries):
        failed += not passed
        print(output, end="", flush=True)
    left_out = f", {len(scripts) - len(same)} left out" if len(scripts) > len(same) else ""
    print(f"{len(turns) - failed} passed, {failed} failed{left_out}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
