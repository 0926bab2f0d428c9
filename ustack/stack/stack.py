"""Stack: many connections on one host. Frames and time come in, frames and events go out.

The runtime's whole contract: `input` for each frame, `handle_timeouts` when a deadline has come,
then always `flush`, `take_events`, `next_deadline`, in that order (architecture, rule 5).
"""

from collections.abc import Callable, Sequence
from struct import Struct

from ustack.config import StackConfig, TcpConfig
from ustack.errors import AddressNotAvailable, MalformedPacket, UsageError
from ustack.stack.active_open import ActiveOpen
from ustack.stack.arrivals import Arrivals
from ustack.stack.connections import Connections
from ustack.stack.fast_open import FastOpenClient
from ustack.stack.flows import Flow, check_port, flow_key, split_key
from ustack.stack.ip import Write, packed_address
from ustack.stack.ip_input import START, IpInput
from ustack.stack.listener import Listener
from ustack.stack.probe import Probe
from ustack.stack.pure_acks import V4_SIZE, V6_SIZE, superseded
from ustack.stack.reassembly import Datagram
from ustack.stack.resets import Resets
from ustack.stack.segments import read_options, verify_checksum
from ustack.stack.services import Services
from ustack.stack.syn_queue import SynQueue
from ustack.stack.syn_request import SynRequest
from ustack.stack.time_wait import TimeWait
from ustack.stack.time_waits import TimeWaits
from ustack.stack.trace import Tracer
from ustack.stack.trains import MIN_FRAME, train
from ustack.stack.udp import Udp, UdpPort
from ustack.tcp import ack_policy, memory_pressure, user_calls
from ustack.tcp.congestion import REGISTRY
from ustack.tcp.handshake import NOP_NOP_TS, timestamps
from ustack.tcp.memory_pressure import QUANTUM
from ustack.tcp.receive_buffer import COPY_BELOW
from ustack.tcp.segment import Segment
from ustack.tcp.segment_arrives import PREDICTABLE, continued, predicted, segment_arrives
from ustack.tcp.seq import unwrap
from ustack.tcp.state import CLOSED, TIME_WAIT
from ustack.tcp.tcb import ACCEPTABLE, CONNECTED, NEVER, READABLE, Tcb
from ustack.tcp.timeouts import deadline, timeout
from ustack.tcp.transmit import transmit
from ustack.tcp.user_calls import TcpInfo
from ustack.wire import Buffer
from ustack.wire import tcp as wire_tcp
from ustack.wire.ecn import ecn_field
from ustack.wire.ipv4 import TCP
from ustack.wire.tcp import FIN, SYN
from ustack.wire.virtio import CHECKSUM_KNOWN

PURE_ACK_SIZES = (V4_SIZE, V6_SIZE)
FLUSH_BUDGET = 4  # turns of connections in one flush; then input has its turn

# virtio_net_hdr, IPv4 without options or IPv6, then TCP: total or payload length, (v4: fragment,)
# SEQ, ACK, offset and flags, window, urgent pointer
_V4_TCP = Struct("!12xH2xH16xIIHH2xH")
_V6_TCP = Struct("!14xH38xIIHH2xH")
_TIMESTAMP = Struct("!III")


class Stack:
    """One host. Owned by one thread; two stacks in one process do not notice each other."""

    def __init__(
        self,
        config: StackConfig,
        *,
        secret: bytes,
        randrange: Callable[[int], int],
        probe: Probe | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """`secret`: at least 16 random bytes for ISNs, ports and timestamp offsets.

        `randrange(n)`: a random number below n. `probe` is told of every packet, `tracer` of what
        happens to each connection.
        """
        if len(secret) < 16:
            raise UsageError("the secret must have 16 bytes or more")
        self.config = config
        self._usable(config.tcp)
        services = Services(config, secret, randrange, probe, tracer)
        self.counters = services.counters
        self.memory = services.memory
        self.addresses = services.addresses
        self.path_mtus = services.path_mtus
        self._probe = probe
        self._tracer = tracer
        self._watched = probe is not None or tracer is not None
        self._flows = services.flows
        self._table = self._flows.table
        self._wheel = services.wheel
        self._output = services.output
        self._dirty: list[Tcb] = []
        self._eventful: dict[Tcb | Listener | UdpPort, None] = {}
        self.acks_held = False  # the last flush left ACKs for the next one
        self.replied = False  # a flush sent what belongs to no Tcb, a SYN,ACK for example
        self._leader: Tcb | None = None  # its segment has just come as predicted
        self.udp = Udp(services, self._tell)
        self._ip_input = IpInput(services, self._deliver_tcp, self.udp, self._mark)
        self._syn_queue = SynQueue(services)
        self._time_waits = TimeWaits(services)
        self._connections = Connections(services, self._time_waits)
        self._remove = self._connections.remove
        self.fast_open_client = FastOpenClient(services)
        self._active_open = ActiveOpen(
            services, self._connections, self._time_waits, self.fast_open_client
        )
        resets = Resets(services)
        self._refuse = resets.refuse
        self._send_reset = resets.send
        arrivals = Arrivals(
            services,
            self._connections,
            self._syn_queue,
            self._time_waits,
            resets,
            arrives=self._arrives,
            waits=self._waits_for_accept,
        )
        self._arrives_without_tcb = arrivals.at_record
        self._arrives_at_listener = arrivals.at_listener
        self._checked = arrivals.checked

    # ------------------------------------------------------------------ lower edge

    def input(self, frame: bytes, now: int) -> None:  # hot
        """Digest one frame: a virtio_net_hdr and an IP packet. Never raises; drops are counted."""
        try:
            self._input(frame, now)
        except MalformedPacket as error:
            self.counters[error.reason] += 1
            if self._probe is not None:
                self._probe.received(frame, f"dropped: {error.reason}", now)

    def input_batch(self, frames: Sequence[bytes], now: int) -> None:  # hot
        """Digest frames that the device had at once; as `input` for each, but for pure ACKs that
        the next frame supersedes. Never raises."""
        if len(frames) == 1:  # a dialogue
            self.input(frames[0], now)
            return
        count, index = len(frames), 0
        while index < count:
            frame = frames[index]
            index += 1
            if index < count and len(frame) in PURE_ACK_SIZES:
                if superseded(frame, frames[index]):
                    self.counters["acks-superseded"] += 1
                    if self._probe is not None:
                        self._probe.received(frame, "superseded by the next ACK", now)
                    continue
            self._leader = None
            self.input(frame, now)
            if self._leader is not None and len(frame) >= MIN_FRAME and not self._watched:
                index += self._take_train(self._leader, frames, index, now)

    def _take_train(self, tcb: Tcb, frames: Sequence[bytes], index: int, now: int) -> int:  # hot
        """Digest the frames from `index` on that follow what `tcb` has just taken without a gap.

        Returns how many they were.
        """
        texts = train(frames, index)
        return len(texts) if texts and continued(tcb, texts, now) else 0

    def _input(self, frame: bytes, now: int) -> None:  # hot
        """The common case, TCP behind a plain IPv4 or IPv6 header, straight to its connection."""
        size = len(frame) - START
        version = frame[START] if size > 0 else 0
        if version == 0x45 and size >= 40 and frame[19] == TCP:
            total, fragment, raw_seq, raw_ack, offset_flags, window, urgent = _V4_TCP.unpack_from(
                frame
            )
            if fragment & 0x3FFF or not 40 <= total <= size:
                return self._ip_input.input(frame, now)
            if int.from_bytes(frame[START:30], "big") % 65535:
                raise MalformedPacket("ipv4-checksum")
            at, key = 30, frame[22:34]
        elif version >> 4 == 6 and size >= 60 and frame[16] == TCP:
            total, raw_seq, raw_ack, offset_flags, window, urgent = _V6_TCP.unpack_from(frame)
            total += 40
            if total > size or total < 60:
                return self._ip_input.input(frame, now)
            at, key = 50, frame[18:54]
        else:
            return self._ip_input.input(frame, now)
        found = self._table.get(key)
        if found is None:
            self._ip_input.check_addresses(*split_key(key)[:2])
        end = START + total
        header = (offset_flags >> 12) * 4
        text = at + header
        if text > end or header < 20:
            raise MalformedPacket("tcp-data-offset")
        if not frame[0] & CHECKSUM_KNOWN:
            verify_checksum(frame, at, end, key)
        flags = offset_flags & 0x1FF
        tsval: int | None = None
        tsecr = 0
        plain = header == 20
        if header == 32:
            layout, tsval, tsecr = _TIMESTAMP.unpack_from(frame, at + 20)
            if layout == NOP_NOP_TS:
                plain = True
            else:
                tsval, tsecr = None, 0
        if type(found) is Tcb and plain and flags in PREDICTABLE and not self.memory.full:
            # a view of a small piece costs more than a copy
            payload: Buffer = (
                frame[text:end] if end - text < COPY_BELOW else memoryview(frame)[text:end]
            )
            if predicted(found, raw_seq, raw_ack, window, tsval, tsecr, flags, payload, now):
                self._leader = found
                if self._watched:
                    self._show_predicted(found, frame, flags, len(payload), window, now)
                self._arrived(found, now)
                return None
        seg = Segment()
        seg.frame = frame
        seg.flags = flags
        seg.wnd = window
        seg.urgent = urgent
        seg.payload = memoryview(frame)[text:end]
        seg.len = end - text
        if flags & (SYN | FIN):
            seg.len += (flags & SYN) // SYN + (flags & FIN)
        seg.tsval = tsval
        seg.tsecr = tsecr
        seg.sack = ()
        seg.options = None
        if type(found) is not Tcb:
            seg.seq, seg.ack, seg.ecn = raw_seq, raw_ack, ecn_field(frame, START)
            self._arrives_at_no_tcb(key, found, seg, frame, (at + 20, text), now)
            return None
        if found.ecn is not None:
            seg.ecn = ecn_field(frame, START)
        rcv_nxt = found.rcv.nxt
        seg.seq = unwrap(raw_seq, rcv_nxt) if rcv_nxt else raw_seq
        seg.ack = unwrap(raw_ack, found.snd.una)
        if not plain or flags & SYN or found.signature is not None:
            read_options(seg, frame, at + 20, text, found)
        self._arrives(found, seg, now)
        return None

    def _show_predicted(
        self, tcb: Tcb, frame: bytes, flags: int, size: int, window: int, now: int
    ) -> None:
        """The segment in `frame` was as predicted, with `size` bytes of text; maybe it was a FIN,
        of which `tcb.note` tells."""
        note, tcb.note = tcb.note, ""
        if self._probe is not None:
            self._probe.received(frame, note, now)
        if self._tracer is not None:
            length = size + (flags & FIN)
            nxt, una = tcb.rcv.nxt, tcb.snd.una
            self._tracer.received(tcb, flags, nxt - length, una, length, window, (), now)

    def _arrives(self, tcb: Tcb, seg: Segment, now: int) -> None:  # hot
        """SEGMENT ARRIVES for a connection, and what the stack has to do about the outcome."""
        if tcb.state is CLOSED:  # ended by an earlier frame of this batch, not yet taken out
            if self._probe is not None:
                self._probe.received(seg.frame, "", now)
            self._refuse(tcb.flow, seg, False, now)
            return
        unsent_note = tcb.note
        tcb.note = ""
        reset = segment_arrives(tcb, seg, now)
        if self._probe is not None:
            self._probe.received(seg.frame, tcb.note, now)
        if self._tracer is not None:
            self._tracer.received(tcb, seg.flags, seg.seq, seg.ack, seg.len, seg.wnd, seg.sack, now)
        tcb.note = unsent_note
        if reset is not None:
            options = timestamps(tcb, now)
            self._send_reset(tcb.flow, reset.seq, reset.ack, now, options, key=tcb.signature)
        if tcb.listener is not None:
            self._child_moved(tcb)
        if tcb.fast_open is not None and seg.options is not None and not tcb.passive:
            self.fast_open_client.learn(tcb, seg, now)
        self._arrived(tcb, now)

    def _arrived(self, tcb: Tcb, now: int) -> None:  # hot
        """A segment has been digested: what it caused is noted for flush and take_events."""
        if tcb.flush_now and not tcb.closed:
            self._output.now = now
            transmit(tcb, now, self._output.emit)
        if tcb.events:
            self._eventful[tcb] = None
        if not tcb.dirty:
            tcb.dirty = True
            self._dirty.append(tcb)

    def _child_moved(self, tcb: Tcb) -> None:
        """A child whose handshake is complete waits for accept from now on."""
        if not tcb.events & CONNECTED:
            return
        listener = tcb.listener
        assert type(listener) is Listener
        tcb.events &= ~CONNECTED
        self._waits_for_accept(tcb, listener)

    def _waits_for_accept(self, tcb: Tcb, listener: Listener) -> None:
        listener.queue.append(tcb)
        listener.events |= ACCEPTABLE
        self._eventful[listener] = None
        self._mark(tcb)

    # ------------------------------------------------------------------ TCP out of the ordinary

    def _deliver_tcp(
        self, frame: bytes, src: bytes, dst: bytes, start: int, end: int, arrived: bytes, now: int
    ) -> None:
        """TCP that is not in the common layout, or that belongs to no connection.

        frame[start:end] is the segment; `arrived` is the frame that brought it, or its last piece.
        """
        header = wire_tcp.decode(frame, start, end)
        flow = flow_key(src, dst, header.src_port, header.dst_port)
        if not frame[0] & CHECKSUM_KNOWN:
            verify_checksum(frame, start, end, flow)
        seg = Segment()
        seg.frame = arrived
        seg.ecn = ecn_field(frame, START)
        seg.flags = header.flags
        seg.wnd = header.window
        seg.urgent = header.urgent
        text = start + header.data_offset
        seg.payload = memoryview(frame)[text:end]
        seg.len = end - text + bool(header.flags & SYN) + bool(header.flags & FIN)
        seg.tsval, seg.tsecr, seg.sack, seg.options = None, 0, (), None
        seg.seq, seg.ack = header.seq, header.ack
        found = self._table.get(flow)
        if type(found) is Tcb:
            if found.rcv.nxt:
                seg.seq = unwrap(header.seq, found.rcv.nxt)
            seg.ack = unwrap(header.ack, found.snd.una)
            read_options(seg, frame, start + 20, text, found)
            self._arrives(found, seg, now)
            return
        self._arrives_at_no_tcb(flow, found, seg, frame, (start + 20, text), now)

    def _arrives_at_no_tcb(
        self,
        flow: bytes,
        found: Flow | None,
        seg: Segment,
        frame: bytes,
        options: tuple[int, int],
        now: int,
    ) -> None:
        """`seg`, with raw numbers, is for a record that was `found`, a listener, or nobody.
        frame[slice(*options)]: its options."""
        checked = self._checked(flow, found, seg.flags)
        # else timestamps are all there is
        if seg.tsval is None or seg.flags & SYN or (checked is not None and checked.key):
            read_options(seg, frame, *options, None, checked)
        if found is not None:
            self._arrives_without_tcb(found, seg, now)  # type: ignore[arg-type]
        else:
            self._arrives_at_listener(flow, seg, now, None)

    # ------------------------------------------------------------------ time, output, events

    def handle_timeouts(self, now: int) -> None:
        """Do what has become due. Call when `next_deadline` has passed; early calls do nothing."""
        for entry in self._wheel.expired(now):
            if type(entry) is Tcb:
                if entry.closed:
                    continue
                if deadline(entry) <= now:
                    if self._tracer is not None:
                        self._tracer.timers_expire(entry, now)
                    timeout(entry, now)
                    if entry.fast_open is not None and not entry.passive:
                        self.fast_open_client.timed_out(entry, now)
                    self._mark(entry)
                at = deadline(entry)
                if at != NEVER and not entry.closed:
                    # At once, and not after the next flush: a full device must not stop the clocks
                    self._wheel.insert(entry, at, now)
            elif type(entry) is SynRequest:
                self._syn_queue.timeout(entry, now)
            elif type(entry) is TimeWait:
                self._time_waits.end(entry)
            elif type(entry) is Datagram:
                self._ip_input.timed_out(entry, now)

    def flush(self, now: int, write: Write, *, again: bool = False) -> bool:  # hot
        """Send what is owed and what the windows allow, each connection in its turn.

        `again`: another flush follows when the users have had the chance to answer what
        `take_events` tells them, so ACKs that can ride on their answers wait (`acks_held`).

        `write(parts, now)` takes one frame and returns False when the device is full. Returns
        False in that case: call again when it is writable. With much to send, flush stops after a
        while to let input in; `next_deadline` then says "now".
        """
        output, dirty = self._output, self._dirty
        if not (dirty or output.queue):
            self.acks_held = False
            return True
        alone = dirty[0] if len(dirty) == 1 else None  # a dialogue
        if output.queue:
            self.replied = True
        elif again and alone is not None and alone.events & READABLE:
            if ack_policy.only_acks(alone):
                self.acks_held = True
                return True
        if not output.begin(write, now):
            output.end()
            return False
        budget = FLUSH_BUDGET
        if alone is not None:
            if self._flush_lone(alone, now, again):
                return not output.full
            budget -= 1
        emit, full = output.emit, output.full
        held: list[Tcb] = []
        while self._dirty and not full and budget > 0:
            batch, self._dirty = self._dirty, []
            for index, tcb in enumerate(batch):
                if budget <= 0 or full:
                    self._dirty = batch[index:] + self._dirty
                    break
                if again and tcb.events & READABLE and ack_policy.only_acks(tcb):
                    held.append(tcb)
                elif transmit(tcb, now, emit, again):
                    if again and tcb.ack_soon:
                        held.append(tcb)
                    else:
                        tcb.dirty = False
                    self._settle(tcb, now)
                else:
                    budget -= 1
                    self._dirty.append(tcb)
                    full = output.full
        output.end()
        if self._tracer is not None:
            self._tracer.settle()
        self._dirty += held
        self.acks_held = bool(held)
        return not output.full

    def _flush_lone(self, tcb: Tcb, now: int, again: bool) -> bool:  # hot
        """The turn of the one connection that is dirty, and the end of the flush if that is all
        there is to do. False: it has more to send."""
        output = self._output
        if not transmit(tcb, now, output.emit, again):
            return False
        if again and tcb.ack_soon:
            self.acks_held = True
        else:
            self.acks_held = tcb.dirty = False
            self._dirty.clear()
        self._settle(tcb, now)
        output.end()
        if self._tracer is not None:
            self._tracer.settle()
        return True

    def _settle(self, tcb: Tcb, now: int) -> None:  # hot
        """After its transmit: file the deadline, or take a connection that is over out."""
        if tcb.closed or tcb.state is TIME_WAIT:
            self._remove(tcb, now)
        else:
            at = deadline(tcb)
            if at < tcb.due_at or (tcb.slot is None and at != NEVER):
                self._wheel.insert(tcb, at, now)
            waiting = tcb.receive_buffer.readable + tcb.send_buffer.end - tcb.snd.una
            if waiting > QUANTUM or tcb.charged:
                memory_pressure.settle(tcb)
        if tcb.events:
            self._eventful[tcb] = None

    def carries(self, gso_max: int) -> None:
        """The device takes packets of up to `gso_max` bytes from now on (see `Device`)."""
        self._output.carries(gso_max)

    def next_deadline(self) -> int | None:
        """When `handle_timeouts` and `flush` should run next (µs), None: when something happens."""
        if (self._dirty or self._output.queue) and not self._output.full:
            return 0
        return self._wheel.next_deadline()

    def take_events(self) -> list[tuple[Tcb | Listener | UdpPort, int]]:
        """What the users are to be told, each object at most once. Empty when there is nothing."""
        if not self._eventful:
            return []
        taken = []
        waiting, self._eventful = self._eventful, {}
        for subject in waiting:
            if type(subject) is Tcb and subject.listener is not None:
                continue  # not accepted yet: nobody to tell
            events = subject.events
            if events:
                taken.append((subject, events))
                subject.events = 0
        return taken

    def _tell(self, port: UdpPort) -> None:
        """The user of `port` is to be told of its events."""
        self._eventful[port] = None

    def _mark(self, tcb: Tcb) -> None:
        """`tcb` has something to send, or a deadline to file, at the next flush."""
        if not tcb.dirty:
            tcb.dirty = True
            self._dirty.append(tcb)
        if tcb.events:
            self._eventful[tcb] = None

    # ------------------------------------------------------------------ user calls

    def listen(
        self,
        port: int,
        now: int,
        *,
        address: str | None = None,
        backlog: int = 128,
        config: TcpConfig | None = None,
    ) -> Listener:
        """Passive OPEN on `port`, 0: any free one. `address` None: all of ours, both families.

        AddressInUse, AddressNotAvailable, UsageError.
        """
        check_port(port)
        key: bytes | None = None
        if address is not None and address not in ("", "0.0.0.0", "::"):
            key = packed_address(address)
            if not self.addresses.is_own(key):
                raise AddressNotAvailable(address)
        if port == 0:
            port = self._flows.free_listening_port()
        listener = Listener(key, address, port, backlog, self._usable(config))
        self._flows.listen(listener)
        return listener

    def _usable(self, config: TcpConfig | None) -> TcpConfig:
        """What a connection is opened with. UsageError for an unknown congestion control."""
        if config is None:
            return self.config.tcp
        if config.congestion not in REGISTRY:
            raise UsageError(f"unknown congestion control {config.congestion!r}")
        return config

    def accept(self, listener: Listener) -> Tcb | None:
        """The next established connection of `listener`, None: none waits."""
        if not listener.queue:
            return None
        tcb = listener.queue.popleft()
        tcb.listener = None
        if tcb.events:
            self._eventful[tcb] = None
        if listener.queue:
            listener.events |= ACCEPTABLE
            self._eventful[listener] = None
        return tcb

    def close_listener(self, listener: Listener, now: int) -> None:
        """Stop listening. Connections not accepted yet are aborted, handshakes forgotten."""
        if listener.closed:
            return
        listener.closed = True
        self._flows.unlisten(listener)
        while listener.queue:
            tcb = listener.queue.popleft()
            tcb.listener = None
            self.abort(tcb, now)
        self._syn_queue.forget(listener)

    def connect(
        self,
        address: str,
        port: int,
        now: int,
        *,
        local_address: str | None = None,
        local_port: int = 0,
        config: TcpConfig | None = None,
        fast_open: Buffer | None = None,
    ) -> Tcb:
        """Active OPEN: a SYN goes out at the next flush; CONNECTED or CLOSED_EVENT tells the rest.

        `fast_open`: text that the SYN may carry (RFC 7413). How much of it was taken, maybe none,
        is in `tcb.send_buffer`; the rest is for SEND. Empty: a cookie is asked for.

        AddressNotAvailable, AddressInUse, NetworkUnreachable, NoBufferSpace, UsageError (MUST-46:
        broadcast and multicast addresses).
        """
        config = self._usable(config)
        tcb = self._active_open.open(
            (address, port), (local_address, local_port), config, fast_open, now
        )
        self._mark(tcb)
        return tcb

    def may_send_on_syn(self, address: str, local: str, config: TcpConfig, now: int) -> bool:
        """A connection opened now could take text along (RFC 7413). `local` "": any address."""
        return self._active_open.may_send_on_syn(address, local, config, now)

    def send(
        self,
        tcb: Tcb,
        data: Buffer,
        now: int,
        *,
        urgent: bool = False,
        more: bool = False,
        room: int | None = None,
    ) -> int:
        """SEND; see user_calls.send."""
        if self.memory.full and not tcb.closed and not tcb.fin_queued:
            if not memory_pressure.may_write(tcb, len(data)):
                tcb.send_full = True
                return 0
        taken = user_calls.send(tcb, data, now, urgent=urgent, more=more, room=room)
        if taken and not tcb.dirty:
            tcb.dirty = True
            self._dirty.append(tcb)
        return taken

    def cork(self, tcb: Tcb, kind: int) -> None:
        """See user_calls.cork."""
        user_calls.cork(tcb, kind)
        self._mark(tcb)

    def receive(self, tcb: Tcb, limit: int, now: int) -> Buffer:
        """RECEIVE; see user_calls.receive."""
        data = user_calls.receive(tcb, limit, now)
        if tcb.charged and not tcb.receive_buffer.readable:
            memory_pressure.settle(tcb)
        if tcb.ack_now and not tcb.dirty:
            tcb.dirty = True
            self._dirty.append(tcb)
        return data

    def shutdown(self, tcb: Tcb, now: int) -> None:
        """CLOSE for sending only; see user_calls.shutdown."""
        user_calls.shutdown(tcb, now)
        self._mark(tcb)

    def close(self, tcb: Tcb, now: int) -> None:
        """CLOSE; see user_calls.close."""
        user_calls.close(tcb, now)
        if tcb.detached and not tcb.closed and memory_pressure.too_many_orphans(tcb):
            user_calls.abort(tcb, now)
        self._mark(tcb)

    def abort(self, tcb: Tcb, now: int) -> None:
        """ABORT; see user_calls.abort."""
        user_calls.abort(tcb, now)
        self._mark(tcb)

    def configure(self, tcb: Tcb, config: TcpConfig, now: int) -> None:
        """Change the options of a live connection (setsockopt); the SYN's options stay agreed.

        UsageError for an unknown congestion control.
        """
        previous, tcb.config = tcb.config, self._usable(config)
        user_calls.configure(tcb, previous, now)
        if (config.dscp, config.ttl) != (previous.dscp, previous.ttl):  # MUST-48, SHLD-21, MUST-49
            self._connections.rebuild_header(tcb)
        self._mark(tcb)

    def quick_ack(self, tcb: Tcb, value: int) -> None:
        """TCP_QUICKACK: 0 makes ACKs wait for text of ours, 1 sends the one that waits (tcp(7))."""
        if ack_policy.quick_ack_option(tcb, value):
            tcb.ack_now = True
            self._mark(tcb)

    def status(self, tcb: Tcb, now: int) -> TcpInfo:
        """STATUS; see user_calls.status."""
        return user_calls.status(tcb, now)

    # ------------------------------------------------------------------ views

    def connections(self) -> list[Tcb]:
        """The connections that are not over and not in TIME-WAIT."""
        return [holder for holder in self._table.values() if type(holder) is Tcb]

    def half_open(self) -> list[SynRequest]:
        """The handshakes that listeners have begun."""
        return self._syn_queue.requests()

    def time_waits(self) -> list[TimeWait]:
        """The records of connections in TIME-WAIT."""
        return [holder for holder in self._table.values() if type(holder) is TimeWait]

    def listeners(self) -> list[Listener]:
        """All listeners, by port."""
        return [
            one for port in sorted(self._flows.listeners) for one in self._flows.listeners[port]
        ]

    def pending_timers(self) -> int:
        """Entries in the timer wheel."""
        return len(self._wheel)
