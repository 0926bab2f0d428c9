"""Why a script did not pass."""

from ustack.drill.positions import Position, one_line


class ScriptFailure(Exception):
    """The stack did not do what the script says, or the script asks for what is not there.

    `details` are the lines of a report below the message.
    """

    def __init__(self, position: Position, message: str, details: tuple[str, ...] = ()) -> None:
        super().__init__(f"{position}: {one_line(message)}")
        self.position = position
        self.details = details
