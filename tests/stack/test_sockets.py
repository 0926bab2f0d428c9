"""POSIX semantics of sockets: errno, blocking, readiness, options."""

import errno
import os
import struct
from contextlib import suppress

import pytest

from tests.stack.sockets_world import CONFIG, MS, SECOND, SERVER, World
from ustack.stack import socket_constants as c
from ustack.stack.readiness import Epoll, poll
from ustack.stack.sockets import Socket

LINGER_ABORT = b"\1\0\0\0\0\0\0\0"
LINGER_SECOND = b"\1\0\0\0\1\0\0\0"
IN = c.POLLIN | c.POLLRDNORM
OUT = c.POLLOUT | c.POLLWRNORM


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def pair(world: World) -> tuple[Socket, Socket]:
    return world.pair()


def raises(number: int) -> "pytest.RaisesExc[OSError]":
    return pytest.RaisesExc(OSError, check=lambda error: error.errno == number)


# Opening


def test_only_tcp_sockets_are_made(world: World) -> None:
    layer = world.client.layer
    for arguments, number in (
        ((1, c.SOCK_STREAM, 0), errno.EAFNOSUPPORT),
        ((c.AF_INET, 2, 0), errno.ESOCKTNOSUPPORT),
        ((c.AF_INET, c.SOCK_STREAM, 17), errno.EPROTONOSUPPORT),
    ):
        with raises(number):
            layer.socket(*arguments)


def test_a_blocking_connect_returns_when_the_connection_is_open(world: World) -> None:
    world.listener()
    client = world.client.socket()
    assert world.call(client.connect(SERVER, 7, world.now)) is None
    with raises(errno.EISCONN):
        world.call(client.connect(SERVER, 7, world.now))


def test_a_nonblocking_connect_is_in_progress_then_already_then_done(world: World) -> None:
    world.listener()
    client = world.client.socket(c.SOCK_STREAM | c.SOCK_NONBLOCK)
    with raises(errno.EINPROGRESS):
        next(client.connect(SERVER, 7, world.now))
    with raises(errno.EALREADY):
        next(client.connect(SERVER, 7, world.now))
    world.settle()
    world.call(client.connect(SERVER, 7, world.now))
    with raises(errno.EISCONN):
        next(client.connect(SERVER, 7, world.now))


def test_a_refused_connect_can_be_tried_again(world: World) -> None:
    client = world.client.socket()
    with raises(errno.ECONNREFUSED):
        world.call(client.connect(SERVER, 7, world.now))
    world.listener()
    world.call(client.connect(SERVER, 7, world.now))


def test_a_connect_gives_up_after_its_time(world: World) -> None:
    world.cut = True
    client = world.client.socket()
    client.options.send_timeout_us = 50 * MS
    call = world.blocks(client.connect(SERVER, 7, world.now))
    world.advance(50 * MS)
    with raises(errno.EINPROGRESS):
        world.resume(call)


def test_addresses_may_be_ipv4_written_as_ipv6(world: World) -> None:
    world.listener()
    client = world.client.layer.socket(c.AF_INET6, c.SOCK_STREAM, 0)
    world.call(client.connect(f"::ffff:{SERVER}", 7, world.now))
    with raises(errno.EINVAL):
        client.bind("nonsense", 1)


def test_bad_addresses_are_refused(world: World) -> None:
    client = world.client.socket()
    with raises(errno.EINVAL):
        next(client.connect("224.0.0.1", 7, world.now))
    client.bind("", 99)
    with raises(errno.EINVAL):
        client.bind("", 98)


def test_accept_blocks_until_a_connection_is_there(world: World) -> None:
    listener = world.listener()
    call = world.blocks(listener.accept(c.SOCK_NONBLOCK, world.now))
    client = world.client.socket()
    world.call(client.connect(SERVER, 7, world.now))
    accepted = world.resume(call)
    assert accepted.nonblocking
    assert accepted.bound == (SERVER, 7)


def test_accept_on_anything_but_a_listener_is_invalid(
    world: World, pair: tuple[Socket, Socket]
) -> None:
    client, _ = pair
    with raises(errno.EINVAL):
        next(client.accept(0, world.now))
    with raises(errno.EINVAL):
        client.listen(1, world.now)


def test_accept_of_a_nonblocking_listener_would_block(world: World) -> None:
    listener = world.listener()
    listener.nonblocking = True
    with raises(errno.EAGAIN):
        next(listener.accept(0, world.now))


def test_listening_twice_changes_nothing_and_a_listener_cannot_connect(world: World) -> None:
    listener = world.listener()
    listener.listen(1, world.now)
    with raises(errno.EISCONN):
        next(listener.connect(SERVER, 8, world.now))
    for call in (listener.input_queue, listener.output_queue, listener.unsent_queue):
        with raises(errno.EINVAL):
            call()


def test_deferred_accept_waits_for_data_or_its_time(world: World) -> None:
    listener = world.listener()
    listener.setsockopt(c.IPPROTO_TCP, c.TCP_DEFER_ACCEPT, 2, world.now)
    listener.nonblocking = True
    talker, silent = world.client.socket(), world.client.socket()
    world.call(talker.connect(SERVER, 7, world.now))
    world.call(silent.connect(SERVER, 7, world.now))
    assert listener.poll(world.now) == 0
    with raises(errno.EAGAIN):
        next(listener.accept(0, world.now))
    world.call(talker.send(b"x", 0, world.now))
    assert listener.poll(world.now) == IN
    accepted = world.call(listener.accept(0, world.now))
    assert world.call(accepted.receive(10, 0, world.now)).data == b"x"
    assert listener.poll(world.now) == 0
    world.advance(3 * SECOND)  # two timeouts of the SYN,ACK
    world.settle()
    assert listener.poll(world.now) == IN
    world.call(listener.accept(0, world.now))


def test_disconnecting_makes_a_socket_new(world: World, pair: tuple[Socket, Socket]) -> None:
    client, peer = pair
    client.disconnect(world.now)
    world.settle()
    with raises(errno.ECONNRESET):
        world.call(peer.receive(1, 0, world.now))
    world.call(client.connect(SERVER, 7, world.now))
    listener = world.listener(8)
    listener.disconnect(world.now)
    with raises(errno.EADDRINUSE):  # it stays bound
        world.listener(8)
    world.call(listener.close(world.now))
    world.listener(8)


# Sending and receiving


def test_a_socket_without_connection_cannot_be_read_or_written(world: World) -> None:
    alone = world.client.socket()
    with raises(errno.ENOTCONN):
        next(alone.receive(1, 0, world.now))
    with raises(errno.EPIPE):
        next(alone.send(b"x", 0, world.now))
    with raises(errno.ENOTCONN):
        alone.shutdown(c.SHUT_WR, world.now)
    with raises(errno.ENOTCONN):
        alone.info(world.now)
    assert alone.poll(world.now) == OUT | c.POLLHUP


def test_a_blocking_write_waits_until_all_is_taken(
    world: World, pair: tuple[Socket, Socket]
) -> None:
    client, peer = pair
    call = world.blocks(client.send(bytes(100_000), 0, world.now))
    got = 0
    result: int | None = None
    while got < 100_000:
        got += world.call(peer.receive(100_000, 0, world.now)).size
        if result is None:
            try:
                call.send(world.now)
            except StopIteration as stop:
                result = stop.value
        world.advance(MS)
    assert result == 100_000


def test_a_nonblocking_write_takes_what_fits_and_then_would_block(
    world: World, pair: tuple[Socket, Socket]
) -> None:
    client, _ = pair
    client.nonblocking = True
    taken = world.call(client.send(bytes(100_000), 0, world.now))
    assert 0 < taken < 100_000
    world.settle()
    while True:
        try:
            world.call(client.send(bytes(100_000), 0, world.now))
        except BlockingIOError:
            break
    assert client.poll(world.now) & c.POLLOUT == 0
    assert client.unsent_queue() > 0
    assert client.output_queue() >= client.unsent_queue()


def test_a_write_with_a_time_limit_returns_what_was_taken(
    world: World, pair: tuple[Socket, Socket]
) -> None:
    client, _ = pair
    client.options.send_timeout_us = 10 * MS
    call = world.blocks(client.send(bytes(100_000), 0, world.now))
    world.advance(10 * MS)
    assert 0 < world.resume(call) < 100_000


def test_a_read_blocks_until_there_is_data_and_dontwait_does_not(
    world: World, pair: tuple[Socket, Socket]
) -> None:
    client, peer = pair
    call = world.blocks(peer.receive(10, 0, world.now))
    with raises(errno.EAGAIN):
        next(peer.receive(10, c.MSG_DONTWAIT, world.now))
    world.call(client.send(b"hello", 0, world.now))
    assert world.resume(call).data == b"hello"


def test_waitall_waits_for_everything_but_the_end_of_the_stream(
    world: World, pair: tuple[Socket, Socket]
) -> None:
    client, peer = pair
    world.call(client.send(b"abc", 0, world.now))
    call = world.blocks(peer.receive(5, c.MSG_WAITALL, world.now))
    world.call(client.send(b"defg", 0, world.now))
    assert world.resume(call).data == b"abcde"
    call = world.blocks(peer.receive(5, c.MSG_WAITALL, world.now))
    client.shutdown(c.SHUT_WR, world.now)
    assert world.resume(call).data == b"fg"


def test_peek_leaves_the_data_and_trunc_drops_it(world: World, pair: tuple[Socket, Socket]) -> None:
    client, peer = pair
    world.call(client.send(b"hello", 0, world.now))
    assert world.call(peer.receive(2, c.MSG_PEEK, world.now)).data == b"he"
    assert world.call(peer.receive(3, c.MSG_PEEK | c.MSG_TRUNC, world.now)).size == 3
    dropped = world.call(peer.receive(2, c.MSG_TRUNC, world.now))
    assert (dropped.data, dropped.size) == (b"", 2)
    assert world.call(peer.receive(10, 0, world.now)).data == b"llo"


def test_the_low_water_mark_holds_readers_back(world: World, pair: tuple[Socket, Socket]) -> None:
    client, peer = pair
    peer.setsockopt(c.SOL_SOCKET, c.SO_RCVLOWAT, 4, world.now)
    world.call(client.send(b"abc", 0, world.now))
    assert peer.poll(world.now) & c.POLLIN == 0
    call = world.blocks(peer.receive(10, 0, world.now))
    world.call(client.send(b"d", 0, world.now))
    assert world.resume(call).data == b"abcd"


def test_there_is_no_error_queue_and_no_out_of_band_reading(
    world: World, pair: tuple[Socket, Socket]
) -> None:
    client, _ = pair
    with raises(errno.EAGAIN):
        next(client.receive(1, c.MSG_ERRQUEUE, world.now))
    with raises(errno.EINVAL):
        next(client.receive(1, c.MSG_OOB, world.now))


def test_urgent_data_is_read_inline_and_polled(world: World, pair: tuple[Socket, Socket]) -> None:
    client, peer = pair
    world.call(client.send(b"abc!", c.MSG_OOB, world.now))
    assert peer.poll(world.now) & c.POLLPRI
    assert world.call(peer.receive(10, 0, world.now)).data == b"abc!"
    assert peer.poll(world.now) & c.POLLPRI == 0


def test_corked_text_waits_for_a_whole_segment_the_uncorking_or_200_ms(
    world: World, pair: tuple[Socket, Socket]
) -> None:
    client, peer = pair
    client.setsockopt(c.IPPROTO_TCP, c.TCP_CORK, 1, world.now)
    assert world.call(client.send(bytes(1000), 0, world.now)) == 1000
    assert (peer.input_queue(), client.output_queue()) == (0, 1000)
    assert world.call(client.send(bytes(1000), 0, world.now)) == 1000
    assert peer.input_queue() == client.getsockopt(c.IPPROTO_TCP, c.TCP_MAXSEG, world.now)
    client.setsockopt(c.IPPROTO_TCP, c.TCP_CORK, 0, world.now)
    world.settle()
    assert peer.input_queue() == 2000
    world.call(client.send(b"x", c.MSG_MORE, world.now))
    world.advance(199 * MS)
    assert peer.input_queue() == 2000
    world.advance(2 * MS)
    assert peer.input_queue() == 2001


# Ends


def test_the_end_of_the_stream_is_read_for_ever(world: World, pair: tuple[Socket, Socket]) -> None:
    client, peer = pair
    world.call(client.send(b"bye", 0, world.now))
    world.call(client.close(world.now))
    assert world.call(peer.receive(10, 0, world.now)).data == b"bye"
    assert world.call(peer.receive(10, 0, world.now)).data == b""
    assert world.call(peer.receive(10, 0, world.now)).data == b""
    assert peer.poll(world.now) == IN | OUT | c.POLLRDHUP


def test_a_reset_is_an_error_once_then_end_of_file_and_broken_pipe(
    world: World, pair: tuple[Socket, Socket]
) -> None:
    client, peer = pair
    client.setsockopt(c.SOL_SOCKET, c.SO_LINGER, LINGER_ABORT, world.now)
    world.call(client.close(world.now))
    assert peer.poll(world.now) == IN | OUT | c.POLLERR | c.POLLHUP | c.POLLRDHUP
    with raises(errno.ECONNRESET):
        world.call(peer.receive(1, 0, world.now))
    assert world.call(peer.receive(1, 0, world.now)).data == b""
    with raises(errno.EPIPE):
        world.call(peer.send(b"x", 0, world.now))
    assert peer.getsockopt(c.SOL_SOCKET, c.SO_ERROR, world.now) == 0


def test_a_reset_before_accept_is_found_after_it(world: World) -> None:
    listener = world.listener()
    client = world.client.socket()
    world.call(client.connect(SERVER, 7, world.now))
    client.setsockopt(c.SOL_SOCKET, c.SO_LINGER, LINGER_ABORT, world.now)
    world.call(client.close(world.now))
    accepted = world.call(listener.accept(0, world.now))
    assert accepted.getsockopt(c.SOL_SOCKET, c.SO_ERROR, world.now) == errno.ECONNRESET


def test_shutdown_of_one_side_leaves_the_other(world: World, pair: tuple[Socket, Socket]) -> None:
    client, peer = pair
    with raises(errno.EINVAL):
        client.shutdown(3, world.now)
    client.shutdown(c.SHUT_WR, world.now)
    with raises(errno.EPIPE):
        next(client.send(b"x", 0, world.now))
    world.call(peer.send(b"still", 0, world.now))
    assert world.call(client.receive(10, 0, world.now)).data == b"still"
    client.shutdown(c.SHUT_RD, world.now)
    assert world.call(client.receive(10, 0, world.now)).data == b""
    assert client.poll(world.now) & c.POLLHUP


def test_shutdown_of_a_listener_or_an_opening_ends_it(world: World) -> None:
    listener = world.listener()
    listener.shutdown(c.SHUT_WR, world.now)
    assert listener.listener is not None
    listener.shutdown(c.SHUT_RD, world.now)
    assert listener.listener is None
    world.cut = True
    client = world.client.socket()
    call = world.blocks(client.connect(SERVER, 7, world.now))
    client.shutdown(c.SHUT_RDWR, world.now)
    with raises(errno.ECONNRESET):
        world.resume(call)


def test_close_lingers_until_the_peer_has_everything_or_the_time_is_over(
    world: World, pair: tuple[Socket, Socket]
) -> None:
    client, _ = pair
    client.setsockopt(c.SOL_SOCKET, c.SO_LINGER, LINGER_SECOND, world.now)
    world.cut = True
    call = world.blocks(client.close(world.now))
    world.advance(SECOND)
    world.resume(call)
    assert client.closed


def test_closing_a_listener_resets_what_nobody_accepted(world: World) -> None:
    listener = world.listener()
    client = world.client.socket()
    world.call(client.connect(SERVER, 7, world.now))
    world.call(listener.close(world.now))
    with raises(errno.ECONNRESET):
        world.call(client.receive(1, 0, world.now))
    world.listener()


# Readiness


def test_poll_waits_for_the_first_of_several_sockets(
    world: World, pair: tuple[Socket, Socket]
) -> None:
    client, peer = pair
    entries = [(peer, c.POLLIN), (None, c.POLLIN)]
    assert world.call(poll(entries, 0, world.now)) == [0, c.POLLNVAL]
    call = world.blocks(poll([(peer, c.POLLIN)], None, world.now))
    world.call(client.send(b"x", 0, world.now))
    assert world.resume(call) == [c.POLLIN]
    call = world.blocks(poll([(client, c.POLLIN)], 10 * MS, world.now))
    world.advance(10 * MS)
    assert world.resume(call) == [0]


def test_epoll_reports_levels_edges_and_single_shots(
    world: World, pair: tuple[Socket, Socket]
) -> None:
    client, peer = pair
    level, edge, once = Epoll(), Epoll(), Epoll()
    level.add(peer, c.POLLIN, "level")
    edge.add(peer, c.POLLIN | c.EPOLLET, "edge")
    once.add(peer, c.POLLIN | c.EPOLLONESHOT, "once")
    world.call(client.send(b"x", 0, world.now))
    for _ in range(2):
        assert world.call(level.wait(1, 0, world.now)) == [(c.POLLIN, "level")]
    assert world.call(edge.wait(1, 0, world.now)) == [(c.POLLIN, "edge")]
    assert world.call(edge.wait(1, 0, world.now)) == []
    assert world.call(once.wait(1, 0, world.now)) == [(c.POLLIN, "once")]
    assert world.call(once.wait(1, 0, world.now)) == []
    world.call(client.send(b"y", 0, world.now))
    assert world.call(edge.wait(1, 0, world.now)) == [(c.POLLIN, "edge")]
    once.modify(peer, c.POLLIN | c.EPOLLONESHOT, "again")
    assert world.call(once.wait(1, 0, world.now)) == [(c.POLLIN, "again")]


def test_epoll_knows_its_sockets_and_forgets_closed_ones(
    world: World, pair: tuple[Socket, Socket]
) -> None:
    client, peer = pair
    epoll = Epoll()
    epoll.add(client, c.POLLOUT, 1)
    epoll.add(peer, c.POLLOUT, 2)
    with raises(errno.EEXIST):
        epoll.add(client, c.POLLOUT, 1)
    assert world.call(epoll.wait(1, 0, world.now)) == [(c.POLLOUT, 1)]
    epoll.delete(client)
    for forgotten in (epoll.delete, lambda socket: epoll.modify(socket, 0, 0)):
        with raises(errno.ENOENT):
            forgotten(client)
    world.call(peer.close(world.now))
    call = world.blocks(epoll.wait(1, 10 * MS, world.now))
    world.advance(10 * MS)
    assert world.resume(call) == []
    with raises(errno.EINVAL):
        next(epoll.wait(0, 0, world.now))


def test_a_low_water_mark_for_unsent_bytes_makes_a_socket_unwritable(
    world: World, pair: tuple[Socket, Socket]
) -> None:
    client, _ = pair
    client.setsockopt(c.IPPROTO_TCP, c.TCP_NOTSENT_LOWAT, 1000, world.now)
    world.cut = True
    world.call(client.send(bytes((CONFIG.send_buffer or 0) // 2), 0, world.now))
    assert client.poll(world.now) & c.POLLOUT
    client.nonblocking = True
    world.call(client.send(bytes(5000), 0, world.now))
    assert client.unsent_queue() == 0 or client.poll(world.now) & c.POLLOUT == 0


# Options


@pytest.mark.parametrize(
    "level, name, value",
    [
        (c.SOL_SOCKET, c.SO_REUSEADDR, 1),
        (c.SOL_SOCKET, c.SO_KEEPALIVE, 1),
        (c.SOL_SOCKET, c.SO_LINGER, LINGER_SECOND),
        (c.IPPROTO_TCP, c.TCP_NODELAY, 0),
        (c.IPPROTO_TCP, c.TCP_MAXSEG, 500),
        (c.IPPROTO_TCP, c.TCP_KEEPIDLE, 7),
        (c.IPPROTO_TCP, c.TCP_KEEPINTVL, 8),
        (c.IPPROTO_TCP, c.TCP_KEEPCNT, 9),
        (c.IPPROTO_TCP, c.TCP_SYNCNT, 3),
        (c.IPPROTO_TCP, c.TCP_LINGER2, 10),
        (c.IPPROTO_TCP, c.TCP_DEFER_ACCEPT, 1),
        (c.IPPROTO_TCP, c.TCP_USER_TIMEOUT, 1500),
        (c.IPPROTO_TCP, c.TCP_NOTSENT_LOWAT, 1000),
        (c.IPPROTO_TCP, c.TCP_CONGESTION, b"reno".ljust(16, b"\0")),
        (c.IPPROTO_IP, c.IP_TTL, 33),
        (c.IPPROTO_IP, c.IP_MTU_DISCOVER, 0),
        (c.IPPROTO_IPV6, c.IPV6_TCLASS, 0x20),
    ],
)
def test_an_option_reads_back_as_it_was_set(
    world: World, level: int, name: int, value: int | bytes
) -> None:
    family = c.AF_INET6 if level == c.IPPROTO_IPV6 else c.AF_INET
    socket = world.client.layer.socket(family, c.SOCK_STREAM, 0)
    socket.setsockopt(level, name, value, world.now)
    assert socket.getsockopt(level, name, world.now) == value


def test_a_listener_without_an_address_is_bound_all_the_same(world: World) -> None:
    """Linux inet_autobind(), from listen()."""
    socket = world.client.socket()
    socket.listen(1, world.now)
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        socket.bind("", 80)


def test_an_ipv4_socket_has_no_options_of_ipv6(world: World) -> None:
    """Linux ip_setsockopt(), ip_getsockopt()."""
    socket = world.client.socket()
    with pytest.raises(OSError, match=os.strerror(errno.ENOPROTOOPT)):
        socket.setsockopt(c.IPPROTO_IPV6, c.IPV6_RECVERR, 1, world.now)
    with pytest.raises(OSError, match=os.strerror(errno.EOPNOTSUPP)):
        socket.getsockopt(c.IPPROTO_IPV6, c.IPV6_RECVERR, world.now)


def test_buffer_sizes_are_doubled_and_have_a_minimum(world: World) -> None:
    socket = world.client.socket()
    assert socket.getsockopt(c.SOL_SOCKET, c.SO_SNDBUF, world.now) == CONFIG.send_buffer
    for name, minimum in ((c.SO_SNDBUF, 4608), (c.SO_RCVBUF, 2304)):
        socket.setsockopt(c.SOL_SOCKET, name, 30_000, world.now)
        assert socket.getsockopt(c.SOL_SOCKET, name, world.now) == 60_000
        socket.setsockopt(c.SOL_SOCKET, name, 1, world.now)
        assert socket.getsockopt(c.SOL_SOCKET, name, world.now) == minimum


def test_what_a_socket_is_can_be_asked(world: World, pair: tuple[Socket, Socket]) -> None:
    client, _ = pair
    now = world.now
    assert client.getsockopt(c.SOL_SOCKET, c.SO_TYPE, now) == c.SOCK_STREAM
    assert client.getsockopt(c.SOL_SOCKET, c.SO_PROTOCOL, now) == c.IPPROTO_TCP
    assert client.getsockopt(c.SOL_SOCKET, c.SO_DOMAIN, now) == c.AF_INET
    assert client.getsockopt(c.SOL_SOCKET, c.SO_ACCEPTCONN, now) == 0
    assert client.getsockopt(c.IPPROTO_TCP, c.TCP_MAXSEG, now) == 1448
    assert client.getsockopt(c.IPPROTO_IP, c.IP_MTU, now) == 1500
    assert client.info(now).snd_mss == 1448
    alone = world.client.socket()
    assert alone.getsockopt(c.IPPROTO_TCP, c.TCP_MAXSEG, now) == 536
    assert (alone.input_queue(), alone.output_queue(), alone.unsent_queue()) == (0, 0, 0)
    with raises(errno.ENOTCONN):
        alone.getsockopt(c.IPPROTO_IP, c.IP_MTU, now)


@pytest.mark.parametrize(
    "level, name, value, number",
    [
        (c.IPPROTO_TCP, c.TCP_KEEPIDLE, 0, errno.EINVAL),
        (c.IPPROTO_TCP, c.TCP_MAXSEG, 10, errno.EINVAL),
        (c.IPPROTO_TCP, c.TCP_RTO_MAX_MS, 10, errno.EINVAL),
        (c.IPPROTO_TCP, c.TCP_REPAIR, 1, errno.EPERM),
        (c.SOL_SOCKET, c.SO_RCVTIMEO, bytes(8), errno.EINVAL),
        (c.SOL_SOCKET, c.SO_RCVTIMEO, struct.pack("=qq", 0, 1_000_000), errno.EDOM),
        (c.IPPROTO_TCP, c.TCP_NODELAY, b"xyz", errno.EINVAL),
        (c.IPPROTO_TCP, c.TCP_CONGESTION, 1, errno.EINVAL),
        (c.IPPROTO_TCP, c.TCP_CONGESTION, b"nonsense", errno.ENOENT),
        (c.SOL_SOCKET, c.SO_LINGER, b"x", errno.EINVAL),
        (c.IPPROTO_IP, c.IP_TTL, 300, errno.EINVAL),
        (c.SOL_SOCKET, 9999, 1, errno.ENOPROTOOPT),
    ],
)
def test_a_bad_option_or_value_is_refused(
    world: World, level: int, name: int, value: int | bytes, number: int
) -> None:
    with raises(number):
        world.client.socket().setsockopt(level, name, value, world.now)


def test_an_unknown_option_cannot_be_read(world: World) -> None:
    with raises(errno.ENOPROTOOPT):
        world.client.socket().getsockopt(c.SOL_SOCKET, 9999, world.now)


def test_a_child_begins_with_the_options_of_its_listener(world: World) -> None:
    listener = world.listener()
    listener.setsockopt(c.SOL_SOCKET, c.SO_LINGER, LINGER_SECOND, world.now)
    listener.setsockopt(c.IPPROTO_TCP, c.TCP_KEEPIDLE, 5, world.now)
    client = world.client.socket()
    world.call(client.connect(SERVER, 7, world.now))
    child = world.call(listener.accept(0, world.now))
    assert child.getsockopt(c.SOL_SOCKET, c.SO_LINGER, world.now) == LINGER_SECOND
    assert child.getsockopt(c.IPPROTO_TCP, c.TCP_KEEPIDLE, world.now) == 5
    child.setsockopt(c.IPPROTO_TCP, c.TCP_KEEPIDLE, 6, world.now)
    assert listener.getsockopt(c.IPPROTO_TCP, c.TCP_KEEPIDLE, world.now) == 5


def test_quick_acks_can_be_switched_off_and_on(world: World, pair: tuple[Socket, Socket]) -> None:
    client, _ = pair
    client.setsockopt(c.IPPROTO_TCP, c.TCP_QUICKACK, 0, world.now)
    assert client.getsockopt(c.IPPROTO_TCP, c.TCP_QUICKACK, world.now) == 0
    client.setsockopt(c.IPPROTO_TCP, c.TCP_QUICKACK, 1, world.now)
    assert client.getsockopt(c.IPPROTO_TCP, c.TCP_QUICKACK, world.now) == 1


@pytest.fixture
def holder(world: World, pair: tuple[Socket, Socket]) -> Socket:
    """The client, whose send buffer is full of text that MSG_MORE holds back."""
    client, _ = pair
    assert client.tcb is not None
    client.tcb.send_buffer.limit = 3
    world.call(client.send(b"held", c.MSG_MORE, world.now))
    return client


def test_text_that_was_held_back_is_not_overtaken_in_a_full_buffer(
    world: World, pair: tuple[Socket, Socket], holder: Socket
) -> None:
    world.call(holder.send(b"next", 0, world.now))
    world.settle()
    assert world.call(pair[1].receive(8, c.MSG_WAITALL, world.now)).data == b"heldnext"


def test_what_is_held_back_leaves_with_the_shutdown_though_the_buffer_is_full(
    world: World, pair: tuple[Socket, Socket], holder: Socket
) -> None:
    holder.shutdown(c.SHUT_WR, world.now)
    world.settle()
    assert world.call(pair[1].receive(100, c.MSG_WAITALL, world.now)).data == b"held"


def test_a_window_opens_again_after_the_receive_buffer_was_made_much_smaller(
    world: World, pair: tuple[Socket, Socket]
) -> None:
    """Also if the new size is less than a segment: half of it is enough (RFC 9293 §3.8.6.2.2)."""
    client, server = pair
    assert server.tcb is not None
    server.setsockopt(c.SOL_SOCKET, c.SO_RCVBUF, 1, world.now)  # 2304 octets, half of them window
    text = bytes(range(250)) * 400  # more than was promised before
    client.nonblocking = server.nonblocking = True
    sent, got = 0, b""
    for _ in range(400):
        with suppress(BlockingIOError):
            sent += world.call(client.send(text[sent:], 0, world.now)) if sent < len(text) else 0
        world.advance(100 * MS)
        with suppress(BlockingIOError):
            got += world.call(server.receive(1 << 20, 0, world.now)).data
    assert got == text
