"""What the onlooker demands of ECN: RFC 3168, as far as single packets show it."""

from dataclasses import dataclass

from ustack.wire.tcp import ACK, AE, CWR, ECE, SYN

NOT_ECT, ECT1, ECT0, CE = range(4)


@dataclass(slots=True)
class EcnState:
    """What one end of a flow has said about ECN, and got."""

    asked: bool = False  # a SYN with ECE and CWR
    granted: bool = False  # a SYN,ACK with ECE alone
    accurate: bool = False  # a SYN with AE: other rules (RFC 9768)
    marks: int = 0  # packets with CE that were delivered to it

    def agreed_with(self, peer: "EcnState") -> bool:
        """ECN may be used (RFC 3168 §6.1.1)."""
        return (self.asked and (peer.granted or peer.asked)) or (self.granted and peer.asked)

    def syn(self, flags: int) -> None:
        """It sends a SYN or a SYN,ACK."""
        asks = flags & (ECE | CWR)
        if flags & ACK:
            self.granted = self.granted or asks == ECE
        else:
            self.asked = self.asked or asks == ECE | CWR
        self.accurate = self.accurate or bool(flags & AE)


def codepoint(ip: bytes, start: int) -> int:
    """The ECN field of the IP packet at `start`."""
    if ip[start] >> 4 == 4:
        return ip[start + 1] & 3
    return ip[start + 1] >> 4 & 3


def fault(
    mine: EcnState, peer: EcnState, flags: int, field: int, *, text: bool, again: bool
) -> str:
    """Why no correct end sends this, "" if it may. `again`: all of the text was sent before.

    What only a window probe of one octet has carried was never sent.
    """
    if mine.accurate or peer.accurate:
        return ""
    if flags & SYN:
        return "ECT on a SYN (RFC 3168 §6.1.1)" if field else ""
    agreed = mine.agreed_with(peer)
    if field == CE:
        return "CE from the sender (§5)"
    if field and not agreed:
        return "ECT without an agreement (§6.1.1)"
    if field and not text:
        return "ECT without text (§6.1.4)"
    if field and again:
        return "ECT on what is sent again (§6.1.5)"
    if flags & ECE and not (agreed and mine.marks):
        return "ECE, but no CE has come (§6.1.3)"
    if flags & CWR and not agreed:
        return "CWR without an agreement (§6.1.2)"
    return ""
