"""ICMP errors as errno: the table of Linux (icmp(7)), and what is no news at all."""

import errno

import pytest

from ustack.stack.icmp_meaning import meaning
from ustack.wire.icmp import IcmpMessage


@pytest.mark.parametrize(
    "version, kind, code, number, hard",
    [
        (4, 3, 0, errno.ENETUNREACH, False),
        (4, 3, 1, errno.EHOSTUNREACH, False),
        (4, 3, 2, errno.ENOPROTOOPT, True),
        (4, 3, 3, errno.ECONNREFUSED, True),
        (4, 3, 4, errno.EMSGSIZE, True),
        (4, 3, 7, errno.EHOSTDOWN, True),
        (4, 3, 13, errno.EHOSTUNREACH, True),
        (4, 11, 0, errno.EHOSTUNREACH, False),
        (4, 12, 0, errno.EPROTO, True),
        (6, 1, 0, errno.ENETUNREACH, False),
        (6, 1, 1, errno.EACCES, True),
        (6, 1, 4, errno.ECONNREFUSED, True),
        (6, 2, 0, errno.EMSGSIZE, True),
        (6, 3, 0, errno.EHOSTUNREACH, False),
        (6, 4, 1, errno.EPROTO, True),
    ],
)
def test_an_error_has_the_errno_of_linux(
    version: int, kind: int, code: int, number: int, hard: bool
) -> None:
    told = meaning(IcmpMessage(kind, code, 1300, b""), version)
    assert told is not None
    assert (told.errno, told.hard, told.type, told.code) == (number, hard, kind, code)
    assert told.info == (1300 if number == errno.EMSGSIZE else 0)
    assert told.origin == (2 if version == 4 else 3)


@pytest.mark.parametrize("version, kind, code", [(4, 4, 0), (4, 5, 1), (4, 3, 16), (6, 1, 7)])
def test_quench_redirects_and_unknown_codes_say_nothing(version: int, kind: int, code: int) -> None:
    assert meaning(IcmpMessage(kind, code, 0, b""), version) is None
