"""What a socket tells of its sends: transmit time stamps and the end of MSG_ZEROCOPY.

Marks are put on the stream when data is queued; what becomes of them arrives here as reports and
goes into the error queue. Linux Documentation/networking: timestamping.rst, msg_zerocopy.rst.
"""

import errno
from collections.abc import Mapping, Sequence
from itertools import accumulate

from ustack.stack import socket_constants as c
from ustack.stack.error_queue import (
    MAX_ID,
    ControlMessage,
    ErrorQueue,
    ExtendedError,
    QueuedError,
    Stamp,
    received_error,
)
from ustack.stack.socket_options import SocketOptions
from ustack.tcp.send_marks import ACKED, QUEUED, RELEASED, SENT, Report, SendMarks
from ustack.tcp.tcb import Tcb
from ustack.tcp.user_calls import TcpInfo, status

MAX_FRAGMENTS = 17  # Linux MAX_SKB_FRAGS: buffers that are sent from where they lie, per segment
STATISTICS_SIZE = 228  # bytes; Linux queues the attributes as if they were the packet
INFINITE_SSTHRESH = 0x7FFF_FFFF  # segments
_KINDS = (
    (c.SOF_TIMESTAMPING_TX_SCHED, QUEUED),
    (c.SOF_TIMESTAMPING_TX_SOFTWARE, SENT),
    (c.SOF_TIMESTAMPING_TX_ACK, ACKED),
)


class Notices:
    """Of one socket."""

    __slots__ = ("_lent", "_options", "first", "queue")

    def __init__(self, options: SocketOptions) -> None:
        self._options = options
        self._lent = 0  # sends with MSG_ZEROCOPY so far
        self.first = 0  # position of octet 0 of SOF_TIMESTAMPING_OPT_ID
        self.queue = ErrorQueue()

    def mark(
        self, tcb: Tcb, sent: int, flags: int, buffers: Sequence[int], stamps: int | None = None
    ) -> None:
        """The last `sent` octets queued on `tcb` were sent with these flags, from `buffers`.

        `stamps`: instead of the SOF_TIMESTAMPING_TX_* bits of the socket.
        """
        marks = tcb.marks
        if marks is None:
            marks = tcb.marks = SendMarks()
        end = tcb.send_buffer.end
        if flags & c.MSG_ZEROCOPY and self._options.zerocopy:
            pieces = [end - sent + upto for upto in accumulate(buffers)]
            full = pieces[MAX_FRAGMENTS - 1 : -1 : MAX_FRAGMENTS]
            for at in full:
                marks.end_record(at)
            if full:
                tcb.send_buffer.push_inside(full)
            marks.lend(end, self._lent)
            self._lent = (self._lent + 1) & MAX_ID
        if flags & c.MSG_EOR:
            marks.end_record(end)
        wanted = self._options.timestamping
        asked = wanted if stamps is None else stamps
        kinds = frozenset(kind for bit, kind in _KINDS if asked & bit)
        if kinds:
            if wanted & c.SOF_TIMESTAMPING_OPT_STATS and marks.describe is None:
                marks.describe = lambda at, left: statistics(
                    status(tcb, at), max(0, left - tcb.snd.max)
                )
            counted = wanted & c.SOF_TIMESTAMPING_OPT_ID
            marks.stamp(end, (end - 1 - self.first) & MAX_ID if counted else 0, kinds)

    def collect(self, marks: SendMarks, ipv6: bool) -> None:
        """The reports of `marks` become entries of the error queue."""
        for report in marks.take():
            if report.kind == RELEASED:
                self.queue.copied(report.key, report.key, ipv6)
            else:
                self.queue.add(self._stamped(report, ipv6))

    def _stamped(self, report: Report, ipv6: bool) -> QueuedError:
        wanted = self._options.timestamping
        control: tuple[ControlMessage, ...] = ()
        if wanted & c.SOF_TIMESTAMPING_SOFTWARE:
            control = (ControlMessage(c.SOL_SOCKET, c.SCM_TIMESTAMPING, Stamp(report.at)),)
        alone = wanted & c.SOF_TIMESTAMPING_OPT_TSONLY
        quoted = 0 if alone else report.quoted
        if report.stats is not None and alone:
            stats = ControlMessage(c.SOL_SOCKET, c.SCM_TIMESTAMPING_OPT_STATS, report.stats)
            control = (*control, stats)
            quoted = STATISTICS_SIZE
        error = ExtendedError(
            errno.ENOMSG, c.SO_EE_ORIGIN_TIMESTAMPING, info=report.kind, data=report.key
        )
        return QueuedError((*control, received_error(error, ipv6)), quoted)


def arrival(options: SocketOptions, tcb: Tcb) -> tuple[ControlMessage, ...]:
    """When text came last, if SO_TIMESTAMPING asks for it (SOF_TIMESTAMPING_RX_SOFTWARE)."""
    asked = c.SOF_TIMESTAMPING_RX_SOFTWARE | c.SOF_TIMESTAMPING_SOFTWARE
    if options.timestamping & asked != asked:
        return ()
    return (ControlMessage(c.SOL_SOCKET, c.SCM_TIMESTAMPING, Stamp(tcb.text_received_at)),)


def statistics(info: TcpInfo, leaving: int) -> Mapping[str, int]:
    """SCM_TIMESTAMPING_OPT_STATS: netlink attributes by name, in Linux's units (segments, µs).

    `leaving`: octets that are on their way, which `info` does not know yet.
    """
    mss = info.snd_mss or 1
    return {
        "TCP_NLA_BUSY": info.busy_time,
        "TCP_NLA_RWND_LIMITED": info.rwnd_limited,
        "TCP_NLA_SNDBUF_LIMITED": info.sndbuf_limited,
        "TCP_NLA_DATA_SEGS_OUT": info.data_segs_out,
        "TCP_NLA_TOTAL_RETRANS": info.total_retrans,
        "TCP_NLA_SND_CWND": info.snd_cwnd // mss,
        "TCP_NLA_REORDERING": info.reordering,
        "TCP_NLA_MIN_RTT": info.min_rtt,
        "TCP_NLA_RECUR_RETRANS": info.retransmits,
        "TCP_NLA_SNDQ_SIZE": info.send_queue,
        "TCP_NLA_SND_SSTHRESH": min(info.snd_ssthresh // mss, INFINITE_SSTHRESH),
        "TCP_NLA_DELIVERED": info.delivered,
        "TCP_NLA_DELIVERED_CE": info.delivered_ce,
        "TCP_NLA_BYTES_SENT": info.bytes_sent + leaving,
        "TCP_NLA_BYTES_RETRANS": info.bytes_retrans,
        "TCP_NLA_DSACK_DUPS": -(-info.dsack_bytes // mss),
        "TCP_NLA_REORD_SEEN": info.reord_seen,
        "TCP_NLA_SRTT": 8 * info.rtt,
        "TCP_NLA_BYTES_NOTSENT": info.notsent - leaving,
    }
