"""The X.509 contexts that a folder holds, one whole after the other."""

import logging
from datetime import datetime

from authsec_sdk.errors import SpiffeError
from authsec_sdk.filesource.folder import Folder
from authsec_sdk.filesource.watch import FileWatch
from authsec_sdk.spiffe import SpiffeID, X509Context
from authsec_sdk.telemetry import Observer, SourceName
from authsec_sdk.workloadapi.feed import context_identity

__all__ = ["FileFeed"]

_logger = logging.getLogger(__name__)


class FileFeed(FileWatch[X509Context]):
    """A watch over a folder of an identity's files."""

    def __init__(self, folder: Folder, interval: float, observer: Observer | None) -> None:
        super().__init__(SourceName("files", str(folder.path)), observer, folder, interval)
        self._folder = folder

    def _identity(self, value: X509Context) -> tuple[SpiffeID | None, str | None, datetime | None]:
        return context_identity(value)

    def _say_bad(self, error: SpiffeError, times: int | None) -> None:
        _logger.log(
            logging.DEBUG if times is None else logging.WARNING,
            "the files are not one whole, keeping what was known: %s folder=%s times=%s",
            error,
            self._folder.path,
            times or "more",
        )

    def _say_good(self) -> None:
        _logger.info("the files are one whole again folder=%s", self._folder.path)
