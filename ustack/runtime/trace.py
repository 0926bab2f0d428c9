"""The events of a stack's connections in a file: JSON lines in qlog's shape.

The first line is qlog's header of a sequential file, every other line one event of
`ustack.stack.trace`. A failing file ends the trace, never the stack.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from ustack.stack.trace import Event, EventTracer

SCHEMA = "urn:ietf:params:qlog:file:sequential"
FORMAT = "application/x-ndjson"  # qlog's own has a record separator before each line


class TraceFile(EventTracer):
    """A `Tracer` that writes `target`: a path (the file is ours) or a text file (left open).

    `now_to_epoch_us` turns the stack's clock into the wall clock. Each line is written at once, so
    a killed process leaves whole events. Raises OSError when the file cannot be made; later errors
    (a full disk) are in `error`, and `missed` counts the events from there on.
    """

    def __init__(
        self, target: Path | str | TextIO, *, title: str = "ustack", now_to_epoch_us: int = 0
    ) -> None:
        super().__init__(self._write)
        self.written = 0  # events
        self.missed = 0
        self.error: OSError | None = None
        self._owned = isinstance(target, Path | str)
        self._file: TextIO = (
            open(target, "w", encoding="utf-8", buffering=1)  # noqa: SIM115 (until close)
            if isinstance(target, Path | str)
            else target
        )
        header = {
            "file_schema": SCHEMA,
            "serialization_format": FORMAT,
            "title": title,
            "trace": {
                "vantage_point": {"name": "ustack", "type": "unknown"},
                "common_fields": {
                    "time_format": "relative_to_epoch",
                    "reference_time": {"clock_type": "monotonic", "epoch": "unknown"},
                    "wall_clock_offset": now_to_epoch_us / 1000,  # ms to add for Unix time
                },
            },
        }
        try:
            self._line(header)
        except OSError:
            self._close()
            raise

    def close(self) -> None:
        """Everything that has changed is in the file, which is complete."""
        self.settle()
        self._close()

    def _close(self) -> None:
        if self._owned:
            with suppress(OSError):
                self._file.close()

    def _write(self, event: Event) -> None:
        if self.error is not None or self._file.closed:
            self.missed += 1
            return
        try:
            self._line(event)
        except OSError as error:
            self.error = error
            self.missed += 1
        else:
            self.written += 1

    def _line(self, value: Event) -> None:
        self._file.write(json.dumps(value, separators=(",", ":")) + "\n")
