"""The picture: time and sequence above, then windows, then round trips; a column per connection."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tools.plotting.series import Mark, Series

COLUMN_INCHES, HEIGHT_INCHES = 6.0, 8.0
DPI = 80
KILO = 1000
SENT, AGAIN, ACKED, SACKED, LOST, EDGE = "C0", "C3", "C2", "C4", "C1", "0.6"


def draw(columns: Sequence[tuple[str, Series]], path: Path, title: str = "") -> None:
    """`path` shows the connections beside each other, each with a heading, on the same scales."""
    size = COLUMN_INCHES * len(columns), HEIGHT_INCHES
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(
        3,
        len(columns),
        sharex=True,
        sharey="row",
        squeeze=False,
        gridspec_kw={"height_ratios": (3, 2, 1.3)},
    )
    for (heading, series), column in zip(columns, axes.T, strict=True):
        column[0].set_title(heading, fontsize="medium")
        _sequence(column[0], series)
        _windows(column[1], series)
        _round_trips(column[2], series)
        column[2].set_xlabel("s")
    for row, label in zip(axes, ("sequence, kB", "window, kB", "round trip, ms"), strict=True):
        row[0].set_ylabel(label)
    if title:
        figure.suptitle(title)
    figure.savefig(path, dpi=DPI)


def _sequence(axes: Any, series: Series) -> None:
    for again, colour, label in ((False, SENT, "sent"), (True, AGAIN, "sent again")):
        spans = [(one.at, one.start, one.end) for one in series.sent if one.again is again]
        _bars(axes, spans, colour, label, width=2.5 if again else 1.2)
    _bars(axes, _spans(series.sacks), SACKED, "SACK", width=0.6)
    _bars(axes, _spans(series.losses), LOST, "deemed lost", width=0.8, dashes=(1, 1))
    _steps(axes, series.acks, ACKED, "acknowledged")
    top = max((one.end for one in series.sent), default=1) / KILO
    _steps(axes, [(at, min(edge, 1.3e3 * top)) for at, edge in series.edges], EDGE, "window's edge")
    axes.set_ylim(0, 1.05 * top)
    for at in series.timeouts:
        axes.axvline(at, color=AGAIN, linewidth=0.8, linestyle=":")
    _legend(axes, "upper left")


def _windows(axes: Any, series: Series) -> None:
    highest = max((value for _, value in [*series.cwnd, *series.in_flight]), default=0)
    _steps(axes, series.in_flight, "0.7", "in flight")
    _steps(axes, series.cwnd, SENT, "cwnd")
    _steps(axes, series.ssthresh, AGAIN, "ssthresh", linestyle="--")
    _steps(axes, series.window, EDGE, "peer's window", linestyle=":")
    if highest:
        axes.set_ylim(0, 1.1 * highest / KILO)
    for at, state in series.states:
        if state in ("recovery", "loss"):
            axes.axvline(at, color=LOST if state == "recovery" else AGAIN, linewidth=0.5)
    _legend(axes, "upper right")


def _round_trips(axes: Any, series: Series) -> None:
    if series.rtt:
        at, samples = zip(*series.rtt, strict=True)
        axes.plot(at, samples, ".", color="0.6", markersize=2, label="samples")
    for points, colour, label in ((series.srtt, SENT, "SRTT"), (series.rto, AGAIN, "RTO")):
        if points:
            axes.step(*zip(*points, strict=True), where="post", color=colour, label=label)
    axes.set_ylim(bottom=0)
    _legend(axes, "upper right")


def _legend(axes: Any, place: str) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="x-small", loc=place)


def _spans(marks: Sequence[Mark]) -> list[tuple[float, int, int]]:
    return [(mark.at, mark.start, mark.end) for mark in marks]


def _bars(
    axes: Any,
    spans: Sequence[tuple[float, int, int]],
    colour: str,
    label: str,
    *,
    width: float,
    dashes: tuple[float, float] | None = None,
) -> None:
    if spans:
        at, low, high = zip(*spans, strict=True)
        style = "solid" if dashes is None else (0, dashes)
        low_kb, high_kb = [one / KILO for one in low], [one / KILO for one in high]
        axes.vlines(at, low_kb, high_kb, colors=colour, linewidth=width, linestyles=style,
                    label=label)  # fmt: skip


def _steps(
    axes: Any, points: Sequence[tuple[float, float]], colour: str, label: str, linestyle: str = "-"
) -> None:
    if points:
        at, values = zip(*points, strict=True)
        axes.step(at, [one / KILO for one in values], where="post", color=colour, linewidth=1,
                  linestyle=linestyle, label=label)  # fmt: skip
