from tests.ladder.conversation import Conversation
from ustack.ladder import connections, tcp_packets
from ustack.ladder.notices import Notice


def opened() -> Conversation:
    conversation = Conversation()
    conversation.open()
    return conversation


def notices(conversation: Conversation) -> list[tuple[Notice, ...]]:
    """Of each packet after the three of the handshake."""
    (connection,) = connections(tcp_packets(conversation.records))
    return [row.notices for row in connection.rows[3:]]


def test_bytes_in_order_are_not_worth_a_notice() -> None:
    conversation = opened()
    conversation.send(0, "A", 1, 1, length=1000)
    conversation.send(1, "A", 1, 1001)
    conversation.send(0, "FA", 1001, 1)
    assert notices(conversation) == [(), (), ()]


def test_bytes_sent_again_are_a_retransmission() -> None:
    conversation = opened()
    conversation.send(0, "A", 1, 1, length=1000)
    conversation.send(0, "A", 1, 1, length=1000)
    assert notices(conversation) == [(), (Notice.RETRANSMISSION,)]


def test_bytes_sent_again_after_their_ack_are_needless() -> None:
    conversation = opened()
    conversation.send(0, "A", 1, 1, length=1000)
    conversation.send(1, "A", 1, 1001)
    conversation.send(0, "A", 1, 1, length=1000)
    assert notices(conversation)[-1] == (Notice.NEEDLESS_RETRANSMISSION,)


def test_a_fin_sent_again_is_a_retransmission() -> None:
    conversation = opened()
    conversation.send(0, "FA", 1, 1)
    conversation.send(0, "FA", 1, 1)
    assert notices(conversation) == [(), (Notice.RETRANSMISSION,)]


def test_a_retransmission_may_carry_new_bytes_as_well() -> None:
    conversation = opened()
    conversation.send(0, "A", 1, 1, length=1000)
    conversation.send(0, "A", 501, 1, length=1000)
    assert notices(conversation)[-1] == (Notice.PARTLY_NEW,)


def test_a_gap_is_noticed_and_so_is_what_fills_it() -> None:
    conversation = opened()
    conversation.send(0, "A", 1001, 1, length=1000)  # bytes 1 to 1000 came late
    conversation.send(0, "A", 1, 1, length=500)
    conversation.send(0, "A", 501, 1, length=500)
    conversation.send(0, "A", 501, 1, length=500)
    assert notices(conversation) == [
        (Notice.AFTER_GAP,),
        (Notice.FILLS_GAP,),
        (Notice.FILLS_GAP,),
        (Notice.RETRANSMISSION,),
    ]


def test_the_same_ack_again_while_bytes_are_outstanding_is_a_duplicate() -> None:  # RFC 5681 §2
    conversation = opened()
    conversation.send(1, "A", 1, 1)
    conversation.send(0, "A", 1, 1, length=1000)
    conversation.send(1, "A", 1, 1)
    assert notices(conversation)[-1] == (Notice.DUPLICATE_ACK,)


def test_the_same_ack_again_without_bytes_outstanding_is_no_duplicate() -> None:
    conversation = opened()
    conversation.send(1, "A", 1, 1)
    conversation.send(1, "A", 1, 1)
    assert notices(conversation) == [(), ()]


def test_a_larger_window_under_the_same_ack_is_an_update() -> None:
    conversation = opened()
    conversation.send(0, "A", 1, 1, length=1000)
    conversation.send(1, "A", 1, 1001, window=0)
    conversation.send(1, "A", 1, 1001, window=400)
    assert notices(conversation) == [(), (Notice.ZERO_WINDOW,), (Notice.WINDOW_UPDATE,)]


def test_the_byte_before_a_closed_window_is_a_probe() -> None:  # as Linux probes
    conversation = opened()
    conversation.send(0, "A", 1, 1, length=1000)
    conversation.send(1, "A", 1, 1001, window=0)
    conversation.send(0, "A", 1000, 1)
    conversation.send(1, "A", 1, 1001, window=0)
    assert notices(conversation)[2:] == [
        (Notice.ZERO_WINDOW_PROBE,),
        (Notice.PROBE_ANSWER, Notice.ZERO_WINDOW),
    ]


def test_the_first_byte_of_a_closed_window_is_a_probe() -> None:  # RFC 9293 §3.8.6.1
    conversation = opened()
    conversation.send(0, "A", 1, 1, length=1000)
    conversation.send(1, "A", 1, 1001, window=0)
    conversation.send(0, "A", 1001, 1, length=1)
    assert notices(conversation)[-1] == (Notice.ZERO_WINDOW_PROBE,)


def test_the_byte_before_an_open_window_keeps_alive() -> None:  # RFC 9293 §3.8.4
    conversation = opened()
    conversation.send(1, "A", 1, 1)
    conversation.send(0, "A", 0, 1)
    conversation.send(1, "A", 1, 1)
    assert notices(conversation) == [(), (Notice.KEEP_ALIVE,), (Notice.PROBE_ANSWER,)]


def test_the_ack_that_a_fin_has_overtaken_keeps_nothing_alive() -> None:
    conversation = opened()
    conversation.send(0, "FA", 1, 1)
    conversation.send(0, "A", 1, 1)
    assert notices(conversation) == [(), ()]
