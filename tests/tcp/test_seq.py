from hypothesis import given, settings
from hypothesis import strategies as st

from ustack.tcp.seq import older32, unwrap

EXAMPLES = settings(derandomize=True, max_examples=200, deadline=None)
POSITIONS = st.integers(1 << 31, 1 << 40)


def test_a_number_beyond_the_wrap_lies_ahead() -> None:
    assert unwrap(5, 0xFFFF_FFF0) == 0x1_0000_0005
    assert unwrap(0, 0x2_FFFF_FFFF) == 0x3_0000_0000


def test_a_number_before_the_wrap_lies_behind() -> None:
    assert unwrap(0xFFFF_FFF0, 0x1_0000_0005) == 0xFFFF_FFF0


def test_half_the_space_away_counts_as_behind() -> None:
    near = 0x5_0000_0000
    assert unwrap(0x7FFF_FFFF, near) == near + 0x7FFF_FFFF
    assert unwrap(0x8000_0000, near) == near - 0x8000_0000


@EXAMPLES
@given(near=POSITIONS, distance=st.integers(-(1 << 31), (1 << 31) - 1))
def test_every_position_within_half_the_space_is_found_again(near: int, distance: int) -> None:
    assert unwrap((near + distance) & 0xFFFF_FFFF, near) == near + distance


def test_timestamps_are_compared_across_their_wrap() -> None:
    assert older32(0xFFFF_FFFF, 0)
    assert not older32(0, 0xFFFF_FFFF)
    assert not older32(7, 7)
    assert older32(6, 7)
    assert not older32(8, 7)
