"""What a command has to show."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Outcome:
    """A report, or text to be printed as it is, and the exit status.

    >>> from scaleinv._cli.outcome import Outcome
    >>> Outcome("{}").print()
    {}
    """

    report: "RenderableType"
    status: int = 0

    def print(self) -> None:
        if isinstance(self.report, str):
            print(self.report)
            return
        from rich.console import Console

        Console().print(self.report)
