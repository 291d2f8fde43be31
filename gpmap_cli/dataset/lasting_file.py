"""A file for the HDF5 library to write to that outlasts a full disk."""

from __future__ import annotations

import io
from typing import Any


class LastingFile(io.FileIO):
    """A file open for reading and writing that keeps its first failure in `trouble` instead of raising it.

    When a write fails, the HDF5 library cannot close the file, fills the terminal with that, and crashes when
    the program ends. So it is let believe that all is well, and who uses the file looks at `trouble`.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "r+b")
        self.trouble: OSError | None = None

    def write(self, data: Any) -> int:
        whole = memoryview(data).cast("B")
        done = 0
        try:
            while self.trouble is None and done < len(whole):
                done += super().write(whole[done:]) or 0
        except OSError as trouble:
            self.trouble = trouble
        return len(whole)

    def readinto(self, buffer: Any) -> int:
        whole = memoryview(buffer).cast("B")
        done = 0
        try:
            while done < len(whole) and (some := super().readinto(whole[done:])):
                done += some
        except OSError as trouble:
            self.trouble = self.trouble or trouble
        whole[done:] = bytes(len(whole) - done)  # what could not be written reads as zeros
        return len(whole)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size) if self.trouble is None else (size or 0)
        except OSError as trouble:
            self.trouble = trouble
            return size or 0
