"""The lab's one exception."""

from __future__ import annotations


class LabError(Exception):
    """A step of the lab failed.

    The message is one line that says what to do; ``detail`` (the end of a console or of a program's output)
    follows it when printed.
    """

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail.strip()

    def __str__(self) -> str:
        return f"{self.message}\n{self.detail}" if self.detail else self.message
