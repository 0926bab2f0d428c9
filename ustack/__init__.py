"""A TCP/IP stack in user space. What is named here is the public API.

`Network` is the asyncio side, `Stack` the sans-IO core below it. A network towards the kernel of
a Linux machine is made by `ustack.runtime.tun.tun`, which stays out of here: it needs a TUN.
"""

from ustack.config import Md5Key, StackConfig, TcpConfig
from ustack.device.base import Device
from ustack.device.channel import ChannelDevice
from ustack.device.impair import ImpairConfig, ImpairDevice, parse_impair
from ustack.device.link import Link, LinkConfig
from ustack.errors import (
    AddressInUse,
    AddressNotAvailable,
    BrokenPipe,
    ConnectionAborted,
    ConnectionRefused,
    ConnectionReset,
    ConnectionTimedOut,
    HostUnreachable,
    IcmpError,
    MalformedFile,
    MalformedPacket,
    NetworkUnreachable,
    NoBufferSpace,
    NotConnected,
    UsageError,
    UStackError,
)
from ustack.runtime.network import Network
from ustack.runtime.trace import TraceFile
from ustack.stack.probe import Probe
from ustack.stack.stack import Stack
from ustack.stack.trace import EventTracer, Tracer
from ustack.tcp.state import State
from ustack.tcp.tcb import Endpoint
from ustack.tcp.user_calls import TcpInfo

__all__ = [
    "AddressInUse",
    "AddressNotAvailable",
    "BrokenPipe",
    "ChannelDevice",
    "ConnectionAborted",
    "ConnectionRefused",
    "ConnectionReset",
    "ConnectionTimedOut",
    "Device",
    "Endpoint",
    "EventTracer",
    "HostUnreachable",
    "IcmpError",
    "ImpairConfig",
    "ImpairDevice",
    "Link",
    "LinkConfig",
    "MalformedFile",
    "MalformedPacket",
    "Md5Key",
    "Network",
    "NetworkUnreachable",
    "NoBufferSpace",
    "NotConnected",
    "Probe",
    "Stack",
    "StackConfig",
    "State",
    "TcpConfig",
    "TcpInfo",
    "TraceFile",
    "Tracer",
    "UStackError",
    "UsageError",
    "parse_impair",
]
