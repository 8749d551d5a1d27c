"""WIT-SVIDs of this process and the keys that sign those of others, each always the newest (incubating standard)."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from authsec_sdk.spiffe import DEFAULT_LEEWAY, WITSVID, BundleSet, SpiffeID, UnprovenWIT, WITBundle
from authsec_sdk.telemetry import Observer
from authsec_sdk.workloadapi.address import Endpoint, resolve_endpoint
from authsec_sdk.workloadapi.backoff import BackoffStrategy
from authsec_sdk.workloadapi.choice import hinted
from authsec_sdk.workloadapi.failure import FailureKind
from authsec_sdk.workloadapi.limits import UpdateLimits
from authsec_sdk.workloadapi.status import SourceStatus, status_of
from authsec_sdk.workloadapi.stream_feed import Dialling, Stream, StreamFeed
from authsec_sdk.workloadapi.token_calls import wit_bundle_updates, wit_updates
from authsec_sdk.workloadapi.waiting import READY_TIMEOUT, WaitingSource
from authsec_sdk.workloadapi.wit_wire import WITBundlesUpdate, WITUpdate

__all__ = ["WITBundleSource", "WITSource"]

WITSVIDs = tuple[WITSVID, ...]


class WITSource(WaitingSource[WITSVIDs]):
    """Follows FetchWITSVID::

        async with WITSource() as source:  # or `with`; waits for the first WIT-SVIDs, at most `ready_timeout`
            svid = source.wit_svid  # with its private key, to prove its possession

    The agent renews them, and its stream brings each newer one at once; what holds of `X509Source` about outages,
    refused updates, denials, forks and threads holds here. The profile is optional: where an agent lacks it, waiting
    raises WorkloadAPIError, and the agent is not asked again.
    Not checked: that the SVID has not expired while the agent was away; `status` tells.

    Args:
        address: where the agent is; None stands for `SPIFFE_ENDPOINT_SOCKET`.
        hint: of several identities use the one with this hint; by default it is the agent's first.
        ready_timeout: as `X509Source`.
        expected_agent_uid: as `X509Source`.
        limits: as `X509Source`.
        backoffs: as `X509Source`.
        observer: as `X509Source`.

    Raises:
        InvalidEndpointError: the address is missing or wrong.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        hint: str | None = None,
        ready_timeout: float | None = READY_TIMEOUT,
        expected_agent_uid: int | None = None,
        limits: UpdateLimits | None = None,
        backoffs: Mapping[FailureKind, BackoffStrategy] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.endpoint: Endpoint = resolve_endpoint(address)
        self._feed = _WITFeed(
            Dialling.of(self.endpoint, limits, expected_agent_uid, backoffs),
            Stream("wit", wit_updates, lambda update: _chosen(update.svids, hint), carries_keys=True, optional=True),
            observer,
        )
        super().__init__(
            self._feed,
            ready_timeout,
            wanted=f"WIT-SVID from the agent at {self.endpoint}",
            silence="it has not answered",
        )

    def __repr__(self) -> str:
        """Show where it listens and how it is doing."""
        status = self.status
        return f"<WITSource {status.endpoint} {status.phase.value} {status.spiffe_id or 'no identity'}>"

    @property
    def wit_svids(self) -> WITSVIDs:
        """The newest WIT-SVIDs, the one to use first; starts the source where it was not. Never blocks.

        Raises:
            NotReadyError: none has arrived yet; says why.
            SourceClosedError: the source was closed.
        """
        return self._newest()

    @property
    def wit_svid(self) -> WITSVID:
        """The newest WIT-SVID to use. Raises as `wit_svids`."""
        return self._newest()[0]

    @property
    def status(self) -> SourceStatus:
        """How the source is doing now. Never blocks, never raises, starts nothing."""
        feed = self._feed
        progress, svids = feed.progress, feed.value
        return status_of(
            self.endpoint,
            progress,
            known=svids is not None,
            closed=feed.closed,
            now=datetime.now(UTC),
            spiffe_id=None if svids is None else svids[0].id,
            expires_at=None if svids is None else svids[0].expires_at,
        )


class WITBundleSource(WaitingSource[BundleSet[WITBundle]]):
    """Follows FetchWITBundles, for whoever verifies WIT-SVIDs; needs no identity. Waiting and arguments: `WITSource`.

    `leeway` is how far the clocks of issuers and ours may be apart in `validate`; 30 seconds by default.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        leeway: timedelta = DEFAULT_LEEWAY,
        ready_timeout: float | None = READY_TIMEOUT,
        expected_agent_uid: int | None = None,
        limits: UpdateLimits | None = None,
        backoffs: Mapping[FailureKind, BackoffStrategy] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.endpoint: Endpoint = resolve_endpoint(address)
        self._leeway = leeway
        self._feed: StreamFeed[WITBundlesUpdate, BundleSet[WITBundle]] = StreamFeed(
            Dialling.of(self.endpoint, limits, expected_agent_uid, backoffs),
            Stream("wit bundles", wit_bundle_updates, lambda update: update.bundles, optional=True),
            observer,
        )
        super().__init__(
            self._feed,
            ready_timeout,
            wanted=f"WIT bundles from the agent at {self.endpoint}",
            silence="it has not answered",
        )

    def __repr__(self) -> str:
        """Show where it listens and how it is doing."""
        return f"<WITBundleSource {self.endpoint} {self.status.phase.value}>"

    @property
    def wit_bundles(self) -> BundleSet[WITBundle]:
        """The newest bundles; starts the source where it was not. Never blocks.

        Raises:
            NotReadyError: none have arrived yet; says why.
            SourceClosedError: the source was closed.
        """
        return self._newest()

    def validate(self, token: str) -> UnprovenWIT:
        """Return what a token says if all of it is right, by the newest bundles. Never blocks, asks nobody.

        Whoever sent it has yet to prove that the key in it is theirs: authenticate nobody by this alone.

        Raises:
            InvalidTokenError: a rule of the WIT-SVID standard is broken; `fault` says which kind.
            NoBundleForTrustDomainError: we do not federate with the trust domain.
            NotReadyError, SourceClosedError: as `wit_bundles`.
        """
        try:
            return UnprovenWIT.parse_and_validate(token, self.wit_bundles, now=datetime.now(UTC), leeway=self._leeway)
        finally:
            del token  # tracebacks show locals

    @property
    def status(self) -> SourceStatus:
        """How the stream is doing; `healthy` says that there are bundles. Never blocks, starts nothing."""
        feed = self._feed
        return status_of(
            self.endpoint, feed.progress, known=feed.value is not None, closed=feed.closed, now=datetime.now(UTC)
        )


class _WITFeed(StreamFeed[WITUpdate, WITSVIDs]):
    def _identity(self, value: WITSVIDs) -> tuple[SpiffeID | None, str | None, datetime | None]:
        return value[0].id, None, value[0].expires_at


def _chosen(svids: WITSVIDs, hint: str | None) -> WITSVIDs:
    if hint is None:
        return svids
    chosen = hinted(svids, hint, "WIT-SVID")
    return (chosen, *(svid for svid in svids if svid is not chosen))
