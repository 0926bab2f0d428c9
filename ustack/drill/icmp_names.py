"""The names that scripts give to ICMP and ICMPv6 types and codes (language §9.1)."""

from collections.abc import Mapping

TYPES_V4: Mapping[str, int] = {
    "echo_reply": 0,
    "unreachable": 3,
    "source_quench": 4,
    "redirect": 5,
    "echo_request": 8,
    "time_exceeded": 11,
    "parameter_problem": 12,
    "timestamp_request": 13,
    "timestamp_reply": 14,
    "information_request": 15,
    "information_reply": 16,
    "address_mask_request": 17,
    "address_mask_reply": 18,
}
TYPES_V6: Mapping[str, int] = {
    "unreachable": 1,
    "packet_too_big": 2,
    "time_exceeded": 3,
    "parameter_problem": 4,
    "echo_request": 128,
    "echo_reply": 129,
}
_UNREACHABLE_V4 = """net_unreachable host_unreachable protocol_unreachable port_unreachable
    frag_needed source_route_failed net_unknown host_unknown source_host_isolated net_prohibited
    host_prohibited net_unreachable_for_tos host_unreachable_for_tos packet_filtered
    precedence_violation precedence_cutoff""".split()
CODES_V4: Mapping[int, Mapping[str, int]] = {
    3: {name: code for code, name in enumerate(_UNREACHABLE_V4)},
    11: {"ttl_exceeded_in_transit": 0, "frag_reass_exceeded": 1},
}
CODES_V6: Mapping[int, Mapping[str, int]] = {
    1: {
        "net_unreachable": 0,
        "no_route": 0,
        "admin_prohibited": 1,
        "not_neighbour": 2,
        "address_unreachable": 3,
        "port_unreachable": 4,
    },
    3: {"exceeded_hop_limit": 0, "exceeded_frag_time": 1},
    4: {"header_field": 0, "unknown_next_header": 1, "unknown_option": 2},
}


def type_number(name: str, ipv6: bool) -> int | None:
    """The type called `name` or `type_N`; None when there is none."""
    return _numbered(name, "type_", (TYPES_V6 if ipv6 else TYPES_V4).get(name))


def code_number(name: str, type_: int, ipv6: bool) -> int | None:
    """The code called `name` or `code_N` of that type; None when there is none."""
    return _numbered(name, "code_", (CODES_V6 if ipv6 else CODES_V4).get(type_, {}).get(name))


def names(type_: int, code: int, ipv6: bool) -> str:
    """Type and code in script notation."""
    types = TYPES_V6 if ipv6 else TYPES_V4
    type_name = next((name for name, n in types.items() if n == type_), f"type_{type_}")
    codes = (CODES_V6 if ipv6 else CODES_V4).get(type_, {})
    code_name = next((name for name, n in codes.items() if n == code), f"code_{code}")
    return type_name if code == 0 and not codes else f"{type_name} {code_name}"


def _numbered(name: str, prefix: str, known: int | None) -> int | None:
    if known is not None:
        return known
    digits = name.removeprefix(prefix)
    if digits != name and digits.isdigit() and int(digits) <= 255:
        return int(digits)
    return None
