"""What the parts of one stack share: configuration, secret, tables, timers, the way out, limits.

A part takes from it what it needs when it is made; nobody replaces anything in it later.
"""

from collections import Counter
from collections.abc import Callable
from hashlib import blake2s

from ustack.config import StackConfig
from ustack.stack.flows import FlowTable
from ustack.stack.ip import Addresses, Output, PathMtus
from ustack.stack.probe import Probe
from ustack.stack.timer_wheel import TimerWheel
from ustack.stack.trace import Tracer
from ustack.tcp.memory import Memory
from ustack.tcp.rate_limit import RateLimit


class Services:
    """Made once for each stack."""

    __slots__ = (
        "addresses",
        "challenge_limit",
        "config",
        "counters",
        "flows",
        "memory",
        "output",
        "path_mtus",
        "probe",
        "randrange",
        "reset_limit",
        "secret",
        "wheel",
    )

    def __init__(
        self,
        config: StackConfig,
        secret: bytes,
        randrange: Callable[[int], int],
        probe: Probe | None,
        tracer: Tracer | None,
    ) -> None:
        """The arguments are those of `Stack`."""
        self.config = config
        self.secret = blake2s(secret).digest()
        self.randrange = randrange
        self.probe = probe
        self.counters: Counter[str] = Counter()
        self.addresses = Addresses(config)
        self.path_mtus = PathMtus()
        self.flows = FlowTable(config.ephemeral_ports, self.secret)
        self.wheel = TimerWheel()
        self.output = Output(config, probe)
        self.output.tracer = tracer
        self.challenge_limit = RateLimit(config.challenge_acks_per_second, randrange)
        self.reset_limit = RateLimit(config.resets_per_second)
        pressure = config.memory_pressure
        if pressure is None:
            pressure = config.memory_limit * 2 // 3
        self.memory = Memory(config.memory_limit, pressure, config.max_orphans, self.counters)
