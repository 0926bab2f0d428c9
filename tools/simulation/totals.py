"""Sums that must agree at the end: nothing comes from nowhere, and what goes is counted."""

from tools.simulation.host import Host
from tools.simulation.observer import BrokenRule
from tools.simulation.path import Path
from tools.simulation.verdict import End


def check_conservation(path: Path, client: Host, server: Host) -> None:
    """Packets sent = packets received + packets that the link says it has dropped."""
    for name, port, faults, reader in (
        ("client", path.a, path.link.ab, server),
        ("server", path.b, path.link.ba, client),
    ):
        said = faults.counters
        dropped = said["lost"] + said["too_large"] + said["queue_full"] + said["malformed"]
        if port.entered + said["duplicated"] != said["passed"] + dropped:
            raise BrokenRule(f"{name}: {port.entered} packets entered the link, {said}")
        if reader.packets_in != said["passed"] + reader.port.told:
            raise BrokenRule(f"{reader.name}: read {reader.packets_in} of {said['passed']} packets")


def check_counters(end: End) -> None:
    """What TCP_INFO says of an end is what the onlooker has seen, and what its user has done."""
    its, seen = end.application, end.direction
    tcb = its.tcb
    if tcb is None or seen is None or its.lost or end.haunted:
        return
    said = tcb.counters
    if said.data_segments_out != seen.texts:
        sent = said.data_segments_out
        raise BrokenRule(f"{its.name}: counts {sent} segments with text, {seen.texts} were seen")
    if said.bytes_acked > its.written + 2:  # SYN and FIN
        raise BrokenRule(f"{its.name}: {said.bytes_acked} of {its.written} bytes are acknowledged")
    if its.eof and said.bytes_received != its.read + (tcb.receive_buffer.readable):
        raise BrokenRule(f"{its.name}: {said.bytes_received} bytes received, {its.read} read")
