"""The arguments of a system call event, as numbers, sizes and bytes.

Every function raises ScriptFailure, with the line of the event, for what it cannot understand.
"""

import ipaddress

from ustack.drill.constants import CONSTANTS, value_of
from ustack.drill.failure import ScriptFailure
from ustack.drill.script import (
    Anything,
    Array,
    Expression,
    Function,
    Integer,
    Name,
    Or,
    String,
    Struct,
    SyscallEvent,
)

INT, LONG = 4, 8  # bytes
SOCKADDR_STORAGE = 128  # bytes, and the largest key of TCP_MD5SIG:
MD5_KEY = 80
AF_INET, AF_INET6 = CONSTANTS["AF_INET"], CONSTANTS["AF_INET6"]


def count(event: SyscallEvent, *allowed: int) -> None:
    """The call has one of these numbers of arguments."""
    if len(event.arguments) not in allowed:
        choice = " or ".join(str(wanted) for wanted in allowed)
        raise ScriptFailure(
            event.position,
            f"{event.name}() takes {choice} arguments, not {len(event.arguments)}",
        )


def number(event: SyscallEvent, expression: Expression) -> int:
    """What a number, a symbol, several joined by `|`, htons() or a one-element list stand for."""
    match expression:
        case Integer(value):
            return value
        case Name(name):
            known = value_of(name)
            if known is None:
                raise ScriptFailure(event.position, f"unknown symbol '{name}'")
            return known
        case Or(left, right):
            return number(event, left) | number(event, right)
        case Function("htons", (argument,)):
            return number(event, argument)
        case Array((only,)):
            return number(event, only)
    raise ScriptFailure(event.position, f"{event.name}(): a number is expected here")


def numbers(event: SyscallEvent, expression: Expression) -> list[int]:
    """A list of numbers; a single one is a list of one."""
    if isinstance(expression, Array):
        return [number(event, item) for item in expression.items]
    return [number(event, expression)]


def array(expression: Expression) -> tuple[Expression, ...]:
    """The elements of a list; none of `...`."""
    if isinstance(expression, Array):
        return expression.items
    if isinstance(expression, Anything):
        return ()
    return (expression,)


def struct(event: SyscallEvent, expression: Expression) -> Struct:
    """The structure that must stand here."""
    if not isinstance(expression, Struct):
        raise ScriptFailure(event.position, f"{event.name}(): a structure is expected here")
    return expression


def iovec(event: SyscallEvent, elements: Expression, count: Expression) -> list[int]:
    """The sizes of the buffers; `count` is what the script says their number is."""
    sizes = [number(event, struct(event, item).fields[-1].value) for item in array(elements)]
    if number(event, count) != len(sizes):
        raise ScriptFailure(event.position, "the count is not the number of elements")
    return sizes


def buffers(event: SyscallEvent) -> tuple[list[int], bool]:
    """The second and third argument of readv() and writev(): sizes, and whether a pointer is NULL.

    NULL may stand for the whole array, or for the buffer of an element.
    """
    _, elements, written = event.arguments
    if not isinstance(elements, Anything | Array) and number(event, elements) == 0:
        return [number(event, written)], True
    sizes = iovec(event, elements, written)
    bases = [struct(event, item).fields[0].value for item in array(elements)]
    null = any(number(event, base) == 0 for base in bases if isinstance(base, Integer | Name))
    return sizes, null


def message_iovec(event: SyscallEvent, message: Struct) -> list[int]:
    """The sizes of the buffers of a message header."""
    for field in message.fields:
        if field.key == "msg_iov":
            return iovec(event, field.value, field.count or Integer(-1))
    raise ScriptFailure(event.position, "the message has no msg_iov")


def address(event: SyscallEvent, function: Function) -> bytes:
    """The bytes of `inet_addr("...")` or `inet6_addr("...")`."""
    text = function.arguments[0] if function.arguments else None
    if not isinstance(text, String):
        raise ScriptFailure(event.position, f"{function.name}() takes a string")
    try:
        return ipaddress.ip_address(text.value.decode("latin-1")).packed
    except ValueError:
        raise ScriptFailure(event.position, f"{text.value!r} is no address") from None


def socket_address(event: SyscallEvent, written: Expression) -> tuple[str, int] | None:
    """Address and port of a struct sockaddr; None where `...` stands."""
    if not isinstance(written, Struct):
        return None
    port = member(event, written, "sin_port") or member(event, written, "sin6_port")
    for key in ("sin_addr", "sin6_addr"):
        value = written.get(key)
        if isinstance(value, Function) and value.arguments:
            text = value.arguments[-1]  # inet_pton() names the family first
            return str(ipaddress.ip_address(address(event, Function(value.name, (text,))))), port
    raise ScriptFailure(event.position, "the address has no sin_addr")


def is_null(event: SyscallEvent, index: int) -> bool:
    """Whether the pointer is written as NULL or 0."""
    argument = event.arguments[index]
    if isinstance(argument, Anything | String | Array | Struct):
        return False
    return number(event, argument) == 0


def option_bytes(event: SyscallEvent, value: Expression) -> bytes:
    """The value of a socket option, as it lies in memory."""
    if isinstance(value, String):
        return value.value
    if isinstance(value, Function) and value.name in ("inet_addr", "inet6_addr"):
        return address(event, value)
    if isinstance(value, Struct):
        return _struct_bytes(event, value)
    return b"".join(int_bytes(one) for one in numbers(event, value))


def _struct_bytes(event: SyscallEvent, value: Struct) -> bytes:
    """struct linger and struct timeval, with or without the names of the members."""
    keys = tuple(field.key for field in value.fields)
    numbers = [number(event, field.value) for field in value.fields]
    if keys == ("onoff", "linger"):
        return b"".join(map(int_bytes, numbers))
    if keys in (("tv_sec", "tv_usec"), (None, None)):
        return b"".join(each.to_bytes(LONG, "little", signed=True) for each in numbers)
    raise ScriptFailure(event.position, "this structure is not supported")


def md5_key(address: str, key: bytes) -> bytes:
    """A struct tcp_md5sig of Linux for that peer; no key takes it back."""
    packed = ipaddress.ip_address(address).packed
    if len(packed) == 4:
        sockaddr = AF_INET.to_bytes(2, "little") + bytes(2) + packed
    else:
        sockaddr = AF_INET6.to_bytes(2, "little") + bytes(6) + packed
    sizes = bytes(2) + len(key).to_bytes(2, "little") + bytes(4)  # flags, prefix; key; interface
    return sockaddr.ljust(SOCKADDR_STORAGE, b"\0") + sizes + key.ljust(MD5_KEY, b"\0")


def epoll_data(event: SyscallEvent, entry: Struct) -> int:
    """The data of an epoll_event, whichever member of the union it is written as."""
    for key in ("fd", "u32", "u64", "ptr"):
        value = entry.get(key)
        if value is not None:
            return number(event, value)
    return 0


def member(event: SyscallEvent, entry: Struct, key: str) -> int:
    """The number of that member, 0 when it is not written."""
    return number(event, entry.get(key) or Integer(0))


def int_bytes(value: int) -> bytes:
    """An int in memory, on x86-64."""
    return (value & 0xFFFF_FFFF).to_bytes(INT, "little")
