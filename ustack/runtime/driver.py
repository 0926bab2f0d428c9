"""The event loop around a stack and its device.

Owns the one reader, the one timer and the clock. After anything happened there is a turn: packets
out, events up, timer armed, always in that order. A stack in which nothing is due does not wake
up; nothing here polls, but for the few µs in which the answer to an answer is expected. Must not
know asyncio's transports; those are `User`s to it.
"""

import asyncio
import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from ustack.device.base import Device
from ustack.stack.listener import Listener
from ustack.stack.stack import Stack
from ustack.stack.udp import UdpPort
from ustack.tcp.tcb import Tcb

logger = logging.getLogger(__name__)

READ_BUDGET = 64  # frames per batch; a device may give fewer
SINGLE_READS = 8  # frames that are read one by one after a batch of one ...
SMALL_FRAME = 4096  # bytes; ... unless one is larger: a bulk transfer has begun
LINGER_READS = 12  # of some 1.2 µs each; a kernel peer's turn-around is 10 to 15 µs
LINGER_ROUNDS = 16  # batches before the rest of the loop gets its chance
MAX_ROUNDS = 8  # flush and events up, before the rest of the loop gets its chance


def monotonic_us() -> int:
    """The time of the host in µs, with an arbitrary start."""
    return time.monotonic_ns() // 1000


class User(ABC):
    """The owner of a connection or listener: what the runtime keeps in its `user` slot, or None."""

    __slots__ = ()

    @abstractmethod
    def notify(self, events: int) -> None:
        """Something happened to the connection or listener: flags of `ustack.tcp.tcb`."""


class ClosableUser(User):
    """One that the driver closes when it closes itself: see `Driver.add_user`."""

    __slots__ = ()

    @abstractmethod
    def close(self) -> None:
        """Ends in order; `Driver.remove_user` is called when that is done."""

    @abstractmethod
    def abort(self) -> None:
        """Ends at once."""


class Driver:
    """Moves frames and time between a `Device`, a `Stack` and the event loop.

    Everything runs in the thread of the loop. The driver owns the device from `start` on and
    closes it. Whoever makes a user call to the stack passes it the time that `user_call` gives.
    """

    def __init__(
        self,
        stack: Stack,
        device: Device,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        clock: Callable[[], int] = monotonic_us,
    ) -> None:
        self.stack = stack
        self.device = device
        self.loop = loop if loop is not None else asyncio.get_running_loop()
        self.users: set[ClosableUser] = set()  # closed with the driver
        self.wake_ups = 0  # batches of work that the loop started
        self.callback_errors = 0  # exceptions that users' callbacks raised
        self.device_lost = asyncio.Event()  # the interface was removed under us
        self.closed = False
        self._clock = clock
        self._fd = -1
        self._gso_max = device.gso_max  # as the stack knows it
        self._now = 0  # of the running turn
        self._answered = False  # in the last turn users were told something, or a SYN was answered
        self._single_reads = 0  # so many of the next frames are read one by one
        self._in_turn = False
        self._turn_pending = False
        self._read_pending = False
        self._due_pending = False
        self._device_full = False
        self._posted: list[tuple[Tcb | Listener | UdpPort, int]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0
        self._idle: asyncio.Future[None] | None = None  # close() waits for the last connection

    def start(self) -> None:
        """The device is being read."""
        self._fd = self.device.fileno()
        self.device.on_readable = self._frames_wait
        if self._fd >= 0:
            self.loop.add_reader(self._fd, self._readable)
        self._frames_wait()

    def now(self) -> int:
        """The time for a question to the stack: one reading for all of a turn."""
        return self._now if self._in_turn else self._clock()

    def user_call(self) -> int:  # hot
        """The time for a user call. A turn follows it, one for all calls of this iteration."""
        if self._in_turn:
            return self._now
        self.request_turn()
        return self._clock()

    def request_turn(self) -> None:
        """A turn follows soon."""
        if not (self._in_turn or self._turn_pending or self.closed):
            self._turn_pending = True
            self.loop.call_soon(self._requested)

    def post(self, tcb: Tcb, events: int) -> None:
        """Its user is notified in the next round, as if the stack had reported `events`."""
        self._posted.append((tcb, events))
        self.request_turn()

    def add_user(self, user: ClosableUser) -> None:
        """`user` is closed when the driver is."""
        self.users.add(user)

    def remove_user(self, user: ClosableUser) -> None:
        """`user` has ended."""
        self.users.discard(user)
        self._check_idle()

    def report(self, message: str, error: BaseException, user: User) -> None:
        """An exception of a user's callback is counted and goes to the loop's exception handler."""
        self.callback_errors += 1
        context = {"message": message, "exception": error, "transport": user}
        self.loop.call_exception_handler(context)

    async def close(self, timeout: float = 2.0) -> None:
        """No connection is left and the device is closed.

        Every user is closed in order; whatever is not finished after `timeout` seconds, or when
        the caller is cancelled, is aborted.
        """
        if self.closed or self._idle is not None:
            return
        self._idle = self.loop.create_future()
        for user in list(self.users):
            user.close()
        self.request_turn()
        try:
            async with asyncio.timeout(timeout):
                await self._idle
        except TimeoutError:
            logger.info("aborting what did not close within %s s", timeout)
        finally:
            self._idle = None
            self._abort_all()
            self._stop()

    # The three ways in, each with one reading of the clock.

    def _readable(self) -> None:  # hot
        self._read_pending = False
        if self.closed:
            return
        self.wake_ups += 1
        now = self._clock()
        self._receive(now)
        self._turn(now)
        if self._fd >= 0:
            self._linger()

    def _linger(self) -> None:  # hot
        """Look for more before the loop goes to sleep, if all that came has been answered.

        A peer on this machine sends its next segment within some 10 µs, which is less than it
        takes to fall asleep and be woken (the idea of Linux's SO_BUSY_POLL). Whatever else waits
        for the loop is delayed by LINGER_READS empty reads, or by LINGER_ROUNDS full batches;
        other processes of this CPU get their turn; a quiet stack sleeps.
        """
        clock, read, pause = self._clock, self.device.read, os.sched_yield
        for _ in range(LINGER_ROUNDS):
            if not self._answered or self._turn_pending or self._device_full:
                return
            if self.stack.acks_held or self._fd < 0:
                return
            budget = self._budget()
            now = clock()
            try:
                for _ in range(LINGER_READS):
                    frames = read(budget, now)
                    if frames:
                        break
                    pause()
                    now = clock()
                else:
                    return
            except OSError as error:
                self._device_gone(error, now)
            else:
                self._digest(frames, budget, now)
            self._turn(now)

    def _timer_fired(self) -> None:
        self._timer = None
        self._due()

    def _due(self) -> None:
        self._due_pending = False
        if self.closed:
            return
        self.wake_ups += 1
        now = self._clock()
        held = self.device.next_deadline()
        if held is not None and held <= now:
            self._receive(now)
        self.stack.handle_timeouts(now)
        self._turn(now)

    def _requested(self) -> None:
        self._turn_pending = False
        if self.closed:
            return
        self.wake_ups += 1
        self._turn(self._clock(), again=False)

    def _receive(self, now: int) -> None:  # hot
        """A batch of frames is in the stack. What is left over is read in the loop's next round."""
        budget = self._budget()
        try:
            frames = self.device.read(budget, now)
        except OSError as error:
            self._device_gone(error, now)
        else:
            self._digest(frames, budget, now)

    def _budget(self) -> int:  # hot
        """How many frames to ask for. After a small lone one the next is probably alone too: for
        some frames, no time is spent on hearing from the descriptor that there are no more."""
        return 1 if self._single_reads else READ_BUDGET

    def _digest(self, frames: Sequence[bytes], budget: int, now: int) -> None:  # hot
        """The device had `frames`, of `budget` that it was asked for."""
        count = len(frames)
        if count:
            self.stack.input_batch(frames, now)
            if self._fd >= 0:
                if len(frames[0]) > SMALL_FRAME:
                    self._single_reads = 0
                elif budget == 1:
                    self._single_reads -= 1
                elif count == 1:
                    self._single_reads = SINGLE_READS
        if self._fd < 0:
            self._device_full = False
            if count == budget:
                self._frames_wait()

    def _turn(self, now: int, again: bool = True) -> None:  # hot
        """After anything happened: packets out, events up, timer re-armed. In that order.

        The users' calls cause packets again: that is the next round. `again`: ACKs that are not
        urgent may wait for one more turn, which comes after every coroutine that was woken here.
        """
        stack = self.stack
        write = self.device.write
        self._now = now
        self._in_turn = True
        self._answered = False
        try:
            for _ in range(MAX_ROUNDS):
                if not self._device_full and not stack.flush(now, write, again=again):
                    self._wait_until_writable()
                events = stack.take_events()
                if self._posted:
                    events += self._posted
                    self._posted = []
                if not events:
                    break
                self._answered = True
                for subject, flags in events:
                    user: User | None = subject.user  # type: ignore[assignment]  # see User
                    if user is not None:
                        try:
                            user.notify(flags)
                        except Exception as error:  # noqa: BLE001 (the others go on)
                            self.report("exception in a callback", error, user)
            else:
                self._in_turn = False
                self.request_turn()
        finally:
            self._in_turn = False
        if stack.replied:
            stack.replied = False
            self._answered = True
        if stack.acks_held and not self._device_full:
            self.request_turn()
        else:
            self._arm(now)
        if self._idle is not None:
            self._check_idle()

    def _arm(self, now: int) -> None:  # hot
        """The timer fires at the first deadline or before it.

        A timer that is too early is left alone: it costs one wake-up, but re-arming it on every
        packet would cost more.
        """
        deadline = self.stack.next_deadline()
        held = self.device.next_deadline()
        if held is not None and (deadline is None or held < deadline):
            deadline = held
        if deadline is None:
            return
        if deadline <= now:
            if not self._due_pending:
                self._due_pending = True
                self.loop.call_soon(self._due)
            return
        if self._timer is not None:
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
        self._timer_at = deadline
        # One µs more: rounding in floats must not wake us before the deadline.
        self._timer = self.loop.call_later((deadline - now + 1) / 1e6, self._timer_fired)

    def _frames_wait(self) -> None:
        """A device without a descriptor has frames, room, or a new deadline."""
        if not self._read_pending and not self.closed:
            self._read_pending = True
            self.loop.call_soon(self._readable)

    def _wait_until_writable(self) -> None:
        self._device_full = True
        if self.device.gso_max < self._gso_max:
            self._gso_max = self.device.gso_max
            self.stack.carries(self._gso_max)
        if self._fd >= 0:
            self.loop.add_writer(self._fd, self._writable)

    def _writable(self) -> None:
        self.loop.remove_writer(self._fd)
        self._device_full = False
        self._requested()

    def _device_gone(self, error: OSError, now: int) -> None:
        """Nothing will arrive or leave any more: users learn it, and polling stops."""
        logger.error("%s", error)
        self.device_lost.set()
        for tcb in self.stack.connections():
            self.stack.abort(tcb, now)
        self._unregister()

    def _check_idle(self) -> None:
        idle = self._idle
        if idle is not None and not idle.done():
            if not self.users and not self.stack.connections():
                idle.set_result(None)

    def _abort_all(self) -> None:
        """Every connection is reset, and the RSTs are out if the device takes them."""
        now = self._clock()
        for user in list(self.users):
            user.abort()
        for tcb in self.stack.connections():
            self.stack.abort(tcb, now)
        self._turn(now)

    def _unregister(self) -> None:
        self.device.on_readable = None
        if self._fd >= 0:
            self.loop.remove_reader(self._fd)
            self.loop.remove_writer(self._fd)
            self._fd = -1

    def _stop(self) -> None:
        self.closed = True
        self._unregister()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.device.close()
