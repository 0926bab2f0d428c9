"""What a stack holds at one moment, as plain values: for `ustack ss` and the status page.

Every value survives JSON, so whoever reads it may be another process.
"""

import ipaddress
from dataclasses import asdict
from typing import TypedDict

from ustack.stack.flows import split_key
from ustack.stack.listener import Listener
from ustack.stack.stack import Stack
from ustack.stack.syn_request import SynRequest
from ustack.stack.time_wait import TimeWait
from ustack.tcp.state import LISTEN, SYN_RECEIVED, SYN_SENT, TIME_WAIT, State
from ustack.tcp.tcb import Tcb

Value = str | int | float | bool | None

# Of `TcpInfo`: what a row has in a column of its own
IN_COLUMNS = frozenset({"state", "local", "remote", "receive_queue", "send_queue", "timer"})


class SocketRow(TypedDict):
    """One connection, handshake, listener or TIME-WAIT. Sizes in bytes, times in µs."""

    state: str  # RFC 9293's name
    receive_queue: int  # of a listener: connections waiting to be accepted
    send_queue: int  # of a listener: how many may wait
    local: tuple[str, int]  # "" as the address of a listener: every address
    remote: tuple[str, int]
    timer: tuple[str, int, int] | None  # name, time left, how often it expired in a row
    info: dict[str, Value]  # of STATUS (RFC 9293 §3.10.6)


class Snapshot(TypedDict):
    """A stack: listeners, handshakes, connections and TIME-WAITs in this order; its counters."""

    sockets: list[SocketRow]
    counters: dict[str, int]
    memory: dict[str, int]  # bytes in the buffers of all connections: "used", "limit"


def take_snapshot(stack: Stack, now: int) -> Snapshot:
    """What `stack` holds at `now`."""
    sockets = [_listener(listener) for listener in stack.listeners()]
    sockets += [_half_open(request, now) for request in stack.half_open()]
    sockets += [_connection(stack, tcb, now) for tcb in stack.connections()]
    sockets += [_time_wait(record, now) for record in stack.time_waits()]
    memory = {"used": stack.memory.used, "limit": stack.memory.limit}
    return {"sockets": sockets, "counters": dict(stack.counters), "memory": memory}


def _listener(listener: Listener) -> SocketRow:
    return {
        "state": LISTEN.name,
        "receive_queue": len(listener.queue),
        "send_queue": listener.backlog,
        "local": (listener.address or "", listener.port),
        "remote": ("", 0),
        "timer": None,
        "info": {},
    }


def _connection(stack: Stack, tcb: Tcb, now: int) -> SocketRow:
    status = stack.status(tcb, now)
    timer = None
    if status.timer is not None:
        name, left = status.timer
        expired = status.probes if name == "persist" else status.retransmits
        timer = (name, left, expired)
    info = {name: value for name, value in asdict(status).items() if name not in IN_COLUMNS}
    if tcb.state in (SYN_SENT, SYN_RECEIVED):
        info["rtt"] = None  # nothing has been measured
    return {
        "state": tcb.state.name,
        "receive_queue": status.receive_queue,
        "send_queue": status.send_queue,
        "local": (tcb.local.address, tcb.local.port),
        "remote": (tcb.remote.address, tcb.remote.port),
        "timer": timer,
        "info": info,
    }


def _half_open(request: SynRequest, now: int) -> SocketRow:
    timer = ("rto", max(request.due_at - now, 0), request.timeouts)
    return _without_tcb(SYN_RECEIVED, request.flow, timer)


def _time_wait(record: TimeWait, now: int) -> SocketRow:
    return _without_tcb(TIME_WAIT, record.flow, ("timewait", max(record.due_at - now, 0), 0))


def _without_tcb(state: State, flow: bytes, timer: tuple[str, int, int]) -> SocketRow:
    remote, local, remote_port, local_port = split_key(flow)
    return {
        "state": state.name,
        "receive_queue": 0,
        "send_queue": 0,
        "local": (str(ipaddress.ip_address(local)), local_port),
        "remote": (str(ipaddress.ip_address(remote)), remote_port),
        "timer": timer,
        "info": {},
    }
