"""Active OPEN (RFC 9293 §3.10.1): which of our addresses and ports a connection begins from."""

from ustack.config import TcpConfig
from ustack.errors import (
    AddressInUse,
    AddressNotAvailable,
    NetworkUnreachable,
    NoBufferSpace,
    UsageError,
)
from ustack.stack.connections import Connections
from ustack.stack.fast_open import FastOpenClient
from ustack.stack.flows import check_port, flow_key
from ustack.stack.ip import packed_address
from ustack.stack.services import Services
from ustack.stack.time_wait import TimeWait
from ustack.stack.time_waits import TimeWaits
from ustack.tcp import user_calls
from ustack.tcp.fast_open import CLIENT
from ustack.tcp.tcb import Tcb
from ustack.wire import Buffer


class ActiveOpen:
    """Opens the connections that we begin."""

    def __init__(
        self,
        services: Services,
        connections: Connections,
        time_waits: TimeWaits,
        fast_open: FastOpenClient,
    ) -> None:
        self._config = services.config
        self._addresses = services.addresses
        self._flows = services.flows
        self._connections = connections
        self._time_waits = time_waits
        self._fast_open = fast_open

    def open(
        self,
        remote: tuple[str, int],
        local: tuple[str | None, int],
        config: TcpConfig,
        fast_open: Buffer | None,
        now: int,
    ) -> Tcb:
        """A Tcb in SYN-SENT, whose SYN the next flush sends; see Stack.connect."""
        address, port = remote
        local_address, local_port = local
        check_port(port)
        check_port(local_port)
        remote_key = packed_address(address)
        if not self._addresses.is_unicast(remote_key) or port == 0:
            raise UsageError(f"cannot connect to {address} port {port}")
        local_key = self._source(local_address, remote_key)
        if local_key is None:
            raise NetworkUnreachable(address)
        if self._connections.full():
            raise NoBufferSpace("too many connections")
        if not local_port:
            local_port = self._flows.choose_port(
                remote_key, local_key, port, lambda record: self._reusable(record, now)
            )
        flow = flow_key(remote_key, local_key, port, local_port)
        holder = self._flows.table.get(flow)
        if type(holder) is TimeWait and self._reusable(holder, now):
            isn = holder.reincarnation_isn()
            self._time_waits.end(holder)
        elif holder is not None:
            raise AddressInUse(f"{address} port {port} from port {local_port}")
        else:
            isn = self._connections.isn(flow, now)
        tcb = self._connections.make(flow, config, isn, now)
        user_calls.open_active(tcb, now)
        if fast_open is not None and self._config.fast_open & CLIENT:
            self._fast_open.begin(tcb, fast_open, now)
        return tcb

    def _source(self, local_address: str | None, remote: bytes) -> bytes | None:
        """Our address towards `remote`: the one asked for, or any. None: there is no way."""
        if local_address is None:
            return self._addresses.source_for(remote)
        local = packed_address(local_address)
        if not self._addresses.is_own(local) or len(local) != len(remote):
            raise AddressNotAvailable(local_address)
        return local

    def _reusable(self, record: TimeWait, now: int) -> bool:
        return record.reusable(now, self._config.time_wait_reuse_us)

    def may_send_on_syn(self, address: str, local: str, config: TcpConfig, now: int) -> bool:
        """A connection opened now could take text along; see Stack.may_send_on_syn."""
        remote = packed_address(address)
        source = packed_address(local) if local else self._addresses.source_for(remote)
        if source is None or not self._config.fast_open & CLIENT:
            return False
        return self._fast_open.offer(remote, source, config, now).text
