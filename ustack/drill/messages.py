"""Control messages: those that a script sends, and those that it expects (language §12.3)."""

from ustack.drill import arguments
from ustack.drill.failure import ScriptFailure
from ustack.drill.host import Message
from ustack.drill.script import Anything, Array, Expression, Integer, Struct, SyscallEvent
from ustack.stack.error_queue import ControlMessage, ExtendedError, Stamp

SECOND_US = 1_000_000
_ERROR_FIELDS = ("ee_errno", "ee_origin", "ee_type", "ee_code", "ee_info", "ee_data")
_TIMED_ATTRIBUTES = ("TCP_NLA_BUSY", "TCP_NLA_RWND_LIMITED", "TCP_NLA_SNDBUF_LIMITED")


def written_control(event: SyscallEvent, message: Struct) -> tuple[ControlMessage, ...]:
    """What a script gives to sendmsg() along with the text."""
    found: list[ControlMessage] = []
    for item in arguments.array(message.get("msg_control") or Array(())):
        written = arguments.struct(event, item)
        keys = ("cmsg_level", "cmsg_type", "cmsg_data")
        found.append(ControlMessage(*(arguments.member(event, written, key) for key in keys)))
    return tuple(found)


def check_control(
    event: SyscallEvent, expected: Struct, message: Message, tolerance_us: int
) -> None:
    """Raises ScriptFailure unless `message` carries exactly the messages written."""
    control = expected.get("msg_control")
    if isinstance(control, Anything):
        return
    written = control.items if isinstance(control, Array) else ()
    if len(written) != len(message.control):
        raise ScriptFailure(
            event.position,
            f"control messages: expected {len(written)}, actual {len(message.control)}: "
            f"{', '.join(map(control_text, message.control)) or 'none'}",
        )
    for index, (item, actual) in enumerate(zip(written, message.control, strict=True)):
        difference = _difference(event, arguments.struct(event, item), actual, tolerance_us)
        if difference:
            raise ScriptFailure(event.position, f"control message {index}: {difference}")


def control_text(message: ControlMessage) -> str:
    """A control message for a report."""
    return f"level {message.level} type {message.kind} {message.data}"


def _difference(
    event: SyscallEvent, written: Struct, actual: ControlMessage, tolerance_us: int
) -> str:
    level, kind, data = (written.get(key) for key in ("cmsg_level", "cmsg_type", "cmsg_data"))
    if level is None or kind is None or data is None:
        raise ScriptFailure(event.position, "a control message has a level, a type and data")
    wanted = arguments.number(event, level), arguments.number(event, kind)
    if wanted != (actual.level, actual.kind):
        return f"expected level {wanted[0]} type {wanted[1]}, actual {control_text(actual)}"
    if isinstance(data, Anything):
        return ""
    found = actual.data
    if isinstance(found, Stamp):
        return _stamp_difference(event, data, found, tolerance_us)
    if isinstance(found, ExtendedError):
        return _error_difference(event, data, found)
    if isinstance(found, int):
        value = arguments.number(event, data)
        return "" if value == found else f"expected {value}, actual {found}"
    return _attributes_difference(event, data, found, tolerance_us)


def _stamp_difference(
    event: SyscallEvent, data: Expression, found: Stamp, tolerance_us: int
) -> str:
    stamp = arguments.struct(event, data)
    seconds = arguments.member(event, stamp, "scm_sec")
    nanoseconds = arguments.member(event, stamp, "scm_nsec")
    wanted = seconds * SECOND_US + nanoseconds // 1000
    if not wanted or abs(wanted - found.time_us) <= tolerance_us:
        return ""
    return f"time stamp: expected {wanted} µs, actual {found.time_us} µs"


def _error_difference(event: SyscallEvent, data: Expression, found: ExtendedError) -> str:
    written = arguments.struct(event, data)
    values = (found.errno, found.origin, found.type, found.code, found.info, found.data)
    for key, actual in zip(_ERROR_FIELDS, values, strict=True):
        expression = written.get(key)
        if isinstance(expression, Anything):
            continue
        wanted = arguments.number(event, expression or Integer(0))
        if wanted != actual:
            return f"{key}: expected {wanted}, actual {actual}"
    return ""


def _attributes_difference(
    event: SyscallEvent, data: Expression, found: "object", tolerance_us: int
) -> str:
    """`{TCP_NLA_X = value, ...}`: those written, microseconds with the tolerance."""
    assert isinstance(found, dict)
    for field in arguments.struct(event, data).fields:
        if field.key is None or isinstance(field.value, Anything):
            continue
        if field.key not in found:
            return f"{field.key} is missing"
        wanted, actual = arguments.number(event, field.value), found[field.key]
        slack = tolerance_us if field.key in _TIMED_ATTRIBUTES else 0
        if abs(wanted - actual) > slack:
            return f"{field.key}: expected {wanted}, actual {actual}"
    return ""
