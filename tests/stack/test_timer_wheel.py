"""The wheel against a list of deadlines."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ustack.stack.timer_wheel import HORIZON, TICK_SHIFT, TimerWheel
from ustack.tcp.tcb import NEVER

TICK = 1 << TICK_SHIFT  # µs
HOUR = 3600 * 1_000_000
START = 12_345_678_901


class Entry:
    def __init__(self, name: object = None) -> None:
        self.name = name
        self.due_at = NEVER
        self.slot: object = None


def expire(wheel: TimerWheel, now: int) -> list[Entry]:
    return [entry for entry in wheel.expired(now) if isinstance(entry, Entry)]


def test_an_empty_wheel_has_nothing_to_do() -> None:
    wheel = TimerWheel()
    assert (len(wheel), wheel.next_deadline(), wheel.expired(HOUR)) == (0, None, [])


def test_an_entry_expires_at_its_time_and_not_before() -> None:
    wheel = TimerWheel(START)
    entry = Entry()
    wheel.insert(entry, START + 1000, START)
    assert expire(wheel, START + 999) == []
    assert expire(wheel, START + 1000 + TICK) == [entry]
    assert len(wheel) == 0
    assert entry.slot is None


def test_entries_expire_in_the_order_of_their_deadlines() -> None:
    wheel = TimerWheel(START)
    entries = [Entry(i) for i in range(50)]
    for i, entry in enumerate(entries):
        wheel.insert(entry, START + (i * 37 % 50 + 1) * 997_000, START)
    names = [entry.name for entry in expire(wheel, START + HOUR)]
    assert names == sorted(names, key=lambda i: entries[i].due_at)  # type: ignore[call-overload]
    assert len(names) == 50


def test_entries_of_one_tick_keep_the_order_they_came_in() -> None:
    wheel = TimerWheel()
    entries = [Entry() for _ in range(20)]
    for entry in entries:
        wheel.insert(entry, 5 * TICK, 0)
    assert expire(wheel, 6 * TICK) == entries


def test_a_cancelled_entry_never_expires() -> None:
    wheel = TimerWheel()
    entry = Entry()
    wheel.insert(entry, 1000, 0)
    wheel.cancel(entry)
    wheel.cancel(entry)
    assert len(wheel) == 0
    assert wheel.next_deadline() is None
    assert wheel.expired(HOUR) == []


def test_an_entry_that_is_inserted_again_moves() -> None:
    wheel = TimerWheel()
    entry = Entry()
    wheel.insert(entry, 1000, 0)
    wheel.insert(entry, 900_000, 0)
    assert len(wheel) == 1
    assert expire(wheel, 800_000) == []
    assert expire(wheel, 900_000 + TICK) == [entry]


def test_a_deadline_in_the_past_expires_with_the_next_tick() -> None:
    wheel = TimerWheel(START)
    entry = Entry()
    wheel.insert(entry, START - HOUR, START)
    assert expire(wheel, START + TICK) == [entry]


def test_a_deadline_beyond_the_horizon_is_kept_and_kept_exactly() -> None:
    wheel = TimerWheel()
    at = 3 * HORIZON * TICK + 5_000
    entry = Entry()
    wheel.insert(entry, at, 0)
    now = 0
    calls = 0
    while not (due := expire(wheel, now)):
        deadline = wheel.next_deadline()
        assert deadline is not None and now < deadline <= at + TICK
        now = deadline
        calls += 1
    assert due == [entry]
    assert at <= now <= at + TICK
    assert calls < 20


def test_a_long_sleep_is_skipped_in_few_steps() -> None:
    wheel = TimerWheel()
    near, far = Entry(), Entry()
    wheel.insert(near, 1000, 0)
    wheel.insert(far, 60 * HOUR, 0)
    wakes = 0
    now = 0
    while len(wheel):
        deadline = wheel.next_deadline()
        assert deadline is not None
        now = deadline
        wheel.expired(now)
        wakes += 1
    assert wakes <= 8


def test_the_clock_may_jump_before_the_first_entry() -> None:
    wheel = TimerWheel()
    entry = Entry()
    wheel.insert(entry, START + 100, START)
    assert wheel.next_deadline() == (START + 100 + TICK - 1) // TICK * TICK


def test_the_clock_may_jump_between_entries() -> None:
    # The second is filed as near as it is, although nothing had expired meanwhile
    wheel = TimerWheel()
    far, near = Entry(), Entry()
    wheel.insert(far, 70 * HOUR, 0)
    wheel.insert(near, 10 * HOUR + 100, 10 * HOUR)
    assert wheel.next_deadline() is not None
    assert expire(wheel, 10 * HOUR + 100 + TICK) == [near]
    wheel.insert(near, 69 * HOUR + 100, 69 * HOUR)
    wheel.cancel(far)
    wheel.insert(far, 69 * HOUR + 50, 69 * HOUR + 10)
    assert expire(wheel, 69 * HOUR + 100 + TICK) == [far, near]


def test_an_entry_that_is_late_may_wait_for_the_clock() -> None:
    # What was due before the jump comes first
    wheel = TimerWheel()
    due, new = Entry(), Entry()
    wheel.insert(due, 1000, 0)
    wheel.insert(new, HOUR + 1000, HOUR)
    assert expire(wheel, HOUR) == [due]
    assert expire(wheel, HOUR + 1000 + TICK) == [new]


def test_a_slot_that_was_emptied_causes_no_harm() -> None:
    wheel = TimerWheel()
    gone, stays = Entry(), Entry()
    wheel.insert(gone, 1_000, 0)
    wheel.insert(stays, 50_000_000, 0)
    wheel.cancel(gone)
    assert expire(wheel, 40_000_000) == []
    assert expire(wheel, 50_000_000 + TICK) == [stays]


TIMES = st.one_of(
    st.integers(0, 300 * TICK),
    st.integers(0, 70_000 * TICK),
    st.integers(0, 80 * HOUR),
    st.integers(0, 400 * HOUR),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.integers(0, 11), TIMES),
        st.tuples(st.just("cancel"), st.integers(0, 11), st.just(0)),
        st.tuples(st.just("advance"), st.just(0), TIMES),
        st.tuples(st.just("sleep"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(STEPS, st.integers(0, 10 * HOUR))
def test_the_wheel_agrees_with_a_sorted_list(steps: list[tuple[str, int, int]], now: int) -> None:
    wheel = TimerWheel(now)
    entries = [Entry(i) for i in range(12)]
    model: dict[Entry, int] = {}
    late: set[Entry] = set()
    for kind, index, us in steps:
        if kind == "insert":
            entry = entries[index]
            wheel.insert(entry, now + us, now)
            model[entry] = now + us
            late.discard(entry)
            if not us:
                late.add(entry)  # filed behind what is already there
        elif kind == "cancel":
            wheel.cancel(entries[index])
            model.pop(entries[index], None)
        else:
            if kind == "advance":
                now += us
            else:
                at = wheel.next_deadline()
                now = now if at is None else max(now, at)
            due = expire(wheel, now)
            ticks = [-(-model[entry] // TICK) for entry in due if entry not in late]
            for entry in due:
                assert model.pop(entry) <= now  # never early
            for at in model.values():
                assert at > now - TICK  # at most one tick late
            assert ticks == sorted(ticks)
        assert len(wheel) == len(model)
        at_next = wheel.next_deadline()
        if not model:
            assert at_next is None
        else:
            assert at_next is not None
            assert at_next <= max(min(model.values()), now) + TICK


def test_what_a_cancelled_entry_leaves_wakes_nobody_later() -> None:
    wheel = TimerWheel(START)
    first, second = Entry(1), Entry(2)
    wheel.insert(first, START + HOUR // 100, START)
    wheel.cancel(first)
    wheel.insert(second, START + HOUR, START + TICK)
    at = wheel.next_deadline()
    assert at is not None and at > START + HOUR // 100
    assert expire(wheel, START + HOUR - TICK) == []
    assert expire(wheel, START + HOUR + TICK) == [second]
