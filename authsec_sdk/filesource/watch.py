"""Look at files again and again, in the shared thread, and publish what they hold whenever that is a new whole."""

import asyncio
from abc import abstractmethod
from dataclasses import replace
from typing import Final, Protocol, TypeVar

from authsec_sdk.errors import SpiffeError
from authsec_sdk.filesource.reading import Fingerprint
from authsec_sdk.telemetry import Observer, SourceName
from authsec_sdk.workloadapi.feed import Feed
from authsec_sdk.workloadapi.fork import at_fork
from authsec_sdk.workloadapi.repeats import Repeats
from authsec_sdk.workloadapi.status import SourcePhase

__all__ = ["FileWatch", "WatchedFiles", "retry_after"]

FIRST_RETRY: Final = 0.02

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class WatchedFiles(Protocol[T_co]):
    """What is looked at: cheap to compare, and read as it was at one moment. `str()` of it is for logs."""

    def fingerprint(self) -> Fingerprint:
        """Look at the files without reading them."""
        ...

    def load(self) -> tuple[T_co, Fingerprint]:
        """Return what they say, all of one moment, and the fingerprint they had. SpiffeError where they say nothing."""
        ...


def retry_after(failures: int, interval: float) -> float:
    """Return how long to wait after so many looks in a row (from 1) at one state of the files that is not whole."""
    return min(interval, FIRST_RETRY * 2.0 ** min(failures - 1, 30))


class FileWatch(Feed[T]):
    """A feed over files: it never ends, and knows a state of the files that it has seen before.

    What changed is read when it has not changed for `patience` seconds more: for files of which a half would be well
    formed, too.
    """

    def __init__(
        self,
        name: SourceName,
        observer: Observer | None,
        files: WatchedFiles[T],
        interval: float,
        *,
        patience: float = 0.0,
    ) -> None:
        super().__init__(name, observer)
        self._files: Final = files
        self._interval: Final = interval
        self._patience: Final = patience
        self._changing: Fingerprint | None = None
        self._good: Fingerprint | None = None
        self._bad: Fingerprint | None = None
        self._repeats = Repeats()

    def load_first(self) -> None:
        """Read here and now what the thread will go on from; to be called before the start, and once.

        Raises:
            SpiffeError: the files say nothing. Nothing is kept or watched then.
        """
        value, self._good = self._files.load()
        self._publish(value)

    @abstractmethod
    def _say_bad(self, error: SpiffeError, times: int | None) -> None:
        """Log why the files are refused; `times` is None for one of many that are alike."""

    @abstractmethod
    def _say_good(self) -> None:
        """Log that they are taken again."""

    async def _run(self) -> None:
        while True:
            with at_fork.delayed():  # a child inherits no open key file, and no lock of OpenSSL half way
                wait = self._look()
            await asyncio.sleep(wait)

    def _look(self) -> float:
        fingerprint = self._files.fingerprint()
        if fingerprint == self._good and self.progress.failures == 0:
            return self._interval
        if self._patience and fingerprint not in (self._changing, self._bad):
            self._changing = fingerprint
            return self._patience
        try:
            value, self._good = self._files.load()
        except SpiffeError as error:
            again = fingerprint == self._bad
            self._bad = fingerprint
            return self._not_whole(error.with_traceback(None), again=again)
        self._bad = None
        if self._repeats.clear():
            self._say_good()
        self._publish(value)
        return self._interval

    def _not_whole(self, error: SpiffeError, *, again: bool) -> float:
        failures = self.progress.failures + 1 if again else 1
        count = self._repeats.note(str(error))
        self._say_bad(error, count)
        retry_in = retry_after(failures, self._interval)
        if again:
            self._failed(replace(self.progress, failures=failures), error)
        else:
            self.progress = replace(self.progress, rejected=self.progress.rejected + 1)
            self._lose(SourcePhase.UNAVAILABLE, failures, error, retry_in)
        return retry_in
