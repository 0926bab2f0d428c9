"""The reason for each step of a connection's life, in a sentence: for people who meet TCP.

Owns the sentences. Must not know how they are drawn. RFC 9293 §3.4 to §3.6.
"""

from ustack.ladder.connections import Row
from ustack.tcp.state import (
    CLOSE_WAIT,
    CLOSED,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT_1,
    FIN_WAIT_2,
    LAST_ACK,
    LISTEN,
    SYN_RECEIVED,
    SYN_SENT,
    TIME_WAIT,
    State,
)
from ustack.wire.tcp import ACK, FIN, RST, SYN

SIDES = ("left", "right")

SYN_SENT_SENTENCE = (
    "Step 1: the {sender} end opens. SYN carries the random start of its sequence numbers (drawn "
    "as 0); from there on every byte has a number. The options say what it understands."
)
SYN_ACK_SENTENCE = (
    "Step 2: the {sender} end acknowledges that number (ack=1: send me byte 1) and brings its own "
    "start in the same packet. It cannot know yet whether that arrives: SYN_RECEIVED."
)
THIRD_ACK_SENTENCE = (
    "Step 3: why three? Each end must see its own start acknowledged; that makes two SYNs and two "
    "ACKs, and step 2 carried one of each. After two steps only, a SYN that is late from an older "
    "connection would open one that nobody wants."
)
SIMULTANEOUS_OPEN_SENTENCE = (
    "Both ends opened at once and their SYNs crossed: one connection all the same, in four steps."
)
REFUSED_SENTENCE = "Nobody listens there: the RST refuses the connection."
RESET_SENTENCE = (
    "RST ends the connection for both ends at once: no acknowledgment, no TIME_WAIT, and data "
    "still under way is lost."
)
FIRST_DATA_SENTENCE = (
    "Data: seq={seq} is the number of its first byte, so the next one to send is {next}. ack={ack} "
    "is the byte that the {sender} end awaits from the other."
)
FIRST_DATA_ACKED_SENTENCE = (
    "ack={ack}: everything before byte {ack} has arrived. Until then the sender keeps a copy, to "
    "send it again."
)
FIRST_FIN_SENTENCE = (
    "The {sender} end closes first (the active closer). Its FIN says: I have sent everything. It "
    "takes a sequence number, so it is acknowledged and repeated like a byte of data. Why does a "
    "close take four steps? Each direction ends with a FIN and an ACK of its own."
)
HALF_CLOSED_SENTENCE = (
    "One direction is closed; the {sender} end, now in CLOSE_WAIT, may go on sending for as long "
    "as it likes."
)
SECOND_FIN_SENTENCE = "Now the {sender} end has sent everything, too."
MERGED_FIN_SENTENCE = (
    "The {sender} end has nothing more to say, so its ACK and its FIN share a packet: the four "
    "steps of a close in three."
)
SIMULTANEOUS_CLOSE_SENTENCE = (
    "The FINs crossed: both ends are active closers, and both will have to wait in TIME_WAIT."
)
LAST_ACK_SENTENCE = (
    "Nobody acknowledges this last ACK. If it is lost the FIN comes again, and someone must be "
    "there to answer. So TIME_WAIT lasts two MSL, twice the longest life of a segment: one for "
    "this ACK, one for a repeated FIN, and after that no old segment can meet a new connection."
)
WHO_PAYS_SENTENCE = (
    "The {sender} end closed first, so it is the one who pays: it holds on to the port. The other "
    "end is done."
)


class Explainer:
    """Gives each sentence once; who pays for a close, once for each side."""

    def __init__(self) -> None:
        self._told: set[tuple[str, int | None]] = set()

    def __call__(self, row: Row) -> str | None:
        """What to say about `row`; None when it shows nothing new."""
        template = _sentence(row)
        if template is None:
            return None
        sentences = [self._once(row, template)]
        if template is LAST_ACK_SENTENCE:
            sentences.append(self._once(row, WHO_PAYS_SENTENCE, row.side))
        return " ".join(sentence for sentence in sentences if sentence) or None

    def _once(self, row: Row, template: str, side: int | None = None) -> str:
        if (template, side) in self._told:
            return ""
        self._told.add((template, side))
        return template.format(
            sender=SIDES[row.side],
            seq=row.seq,
            next=row.seq + row.packet.length,
            ack=row.ack,
        )


def _sentence(row: Row) -> str | None:
    flags = row.packet.flags
    sender = row.before[row.side], row.after[row.side]
    receiver = row.before[1 - row.side], row.after[1 - row.side]
    if flags & RST:
        if CLOSED in receiver and SYN_SENT in receiver:
            return REFUSED_SENTENCE
        return RESET_SENTENCE if receiver[1] is CLOSED is not receiver[0] else None
    if flags & SYN:
        return _open_sentence(flags, sender[0], receiver)
    if flags & FIN:
        return _close_sentence(sender, receiver)
    if receiver == (SYN_RECEIVED, ESTABLISHED):
        return THIRD_ACK_SENTENCE
    if receiver == (FIN_WAIT_1, FIN_WAIT_2):
        return HALF_CLOSED_SENTENCE
    if sender[1] is TIME_WAIT and receiver[1] is CLOSED is not receiver[0]:
        return LAST_ACK_SENTENCE
    if row.packet.length and sender[1] is ESTABLISHED:
        return FIRST_DATA_SENTENCE
    if row.ack is not None and row.ack > 1 and sender[1] is ESTABLISHED:
        return FIRST_DATA_ACKED_SENTENCE
    return None


def _open_sentence(flags: int, sender: State, receiver: tuple[State, State]) -> str | None:
    if sender is SYN_SENT or (receiver[0] is SYN_SENT and not flags & ACK):
        return SIMULTANEOUS_OPEN_SENTENCE if receiver[0] is SYN_SENT else None
    if flags & ACK:
        return SYN_ACK_SENTENCE if sender in (LISTEN, SYN_RECEIVED) else None
    return SYN_SENT_SENTENCE


def _close_sentence(sender: tuple[State, State], receiver: tuple[State, State]) -> str | None:
    if CLOSING in (sender[1], receiver[1]):
        return SIMULTANEOUS_CLOSE_SENTENCE
    if sender == (ESTABLISHED, FIN_WAIT_1):
        return FIRST_FIN_SENTENCE
    if sender == (CLOSE_WAIT, LAST_ACK):
        return MERGED_FIN_SENTENCE if receiver[0] is FIN_WAIT_1 else SECOND_FIN_SENTENCE
    return None
