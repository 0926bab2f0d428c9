"""Features that a scenario draws on top of the road and the plans.

They have a generator of their own: a new feature leaves the rest of a seed's scenario alone.
"""

import random
from dataclasses import replace

from ustack.config import TcpConfig
from ustack.device.link import LinkConfig
from ustack.tcp.congestion import REGISTRY

ECN = (0, 1, 1, 2, 3, 3, 4, 5)  # TcpConfig.ecn; 1 and 4 ask for RFC 3168, 3 for RFC 9768
MARKS = (0.0, 0.0, 0.01, 0.1, 1.0)  # of the packets that say ECT


def random_features(rng: random.Random, config: TcpConfig) -> TcpConfig:
    """`config` with congestion control, ECN, autotuning and pacing by lot."""
    return replace(
        config,
        congestion=rng.choice(sorted(REGISTRY)),
        ecn=rng.choice(ECN),
        ecn_fallback=rng.random() < 0.7,
        accecn_option=rng.choice((0, 1, 2)),
        receive_buffer_initial=rng.choice((1000, 16_384, 65_536)),
        receive_buffer_max=rng.choice((70_000, 1 << 20, 6 << 20)),
        moderate_receive_buffer=rng.random() < 0.8,
        send_buffer_initial=rng.choice((1000, 16_384)),
        send_buffer_max=rng.choice((20_000, 4 << 20)),
        frto=rng.random() < 0.7,
        rack=rng.random() < 0.8,
        tail_loss_probe=rng.random() < 0.8,
        max_pacing_rate=rng.choice((None, None, None, 100_000, 10_000_000)),
    )


def marked(rng: random.Random, link: LinkConfig) -> LinkConfig:
    """`link` with a router that marks instead of dropping (RFC 3168)."""
    return replace(link, ecn=rng.choice(MARKS))
