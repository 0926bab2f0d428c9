"""Pipes and files of a script. All payloads are zeros, so counts are enough; nothing is on disk."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from ustack.errors import os_error
from ustack.stack.socket_base import Call

PIPE_SIZE = 65536  # bytes; Linux, pipe(7)


@dataclass(slots=True)
class Pipe:
    """A pipe with what is in it."""

    held: int = 0

    def write(self, size: int) -> Call[int]:
        """Takes what there is room for, and waits for room."""
        while self.held == PIPE_SIZE and size:
            yield None
        taken = min(size, PIPE_SIZE - self.held)
        self.held += taken
        return taken

    def read(self, size: int) -> Call[int]:
        """Gives what is there, and waits for it."""
        while not self.held and size:
            yield None
        given = min(size, self.held)
        self.held -= given
        return given


@dataclass(slots=True)
class RegularFile:
    """An open file: its name, which may be written to, and where it stands."""

    path: str
    readable: bool = True
    writable: bool = False
    appends: bool = False
    offset: int = 0


class FileSystem:
    """The files that scripts name. `sizes` are of those that scripts have made or changed."""

    def __init__(self, sizes: dict[str, int]) -> None:
        self._sizes = sizes

    def open(self, path: str, flags: int) -> RegularFile:
        """The file at `path`; ENOENT, EEXIST, EISDIR. What is written to it stays in memory."""
        writable = bool(flags & (os.O_WRONLY | os.O_RDWR))
        exists = path in self._sizes or Path(path).exists()
        if exists and flags & os.O_CREAT and flags & os.O_EXCL:
            raise os_error(errno.EEXIST)
        if not exists and not flags & os.O_CREAT:
            raise os_error(errno.ENOENT)
        if writable and path not in self._sizes and Path(path).is_dir():
            raise os_error(errno.EISDIR)
        if not exists or (writable and flags & os.O_TRUNC):
            self._sizes[path] = 0
        return RegularFile(path, not flags & os.O_WRONLY, writable, bool(flags & os.O_APPEND))

    def size(self, file: RegularFile) -> int:
        """Bytes in it."""
        known = self._sizes.get(file.path)
        return Path(file.path).stat().st_size if known is None else known

    def write(self, file: RegularFile, size: int) -> int:
        """`size` bytes are in it, where it stands or at its end; EBADF."""
        if not file.writable:
            raise os_error(errno.EBADF)
        whole = self.size(file)
        start = whole if file.appends else file.offset
        file.offset = start + size
        self._sizes[file.path] = max(whole, file.offset)
        return size

    def read(self, file: RegularFile, size: int, at: int | None = None) -> int:
        """How many of `size` bytes there are, where it stands or at `at`; EBADF."""
        if not file.readable:
            raise os_error(errno.EBADF)
        start = file.offset if at is None else at
        given = max(0, min(size, self.size(file) - start))
        if at is None:
            file.offset += given
        return given
