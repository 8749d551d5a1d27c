"""Tell the log about the agent: each distinct trouble once, its repetitions by count, and when it is over."""

import logging
from collections.abc import Iterable

from authsec_sdk.errors import SpiffeError
from authsec_sdk.workloadapi.address import Endpoint
from authsec_sdk.workloadapi.repeats import Repeats
from authsec_sdk.workloadapi.watch import Lost

__all__ = ["Reporter"]

_logger = logging.getLogger(__name__.rpartition(".")[0])


class Reporter:
    """Writes for one watch; nothing is retried without a word, and nothing is said without end."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._losses = Repeats()
        self._rejections = Repeats()
        self._problems: frozenset[str] = frozenset()

    def lost(self, event: Lost) -> None:
        """Say that the stream is gone and will be tried again."""
        count = self._losses.note(str(event.failure.error))
        _logger.log(
            logging.DEBUG if count is None else logging.WARNING,
            "no stream from the agent, trying again: %s endpoint=%s times=%s retry_in=%.2fs",
            event.failure.error,
            self._endpoint,
            count or "more",
            event.retry_in,
        )

    def rejected(self, error: SpiffeError) -> None:
        """Say that an update was refused and the last good one is kept."""
        count = self._rejections.note(str(error))
        _logger.log(
            logging.DEBUG if count is None else logging.ERROR,
            "refused an update of the agent and kept what was known: %s endpoint=%s times=%s",
            error,
            self._endpoint,
            count or "more",
        )

    def updated(self, problems: Iterable[SpiffeError]) -> None:
        """Say that things are well again, if they were not, and which parts were left out, if that is new."""
        failures = self._losses.clear() + self._rejections.clear()
        if failures:
            _logger.info("the agent answers endpoint=%s after_failures=%d", self._endpoint, failures)
        texts = frozenset(str(problem) for problem in problems)
        for text in sorted(texts - self._problems):
            _logger.warning("left out a part of the agent's update: %s endpoint=%s", text, self._endpoint)
        self._problems = texts
