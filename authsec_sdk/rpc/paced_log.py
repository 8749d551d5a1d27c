"""Log lines a peer can cause at will: at most a few a second of each kind, and then how many were left out."""

import logging

from authsec_sdk.rpc.connection import monotonic

PER_SECOND = 5


class PacedLog:
    """A logger's `info` and `warning`, paced by format string; a hostile peer must not fill the operator's disk."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._seen: dict[str, tuple[int, int]] = {}  # format -> (second, lines in it); formats are our own literals

    def info(self, text: str, *args: object) -> None:
        """Log at INFO."""
        self._log(logging.INFO, text, args)

    def warning(self, text: str, *args: object) -> None:
        """Log at WARNING."""
        self._log(logging.WARNING, text, args)

    def _log(self, level: int, text: str, args: tuple[object, ...]) -> None:
        now = int(monotonic())
        second, lines = self._seen.get(text, (now, 0))
        if second != now:
            if lines > PER_SECOND:
                self._logger.log(level, "%d more like this were not logged: %s", lines - PER_SECOND, text)
            lines = 0
        self._seen[text] = (now, lines + 1)
        if lines < PER_SECOND:
            self._logger.log(level, text, *args)
