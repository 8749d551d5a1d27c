"""What a person sees while the demo runs: a small live view on a terminal, plain lines everywhere else."""

import sys
import time
from collections import deque
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from demo.story import CALLS_WANTED, ROTATIONS_WANTED, Story


class View(Protocol):
    """Shows a line, and the story as it stands."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def line(self, text: str) -> None:
        """Show one thing that happened."""

    def refresh(self, story: Story) -> None:
        """Show the story as it stands."""


class PlainView:
    """One line for each thing that happened, with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exit: object) -> None:
        return None

    def line(self, text: str) -> None:
        """Print the line."""
        sys.stdout.write(f"{time.monotonic() - self._start:6.1f}s  {text}\n")
        sys.stdout.flush()

    def refresh(self, story: Story) -> None:
        """Show nothing: the lines have told it."""


class LiveView:
    """The last lines below a table that is kept up to date."""

    def __init__(self, console: Console) -> None:
        self._start = time.monotonic()
        self._lines: deque[str] = deque(maxlen=12)
        self._live = Live(console=console, refresh_per_second=8, transient=False)
        self._story: Story | None = None

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_exit: object) -> None:
        self._live.stop()

    def line(self, text: str) -> None:
        """Add a line to the last ones."""
        self._lines.append(f"{time.monotonic() - self._start:6.1f}s  {text}")
        self._draw()

    def refresh(self, story: Story) -> None:
        """Draw the table again."""
        self._story = story
        self._draw()

    def _draw(self) -> None:
        table = Table(title="mutual TLS between two workloads, identities rotating live")
        for column in ("", "so far", "wanted"):
            table.add_column(column)
        if (story := self._story) is not None:
            table.add_row("calls frontend → payments", str(story.calls), f"≥ {CALLS_WANTED}")
            table.add_row("failures", str(story.failures), "0")
            for who in (story.frontend, story.payments):
                table.add_row(f"rotations of {who}", str(story.rotations(who)), f"≥ {ROTATIONS_WANTED}")
            table.add_row("callers refused", str(story.refusals), "≥ 1")
            table.add_row("processes without identity", str(story.without_identity), "≥ 1")
        self._live.update(Group(table, Text("\n".join(self._lines))))


def choose(*, plain: bool) -> View:
    """Return the live view on a terminal, the plain one elsewhere or where it is asked for."""
    console = Console()
    return LiveView(console) if console.is_terminal and not plain else PlainView()
