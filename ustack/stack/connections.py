"""The Tcbs of a stack: made, counted, and taken out of the tables when they are over."""

from ustack.config import TcpConfig
from ustack.stack.flows import split_key
from ustack.stack.ip import HeaderTemplate, fixed_headers, flow_label
from ustack.stack.services import Services
from ustack.stack.time_waits import TimeWaits
from ustack.tcp.handshake import clamp_receive_mss, initial_sequence_number, timestamp_offset
from ustack.tcp.md5_signature import key_of
from ustack.tcp.memory_pressure import release
from ustack.tcp.state import TIME_WAIT
from ustack.tcp.tcb import Endpoint, Tcb, retire


class Connections:
    """Owns their number, and what the flow table and the timer wheel hold of them."""

    def __init__(self, services: Services, time_waits: TimeWaits) -> None:
        self._config = services.config
        self._secret = services.secret
        self._randrange = services.randrange
        self._addresses = services.addresses
        self._path_mtus = services.path_mtus
        self._table = services.flows.table
        self._wheel = services.wheel
        self._challenge_limit = services.challenge_limit
        self._memory = services.memory
        self._time_waits = time_waits
        self._count = 0

    def full(self) -> bool:
        """There is no room for another connection."""
        return self._count >= self._config.max_connections

    def isn(self, flow: bytes, now: int) -> int:
        """Our initial sequence number for a connection that begins now (RFC 6528)."""
        return initial_sequence_number(flow, self._secret, now)

    def make(self, flow: bytes, config: TcpConfig, isn: int, now: int) -> Tcb:
        """A new Tcb takes `flow`. The caller has checked that there is room."""
        remote, local, remote_port, local_port = split_key(flow)
        headers = fixed_headers(remote)
        tcb = Tcb(
            flow,
            Endpoint(self._addresses.text(local), local_port),
            Endpoint(self._addresses.text(remote), remote_port),
            config,
            self._challenge_limit,
            self._memory,
            isn,
            clamp_receive_mss(config, self._config.mtu, headers),
            headers,
            self._config.gso_max,
            now,
        )
        tcb.path_mtu_payload = self._path_mtus.get(remote, self._config.mtu, now) - headers
        tcb.ts_offset = timestamp_offset(remote + local, self._secret)
        tcb.signature = key_of(config, flow)
        self.rebuild_header(tcb)
        self._table[flow] = tcb
        self._count += 1
        return tcb

    def rebuild_header(self, tcb: Tcb) -> None:
        """Make the header template of `tcb` from its configuration (DSCP, TTL)."""
        remote, local, _, _ = split_key(tcb.flow)
        tcb.header = HeaderTemplate(
            tcb,
            local,
            remote,
            offload=self._config.checksum_offload,
            ident=self._randrange(1 << 16),
            label=flow_label(tcb.flow, self._secret) if len(remote) == 16 else 0,
        )

    def remove(self, tcb: Tcb, now: int) -> None:
        """Take `tcb` out of the tables; in TIME-WAIT a compact record takes its place."""
        self._wheel.cancel(tcb)
        if tcb.fast_open is not None:
            tcb.fast_open.ended_at = now
        release(tcb)
        if self._table.get(tcb.flow) is not tcb:
            return
        self._count -= 1
        if tcb.state is not TIME_WAIT:
            del self._table[tcb.flow]
            return
        self._time_waits.enter(tcb, now)
        retire(tcb)
