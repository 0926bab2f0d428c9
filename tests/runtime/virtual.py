"""An event loop in virtual time, and two networks on one link in it.

When nothing is ready the clock jumps to the next timer, so an hour of silence takes no time and
every run is the same. When nothing is ready and no timer is set either, the test has deadlocked.
"""

import asyncio
import math
import random
import selectors
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from contextvars import Context
from functools import wraps
from typing import Any, ParamSpec, TypeVar, TypeVarTuple

from ustack.config import StackConfig
from ustack.device.base import Device
from ustack.device.link import Link, LinkConfig
from ustack.runtime.network import DEFAULT_CONFIG, Network
from ustack.stack.probe import Probe
from ustack.stack.trace import Tracer

NEAR = "10.0.0.1"
FAR = "10.0.0.2"
NEAR6 = "fd00::1"
FAR6 = "fd00::2"

LONGEST_TIMER_S = 200  # TIME-WAIT and every retransmission of the tests are over after this

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class _JumpingSelector(selectors.DefaultSelector):
    """Jumps over the time for which the loop would block."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        loop = self.loop
        loop.iterations += 1
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise RuntimeError("deadlock: nothing is ready and no timer is set")
        loop.now_us += math.ceil(timeout * 1e6)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Counts what an idle stack must not cause."""

    def __init__(self) -> None:
        self.now_us = 1_000_000_000
        self.iterations = 0
        self.timers_set = 0
        self.problems: list[dict[str, Any]] = []
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)
        self.set_exception_handler(lambda _, context: self.problems.append(dict(context)))

    def time(self) -> float:
        return self.now_us / 1e6

    def clock(self) -> int:
        return self.now_us

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        self.timers_set += 1
        return super().call_at(when, callback, *args, context=context)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        """Here and now: a thread would run in real time."""
        future: asyncio.Future[_T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 (as an executor does)
            future.set_exception(error)
        return future


def running_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def in_virtual_time(
    test: Callable[_P, Coroutine[Any, Any, None]],
) -> Callable[_P, None]:
    """The coroutine as a test. Fails when the loop's exception handler was called."""

    @wraps(test)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            loop = runner.get_loop()
            assert isinstance(loop, VirtualLoop)
            runner.run(test(*args, **kwargs))
            assert not loop.problems

    return run


def network(
    device: Device,
    addresses: list[str],
    *,
    config: StackConfig = DEFAULT_CONFIG,
    probe: Probe | None = None,
    tracer: Tracer | None = None,
    seed: int = 7,
) -> Network:
    """A network in the virtual time of the running loop."""
    return Network(
        device,
        addresses,
        config=config,
        probe=probe,
        tracer=tracer,
        secret=bytes(16),
        randrange=random.Random(seed).randrange,
        clock=running_loop().clock,
    )


@asynccontextmanager
async def two_networks(
    faults: LinkConfig | None = None,
    *,
    near: Mapping[str, Any] | None = None,
    far: Mapping[str, Any] | None = None,
    gso_max: int = 65535,
) -> AsyncIterator[tuple[Network, Network]]:
    """Near and far, joined by a link. `near` and `far` are more arguments for `network`.

    At the end neither may have a connection, a timer or a task left.
    """
    tasks_before = asyncio.all_tasks()
    link = Link(seed=3, config_ab=faults, gso_max=gso_max)
    near_network = network(link.a, [f"{NEAR}/24", f"{NEAR6}/64"], **(near or {}))
    far_network = network(link.b, [f"{FAR}/24", f"{FAR6}/64"], **(far or {}))
    async with near_network, far_network:
        yield near_network, far_network
        await asyncio.sleep(LONGEST_TIMER_S)
        for each in (near_network, far_network):
            assert each.stack.connections() == []
            assert each.stack.time_waits() == []
            assert each.stack.next_deadline() is None
        assert asyncio.all_tasks() == tasks_before
