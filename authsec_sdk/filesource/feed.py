"""Look at a folder again and again, in the shared thread, and publish what it holds whenever that is a new whole."""

import asyncio
import logging
from dataclasses import replace
from datetime import datetime

from authsec_sdk.errors import SpiffeError
from authsec_sdk.filesource.folder import Fingerprint, Folder
from authsec_sdk.spiffe import SpiffeID, X509Context
from authsec_sdk.telemetry import Observer, SourceName
from authsec_sdk.workloadapi.feed import Feed, context_identity
from authsec_sdk.workloadapi.fork import at_fork
from authsec_sdk.workloadapi.repeats import Repeats
from authsec_sdk.workloadapi.status import SourcePhase

__all__ = ["FileFeed", "retry_after"]

FIRST_RETRY = 0.02

_logger = logging.getLogger(__name__)


def retry_after(failures: int, interval: float) -> float:
    """Return how long to wait after so many looks in a row (from 1) at one state of the files that is not whole."""
    return min(interval, FIRST_RETRY * 2.0 ** min(failures - 1, 30))


class FileFeed(Feed[X509Context]):
    """A feed over a folder: it never ends, and knows a state of the files that it has seen before."""

    def __init__(self, folder: Folder, interval: float, observer: Observer | None) -> None:
        super().__init__(SourceName("files", str(folder.path)), observer)
        self._folder = folder
        self._interval = interval
        self._good: Fingerprint | None = None
        self._bad: Fingerprint | None = None
        self._repeats = Repeats()

    def _identity(self, value: X509Context) -> tuple[SpiffeID | None, str | None, datetime | None]:
        return context_identity(value)

    # --- in the thread ---------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            with at_fork.delayed():  # a child inherits no open key file, and no lock of OpenSSL half way
                wait = self._look()
            await asyncio.sleep(wait)

    def _look(self) -> float:
        fingerprint = self._folder.fingerprint()
        if fingerprint == self._good and self.progress.failures == 0:
            return self._interval
        try:
            context, self._good = self._folder.load()
        except SpiffeError as error:
            again = fingerprint == self._bad
            self._bad = fingerprint
            return self._not_whole(error.with_traceback(None), again=again)
        self._bad = None
        if self._repeats.clear():
            _logger.info("the files are one whole again folder=%s", self._folder.path)
        self._publish(context)
        return self._interval

    def _not_whole(self, error: SpiffeError, *, again: bool) -> float:
        failures = self.progress.failures + 1 if again else 1
        count = self._repeats.note(str(error))
        _logger.log(
            logging.DEBUG if count is None else logging.WARNING,
            "the files are not one whole, keeping what was known: %s folder=%s times=%s",
            error,
            self._folder.path,
            count or "more",
        )
        retry_in = retry_after(failures, self._interval)
        if again:
            self._failed(replace(self.progress, failures=failures), error)
        else:
            self.progress = replace(self.progress, rejected=self.progress.rejected + 1)
            self._lose(SourcePhase.UNAVAILABLE, failures, error, retry_in)
        return retry_in
