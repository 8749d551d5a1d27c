"""The identity that somebody writes into files, always the newest whole one: behind the same port as `X509Source`."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from authsec_sdk.errors import ConfigurationError, SpiffeError
from authsec_sdk.filesource.feed import FileFeed
from authsec_sdk.filesource.folder import Folder
from authsec_sdk.filesource.layout import SPIFFE_HELPER, FileLayout
from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.telemetry import Observer
from authsec_sdk.workloadapi.feed import context_identity
from authsec_sdk.workloadapi.status import SourcePhase, SourceState, state_of
from authsec_sdk.workloadapi.waiting import READY_TIMEOUT, ContextSource

__all__ = ["FileSource", "FileStatus"]

INTERVAL = 1.0


@dataclass(frozen=True, slots=True)
class FileStatus:
    """A source of files at one moment. `healthy` says that there is an identity which has not expired."""

    folder: Path
    healthy: bool
    current: bool
    """Whether the files, when last looked at, were the whole that is published."""
    spiffe_id: SpiffeID | None
    expires_at: datetime | None
    last_update: datetime | None
    last_error: SpiffeError | None
    """Why the files were last refused; stays readable after things are well again."""
    last_error_at: datetime | None
    updates: int
    """How many different contexts were published."""
    rejected: int
    """How many different states of the files were refused, half-written ones included."""
    state: SourceState
    """All of it in one word; STALE where the files are not the whole that is published."""
    at: datetime

    @property
    def expires_in(self) -> timedelta | None:
        """How long the SVID in use is still good, less than nothing once it has expired; None where there is none."""
        return None if self.expires_at is None else self.expires_at - self.at


class FileSource(ContextSource):
    """Reads an SVID, its key and its bundle from a folder, and again whenever a file there changes::

        async with FileSource("/run/svid", trust_domain="example.org") as source:  # or `with`
            source.x509_context.svid.id

    What holds: `x509_context` was read whole: the key belongs to the leaf, and the chain led to an authority of the
    bundle beside it when it was read. Files that are replaced one by one, in whatever order, or are half written, are
    looked at again after 20 ms, then ever more slowly up to `interval`; meanwhile, and as long as they are not one
    whole, the last good context stays and `status` says why. Waiting, forks and threads: as `X509Source`.
    Not checked: who owns the files, and the mode of the folder; whoever can write there decides who this process is.

    Args:
        folder: where the files are; symbolic links are followed, as kubelet's `..data`.
        trust_domain: whose the SVID, and a PEM bundle, must be (threat model 5).
        layout: how the files are called; `SPIFFE_HELPER`, `CERT_MANAGER`, `SPIFFE_FILES`, or a `FileLayout`.
        interval: how many seconds between two looks at the folder; a change is seen after at most that long.
        ready_timeout: how long `with` and `async with` wait for the first identity; None stands for ever.
        unsafe_key_readable_by_others: take a key that every user of the machine may read.
        observer: as `X509Source`.

    Raises:
        ConfigurationError: `interval` is not positive.
        InvalidTrustDomainError: `trust_domain` is none.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        trust_domain: TrustDomain | str,
        layout: FileLayout = SPIFFE_HELPER,
        interval: float = INTERVAL,
        ready_timeout: float | None = READY_TIMEOUT,
        unsafe_key_readable_by_others: bool = False,
        observer: Observer | None = None,
    ) -> None:
        if not 0 < interval < float("inf"):
            raise ConfigurationError(f"interval must be a positive number of seconds, not {interval!r}")
        domain = trust_domain if isinstance(trust_domain, TrustDomain) else TrustDomain.parse(trust_domain)
        self.folder = Path(folder)
        self._feed = FileFeed(Folder(self.folder, layout, domain, unsafe_key_readable_by_others), interval, observer)
        super().__init__(
            self._feed,
            ready_timeout,
            wanted=f"identity in the files of {self.folder}",
            silence="they have not been read",
        )

    def __repr__(self) -> str:
        """Show where it looks and whom it found."""
        return f"<FileSource {self.folder} {self.status.spiffe_id or 'no identity'}>"

    @property
    def status(self) -> FileStatus:
        """How the source is doing now. Never blocks, never raises, starts nothing."""
        feed = self._feed
        progress, context = feed.progress, feed.value
        phase = SourcePhase.CLOSED if feed.closed else progress.phase
        spiffe_id, _, expires_at = context_identity(context)
        now = datetime.now(UTC)
        state = state_of(phase, known=context is not None, failures=progress.failures, expires_at=expires_at, now=now)
        return FileStatus(
            folder=self.folder,
            healthy=state in (SourceState.READY, SourceState.STALE),
            current=context is not None and phase is SourcePhase.CONNECTED,
            spiffe_id=spiffe_id,
            expires_at=expires_at,
            last_update=progress.last_update,
            last_error=progress.last_error,
            last_error_at=progress.last_error_at,
            updates=progress.updates,
            rejected=progress.rejected,
            state=state,
            at=now,
        )
