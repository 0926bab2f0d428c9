"""Captured TCP connections as ladder diagrams, with the states of both ends."""

from ustack.ladder.connections import Connection, Row, connections
from ustack.ladder.drawing import Ladder, overview
from ustack.ladder.explaining import Explainer
from ustack.ladder.packets import Endpoint, TcpPacket, tcp_packets

__all__ = [
    "Connection",
    "Endpoint",
    "Explainer",
    "Ladder",
    "Row",
    "TcpPacket",
    "connections",
    "overview",
    "tcp_packets",
]
