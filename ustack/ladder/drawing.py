"""A connection as a ladder: two lifelines, an arrow per packet, the state of each end beside it.

Owns layout, folding and wording. Must not know how states and notices were found. The lines fit
the width of the console; a packet that says more than one line holds goes on below its arrow.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from ustack.ladder.connections import Connection, Row
from ustack.ladder.notices import Notice
from ustack.ladder.observer import States
from ustack.tcp.state import State
from ustack.wire.ecn import CE
from ustack.wire.tcp import ACK, AE, CWR, ECE, FIN, PSH, RST, SYN, URG

Explain = Callable[[Row], str | None]

STATE_WIDTH = max(len(state.name) for state in State)
TIME_WIDTH = 9  # "+999.9 ms"
MARGIN = TIME_WIDTH + 1 + STATE_WIDTH + 1
MIN_SPACE = 24  # columns between the lifelines, however narrow the console
MAX_SPACE = 78
ARROW_MIN = 5  # columns of an arrow beside its words: "─ ", " ──►"

# A run of packets that change nothing is folded when it is longer than what stays of it.
FOLD_HEAD = 3
FOLD_TAIL = 2
FOLD_NOTICES = 8  # packets in the middle of a run that are drawn for their notice

_FLAGS = (
    (SYN, "SYN"),
    (FIN, "FIN"),
    (RST, "RST"),
    (PSH, "PSH"),
    (ACK, "ACK"),
    (URG, "URG"),
    (ECE, "ECE"),
    (CWR, "CWR"),
    (AE, "AE"),
)
_COLORS = ("cyan", "green")  # per side
_WINDOW_NOTICES = {Notice.ZERO_WINDOW, Notice.WINDOW_UPDATE}


@dataclass(slots=True, frozen=True)
class Glyphs:
    """The characters a ladder is drawn with."""

    line: str
    right: str
    left: str
    life: str
    torn: str  # the lifeline beside what has been folded
    dots: str
    micro: str


UNICODE = Glyphs("─", "►", "◄", "│", "┊", "…", "µ")
ASCII = Glyphs("-", ">", "<", "|", ":", "...", "u")


@dataclass(slots=True, frozen=True)
class Fold:
    """A run of packets left out of the drawing."""

    rows: Sequence[Row]


class Ladder:
    """A rich renderable: `console.print(Ladder(connection))`.

    `full`: nothing is folded. `explain`: a sentence to put under a packet, or None.
    """

    def __init__(
        self, connection: Connection, *, full: bool = False, explain: Explain | None = None
    ) -> None:
        self.connection = connection
        self.full = full
        self.explain = explain

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        glyphs = ASCII if options.ascii_only else UNICODE
        space = options.max_width - MARGIN - STATE_WIDTH - len("│") - len("│ ")
        page = _Page(console, glyphs, min(max(space, MIN_SPACE), MAX_SPACE))
        rows = self.connection.rows
        yield from page.heading(self.connection)
        yield page.line(Text(), rows[0].before, changed=(False, False))
        items: Sequence[Row | Fold] = rows if self.full else list(fold(rows))
        for item in items:
            if isinstance(item, Fold):
                yield from page.folded(item)
                continue
            yield from page.packet(item)
            sentence = self.explain(item) if self.explain else None
            if sentence:
                yield from page.prose(sentence, options.max_width)


class _Page:
    """The lines of one ladder, all of one geometry."""

    def __init__(self, console: Console, glyphs: Glyphs, space: int) -> None:
        self.console = console
        self.glyphs = glyphs
        self.space = space

    def heading(self, connection: Connection) -> Iterator[Text]:
        """The names of both ends at their lifelines; on two lines when they are long."""
        left, right = str(connection.ends[0]).rjust(MARGIN - 1), str(connection.ends[1])
        width = MARGIN + self.space + STATE_WIDTH + len("│") + len("│ ")
        right_at = min(MARGIN + self.space + len("│"), width - len(right))
        if right_at > len(left) + 1:
            yield Text(left.ljust(right_at) + right, style="bold")
        else:
            yield Text(left, style="bold")
            yield Text(right.rjust(width), style="bold")

    def line(
        self,
        middle: Text,
        states: States | None,
        *,
        changed: tuple[bool, bool],
        time: str = "",
        torn: bool = False,
    ) -> Text:
        """One line: time, left state, lifeline, what is between, lifeline, right state."""
        life = self.glyphs.torn if torn else self.glyphs.life
        names = ("", "") if states is None else (states[0].name, states[1].name)
        styles = ["bold" if change else "dim" for change in changed]
        middle = middle.copy()
        middle.pad_right(self.space - len(middle))
        text = Text.assemble(
            (time.replace("µ", self.glyphs.micro).rjust(TIME_WIDTH), "dim"),
            " ",
            (names[0].rjust(STATE_WIDTH), styles[0]),
            f" {life}",
            middle,
            f"{life} ",
            (names[1], styles[1]),
        )
        text.rstrip()
        return text

    def packet(self, row: Row) -> Iterator[Text]:
        """The arrow with its words, then what did not fit, the notices and the comment."""
        first, *more = pack(packet_words(row), " ", self.space - ARROW_MIN)
        changed = (row.before[0] != row.after[0], row.before[1] != row.after[1])
        yield self.line(
            self._arrow(first, row.side),
            row.after,
            changed=changed,
            time=format_delta(row.delta_ns),
        )
        yield from self._below(" ".join(more), _COLORS[row.side])
        yield from self._below(", ".join(row.notices), "yellow")
        yield from self._below(row.packet.comment.replace("\n", "; "), "italic")

    def _arrow(self, label: str, side: int) -> Text:
        glyphs = self.glyphs
        line = glyphs.line * max(self.space - len(label) - 4, 1)
        if side == 0:
            arrow = f"{glyphs.line} {label} {line}{glyphs.right}"
        else:
            arrow = f"{glyphs.left}{glyphs.line} {label} {line}"
        return Text(arrow[: self.space], style=_COLORS[side])

    def _below(self, words: str, style: str) -> Iterator[Text]:
        """Text between the lifelines, wrapped."""
        if words:
            wrapped = Text(words, style=style).wrap(self.console, self.space - 4)
            for part in wrapped:
                yield self.line(Text("  ") + part, None, changed=(False, False))

    def prose(self, sentence: str, width: int) -> Iterator[Text]:
        """A sentence about the packet above, across the whole width, set in from the margin."""
        for part in Text(sentence, style="magenta").wrap(self.console, max(width - MARGIN - 3, 30)):
            yield Text(" " * (MARGIN + 3)) + part

    def folded(self, item: Fold) -> Iterator[Text]:
        """What was left out, as many lines as it takes, beside torn lifelines."""
        start = f" {self.glyphs.dots} "
        words = [word.replace("µ", self.glyphs.micro) for word in fold_words(item.rows)]
        for line in pack(words, ", ", self.space - len(start)):
            text = Text((start + line)[: self.space], style="dim")
            yield self.line(text, None, changed=(False, False), torn=True)
            start = " " * len(start)


def pack(words: Sequence[str], separator: str, width: int) -> Iterator[str]:
    """Yields lines of at most `width` columns, each with at least one of the words."""
    line: list[str] = []
    for word in words:
        if line and len(separator.join((*line, word))) > width:
            yield separator.join(line)
            line = []
        line.append(word)
    if line:
        yield separator.join(line)


def fold(rows: Sequence[Row]) -> Iterator[Row | Fold]:
    """The rows to draw, with a Fold for each stretch of packets that a reader need not see.

    Kept are all packets that change a state or carry SYN, FIN or RST; of a run of others its
    head and tail, and some of those with a notice or a comment.
    """
    run: list[Row] = []
    for row in rows:
        if row.changes_state or row.packet.flags & (SYN | FIN | RST):
            yield from _fold_run(run)
            run = []
            yield row
        else:
            run.append(row)
    yield from _fold_run(run)


def _fold_run(run: list[Row]) -> Iterator[Row | Fold]:
    remarkable = [
        index
        for index, row in enumerate(run)
        if FOLD_HEAD <= index < len(run) - FOLD_TAIL and (row.notices or row.packet.comment)
    ]
    kept = {*range(FOLD_HEAD), *remarkable[:FOLD_NOTICES], *range(len(run) - FOLD_TAIL, len(run))}
    hidden: list[Row] = []
    for index, row in enumerate(run):
        if index not in kept:
            hidden.append(row)
            continue
        yield from _fold_or_row(hidden)
        hidden = []
        yield row


def _fold_or_row(hidden: list[Row]) -> Iterator[Row | Fold]:
    if len(hidden) == 1:  # a fold takes as much space as the packet
        yield hidden[0]
    elif hidden:
        yield Fold(hidden)


def fold_words(rows: Sequence[Row]) -> list[str]:
    """What a stretch of packets amounts to: "812 segments", "1.20 MB", "31 x retransmission"."""
    segments = [row for row in rows if row.packet.length]
    acknowledgments = len(rows) - len(segments)
    words = []
    if segments:
        words.append(_count(len(segments), "segment"))
        words.append(format_size(sum(row.packet.length for row in segments)))
    if acknowledgments:
        words.append(_count(acknowledgments, "ACK"))
    for notice in Notice:
        times = sum(notice in row.notices for row in rows)
        if times:
            words.append(f"{times} x {notice}")
    duration = sum(row.delta_ns for row in rows)
    if duration:
        words.append(format_delta(duration).removeprefix("+"))
    return words


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def packet_words(row: Row) -> list[str]:
    """The packet in words, the most important first."""
    packet = row.packet
    options = packet.options
    flags = " ".join(name for flag, name in _FLAGS if packet.flags & flag) or "no flags"
    words = [flags, f"seq={row.seq}"]
    if row.ack is not None:
        words.append(f"ack={row.ack}")
    if packet.length:
        words.append(f"len={packet.length}")
    if packet.ecn == CE:
        words.append("CE")  # a router has marked it; ECT alone would only be noise
    if _WINDOW_NOTICES.intersection(row.notices):
        words.append(f"win={row.window}")
    words += [f"sack={left}-{right}" for left, right in row.sack]
    if packet.flags & SYN:
        words.append(f"win={row.window}")
        if options.mss is not None:
            words.append(f"mss={options.mss}")
        if options.wscale is not None:
            words.append(f"wscale={options.wscale}")
        if options.sack_permitted:
            words.append("sackOK")
        if options.tsval is not None:
            words.append("timestamps")
        if options.fast_open is not None:
            words.append("fast-open")
    return words


def format_delta(nanoseconds: int) -> str:
    """A time since the packet before, three digits: "+85.0 µs", "+1.20 s"."""
    for unit, size in (("s", 1_000_000_000), ("ms", 1_000_000)):
        if abs(nanoseconds) >= size:
            return f"+{_three_digits(nanoseconds / size)} {unit}"
    return f"+{nanoseconds // 1000} µs" if nanoseconds else "0"


def format_size(size: int) -> str:
    """Bytes in decimal units, three digits: "78 B", "1.20 MB"."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{_three_digits(size / factor)} {unit}"
    return f"{size} B"


def _three_digits(value: float) -> str:
    decimals = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{decimals}f}"


def overview(connections: Sequence[Connection]) -> Table:
    """One line per connection: who, how much each way, how long, and the states at its end."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("#", "opened by", "to", "packets", "sent", "received", "time", "last states"):
        is_text = name in ("opened by", "to", "last states")
        table.add_column(
            name,
            justify="left" if is_text else "right",
            no_wrap=not is_text,
            overflow="fold",
        )
    for number, connection in enumerate(connections, start=1):
        rows = connection.rows
        table.add_row(
            str(number),
            Text(str(connection.ends[0])),  # brackets are not markup
            Text(str(connection.ends[1])),
            str(len(rows)),
            format_size(connection.bytes_from(0)),
            format_size(connection.bytes_from(1)),
            format_delta(sum(row.delta_ns for row in rows)).removeprefix("+"),
            " / ".join(state.name for state in rows[-1].after),
        )
    return table
