"""Tokens of the script language (language §2)."""

import pytest

from ustack.drill.lexer import Kind, tokenize
from ustack.errors import MalformedFile


def kinds(text: str, **definitions: str) -> list[tuple[Kind, str]]:
    return [(token.kind, token.text) for token in tokenize(text, "t.pkt", definitions)[:-1]]


def texts(text: str, **definitions: str) -> list[str]:
    return [token for _, token in kinds(text, **definitions)]


def test_a_number_with_a_point_may_begin_with_the_point() -> None:
    assert kinds(".1 0.25 -3 0x1F") == [
        (Kind.FLOAT, ".1"),
        (Kind.FLOAT, "0.25"),
        (Kind.INTEGER, "-3"),
        (Kind.HEX, "0x1F"),
    ]


def test_start_and_end_of_a_blocking_call_are_three_tokens() -> None:
    assert kinds("+.1...0.200") == [
        (Kind.CHARACTER, "+"),
        (Kind.FLOAT, ".1"),
        (Kind.ELLIPSIS, "..."),
        (Kind.FLOAT, "0.200"),
    ]


def test_a_sequence_range_is_no_ipv6_address() -> None:
    assert texts("1:1001(1000)") == ["1", ":", "1001", "(", "1000", ")"]


def test_address_literals_are_one_token() -> None:
    assert kinds("192.0.2.1 fd3d:fa7b:d17d::1 ::1 1:2:3:4:5:6:7:8") == [
        (Kind.ADDRESS, "192.0.2.1"),
        (Kind.ADDRESS, "fd3d:fa7b:d17d::1"),
        (Kind.ADDRESS, "::1"),
        (Kind.ADDRESS, "1:2:3:4:5:6:7:8"),
    ]


def test_hexadecimal_cookies_are_words_and_all_digits_are_an_integer() -> None:
    assert kinds("00abaaabe8e954c2 12345678") == [
        (Kind.WORD, "00abaaabe8e954c2"),
        (Kind.INTEGER, "12345678"),
    ]


def test_a_flag_word_and_its_dot_are_apart_and_an_ace_digit_is_a_float() -> None:
    assert kinds("S. S.5 . .7") == [
        (Kind.WORD, "S"),
        (Kind.CHARACTER, "."),
        (Kind.WORD, "S"),
        (Kind.FLOAT, ".5"),
        (Kind.CHARACTER, "."),
        (Kind.FLOAT, ".7"),
    ]


def test_commands_code_and_strings_lose_their_quotes_and_may_span_lines() -> None:
    assert kinds('`a\n\\`b` %{ x = {1: 2}\ny }% "a\\"b"') == [
        (Kind.COMMAND, "a\n\\`b"),
        (Kind.CODE, "x = {1: 2}\ny"),
        (Kind.STRING, 'a\\"b'),
    ]


def test_comments_are_white_space_and_lines_are_counted_through_everything() -> None:
    tokens = tokenize("// one\n/* two\nthree */ a `x\ny` b", "t.pkt", {})
    assert [(token.text, token.position.line) for token in tokens] == [
        ("a", 3),
        ("x\ny", 3),
        ("b", 4),
        ("", 4),
    ]


def test_a_definition_replaces_a_whole_word_by_number_string_command_or_word() -> None:
    assert kinds("A B C D AB", A="0x10", B='"s"', C="`c`", D="3021b9d889017eeb") == [
        (Kind.INTEGER, "16"),
        (Kind.STRING, "s"),
        (Kind.COMMAND, "c"),
        (Kind.WORD, "3021b9d889017eeb"),
        (Kind.WORD, "AB"),
    ]


def test_a_reserved_word_cannot_be_defined_away() -> None:
    assert kinds("mss", mss="5") == [(Kind.WORD, "mss")]


def test_ifdef_selects_lines_and_keeps_their_numbers() -> None:
    text = "a\n#ifdef STANDARD\nb\n#else\nc\n#endif\nd"
    chosen = tokenize(text, "t.pkt", {"STANDARD": "1"})
    assert [(token.text, token.position.line) for token in chosen[:-1]] == [
        ("a", 1),
        ("b", 3),
        ("d", 7),
    ]
    assert texts(text) == ["a", "c", "d"]


def test_ifdef_without_endif_is_an_error_with_its_line() -> None:
    with pytest.raises(MalformedFile, match=r"t\.pkt:2: #if without #endif"):
        kinds("a\n#ifdef X\nb")


@pytest.mark.parametrize(
    "text, message",
    [
        ("a\n  @", r"t\.pkt:2: unexpected character '@'"),
        ('"open', r"t\.pkt:1: string without an end"),
        ("`open", r"t\.pkt:1: command without an end"),
        ("%{ open", r"t\.pkt:1: code snippet without an end"),
        ("/* open", r"t\.pkt:1: comment without an end"),
    ],
)
def test_what_is_no_token_is_an_error_with_file_and_line(text: str, message: str) -> None:
    with pytest.raises(MalformedFile, match=message):
        kinds(text)


@pytest.mark.parametrize(
    "condition, holds",
    [
        ("1", True),
        ("0", False),
        ("0x10 == 16", True),
        ("defined(A)", True),
        ("defined B", False),
        ("!defined(B)", True),
        ("defined(A) && !defined(B)", True),
        ("defined(B) || A == 5", True),
        ("A >= 5 && (B || A < 4)", False),
        ("LINUX", True),
        ("B // nobody said", False),
    ],
)
def test_if_selects_by_expressions(condition: str, holds: bool) -> None:
    text = f"#if {condition}\nyes\n#else\nno\n#endif"
    found = tokenize(text, "t.pkt", {"A": "5", "LINUX": "word"})[0].text
    assert found == ("yes" if holds else "no")


def test_of_the_branches_the_first_that_holds_is_taken() -> None:
    text = "#if 0\na\n#elif X == 1\nb\n#elif 1\nc\n#else\nd\n#endif\ne"
    assert texts(text) == ["c", "e"]
    assert texts(text, X="1") == ["b", "e"]


def test_inside_of_what_is_left_out_nothing_is_taken() -> None:
    assert texts("#if 0\n#if 1\na\n#else\nb\n#endif\n#else\nc\n#endif") == ["c"]


def test_a_comment_of_a_snippet_is_no_directive() -> None:
    assert len(kinds("%{\n#if it rains\n#else\nx = 1\n}%")) == 1


@pytest.mark.parametrize("condition", ["", "&&", "(1", "1 2)", "defined(", "a @ b", "1 +", "08"])
def test_what_is_no_condition_is_said(condition: str) -> None:
    with pytest.raises(MalformedFile, match=r"t\.pkt:2: '.*' is no condition"):
        kinds(f"#ifdef X\n#elif {condition}\nb\n#endif")
