"""The largest of the last values, exactly: time is any counter that only grows."""


class WindowedMax:
    """Keeps only values that can still become the largest, so never more than the window is long
    if `time` counts in whole steps."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: list[tuple[int, int]] = []  # (time, value), values falling

    def update(self, value: int, time: int, length: int) -> int:
        """`value` was seen at `time`. Returns the largest of the last `length` steps of time."""
        entries = [one for one in self._entries if one[0] > time - length and one[1] > value]
        entries.append((time, value))
        self._entries = entries
        return entries[0][1]
