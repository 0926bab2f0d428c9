"""What tools of a Linux machine would show of ustack: its counters and its sockets."""

from ipaddress import ip_address

from ustack.drill.pipelines import ListedSocket
from ustack.stack.flows import split_key
from ustack.stack.stack import Stack
from ustack.tcp.state import CLOSE_WAIT, ESTABLISHED
from ustack.tcp.tcb import Tcb

INFINITE_SSTHRESH = 1 << 30  # bytes; beyond, it was never set

# Counters of the stack that mean what one of Linux means (snmp_counter.rst)
_COUNTERS = {
    "syn-cookies-sent": "TcpExtSyncookiesSent",
    "syn-cookies-received": "TcpExtSyncookiesRecv",
    "syn-cookies-failed": "TcpExtSyncookiesFailed",
    "listen-overflow": "TcpExtListenOverflows",
    "fast-open-active": "TcpExtTCPFastOpenActive",
    "fast-open-active-failed": "TcpExtTCPFastOpenActiveFail",
    "fast-open-passive": "TcpExtTCPFastOpenPassive",
    "fast-open-passive-failed": "TcpExtTCPFastOpenPassiveFail",
    "fast-open-overflow": "TcpExtTCPFastOpenListenOverflow",
    "fast-open-cookie-requests": "TcpExtTCPFastOpenCookieReqd",
    "fast-open-blackhole": "TcpExtTCPFastOpenBlackhole",
    "tcp-signature-missing": "TcpExtTCPMD5NotFound",
    "tcp-signature-unexpected": "TcpExtTCPMD5Unexpected",
    "tcp-signature-wrong": "TcpExtTCPMD5Failure",
    "tcp-checksum": "TcpInCsumErrors",
    "udp-no-port": "UdpNoPorts",
    "udp-received": "UdpInDatagrams",
    "udp-sent": "UdpOutDatagrams",
    "udp-checksum": "UdpInCsumErrors",
    "udp-receive-full": "UdpRcvbufErrors",
    "udp-memory": "UdpMemErrors",
    "udp-send-full": "UdpSndbufErrors",
    "echo-requests": "IcmpInEchos",
}


def counters(stack: Stack | None) -> dict[str, int]:
    """By Linux's names; all are 0 where there is no stack yet."""
    found = {name: stack.counters[ours] if stack else 0 for ours, name in _COUNTERS.items()}
    tcbs = stack.connections() if stack else []
    connections = [tcb.counters for tcb in tcbs]
    found["TcpExtTCPChallengeACK"] = sum(each.challenge_acks for each in connections)
    found["TcpExtTCPAckCompressed"] = sum(
        tcb.compression.saved for tcb in tcbs if tcb.compression is not None
    )
    found["TcpExtBeyondWindow"] = sum(each.beyond_window for each in connections)
    found["TcpInSegs"] = sum(each.segments_in for each in connections)
    found["TcpOutSegs"] = sum(each.segments_out for each in connections)
    found["TcpRetransSegs"] = sum(tcb.scoreboard.retransmissions for tcb in tcbs)
    found["TcpCurrEstab"] = sum(tcb.state in (ESTABLISHED, CLOSE_WAIT) for tcb in tcbs)
    found["TcpExtTCPDSACKRecv"] = sum(each.dsacks_received for each in connections)
    return found


def sockets(stack: Stack) -> list[ListedSocket]:
    """Listeners, connections, handshakes and those in TIME-WAIT."""
    listed = [
        ListedSocket("LISTEN", f"{one.address or '*'}:{one.port}", "*:*")
        for one in stack.listeners()
    ]
    listed += [_listed(tcb.state.name, tcb.flow, _details(tcb)) for tcb in stack.connections()]
    listed += [_listed("SYN_RECEIVED", request.flow) for request in stack.half_open()]
    return listed + [_listed("TIME_WAIT", record.flow) for record in stack.time_waits()]


def _details(tcb: Tcb) -> str:
    """What `ss -i` says first of a connection, in its units: ms, segments."""
    snd, rtt, control = tcb.snd, tcb.rtt, tcb.congestion
    words = [tcb.config.congestion]
    words += [word for word, on in (("ts", tcb.ts_on), ("sack", tcb.sack_on)) if on]
    if tcb.wscale_on:
        words.append(f"wscale:{snd.wscale},{tcb.rcv.wscale}")
    words.append(f"rto:{rtt.rto // 1000}")
    if rtt.srtt:
        words.append(f"rtt:{rtt.srtt / 1000:g}/{rtt.rttvar / 1000:g}")
    words += [f"mss:{snd.mss}", f"rcvmss:{tcb.rcv.mss_seen}", f"advmss:{tcb.rcv.mss}"]
    if control is not None:
        words.append(f"cwnd:{tcb.recovery.window(control) // snd.mss}")
        if control.ssthresh < INFINITE_SSTHRESH:
            words.append(f"ssthresh:{control.ssthresh // snd.mss}")
    words.append(f"bytes_acked:{tcb.counters.bytes_acked}")
    words.append(f"bytes_received:{tcb.counters.bytes_received}")
    return " ".join([*words, f"segs_out:{tcb.counters.segments_out}"])


def _listed(state: str, flow: bytes, info: str = "") -> ListedSocket:
    remote, local, remote_port, local_port = split_key(flow)
    return ListedSocket(
        state, f"{ip_address(local)}:{local_port}", f"{ip_address(remote)}:{remote_port}", info
    )
