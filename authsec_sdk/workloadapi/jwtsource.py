"""JWT-SVIDs of this process, ready when they are needed, and the keys that validate those of others, always the newest.

Works under asyncio, under trio and in threads alike, in the thread that all sources of a process share.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from authsec_sdk.spiffe import DEFAULT_LEEWAY, JWTSVID, Audience, BundleSet, JWTBundle, SpiffeID
from authsec_sdk.telemetry import Observer
from authsec_sdk.workloadapi.address import Endpoint, resolve_endpoint
from authsec_sdk.workloadapi.backoff import BackoffStrategy
from authsec_sdk.workloadapi.failure import FailureKind
from authsec_sdk.workloadapi.jwt_fetcher import JWTFetcher
from authsec_sdk.workloadapi.jwt_wire import JWTBundlesUpdate
from authsec_sdk.workloadapi.limits import UpdateLimits
from authsec_sdk.workloadapi.status import SourceStatus, status_of
from authsec_sdk.workloadapi.stream_feed import Dialling, Stream, StreamFeed
from authsec_sdk.workloadapi.thread import Job
from authsec_sdk.workloadapi.token_calls import jwt_bundle_updates, jwt_request
from authsec_sdk.workloadapi.waiting import READY_TIMEOUT, WaitingSource

__all__ = ["JWTSource"]

FETCH_TIMEOUT = 30.0
CACHE_SIZE = 1000


class JWTSource(WaitingSource[BundleSet[JWTBundle]]):
    """Fetches JWT-SVIDs, keeps them as long as they are good, and follows the keys of every trust domain we know::

        async with JWTSource() as source:  # or `with`; waits for the first bundles, at most `ready_timeout`
            svid = await source.fetch_svid(["payments"])  # in a thread: source.wait_svid(["payments"])
            peer = source.validate(token, ["frontend"])

    What holds: an SVID is fetched once for each subject and set of audience names, whoever asks and however many at
    once; after half of its life it is still returned while a newer one is fetched; it is returned during outages of the
    agent, but never in its last seconds, and never after the key that signed it was taken from the bundle. The bundles
    are the newest acceptable ones of the agent's stream. After a fork the child keeps what was known, and begins a
    stream of its own the next time it uses the source.

    Args:
        address: where the agent is; None stands for `SPIFFE_ENDPOINT_SOCKET`.
        hint: of several identities use the one with this hint; by default it is the agent's first. Whoever gives a
            subject in a call gets that one.
        leeway: how far the clocks of issuers and ours may be apart in `validate`; 30 seconds by default.
        ready_timeout: how long `with` and `async with` wait for the first bundles; None stands for ever.
        expected_agent_uid: talk to nobody but this user on the socket (threat model 13).
        limits: how much an agent may send.
        cache_size: how many SVIDs to keep; beyond that the longest unused one is dropped.
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
        leeway: timedelta = DEFAULT_LEEWAY,
        ready_timeout: float | None = READY_TIMEOUT,
        expected_agent_uid: int | None = None,
        limits: UpdateLimits | None = None,
        cache_size: int = CACHE_SIZE,
        backoffs: Mapping[FailureKind, BackoffStrategy] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.endpoint: Endpoint = resolve_endpoint(address)
        self._leeway = leeway
        dialling = Dialling.of(self.endpoint, limits, expected_agent_uid, backoffs)
        self._fetcher = JWTFetcher(dialling, hint, cache_size, observer)
        self._feed = _JWTFeed(dialling, self._fetcher, observer)
        super().__init__(
            self._feed,
            ready_timeout,
            wanted=f"JWT bundles from the agent at {self.endpoint}",
            silence="it has not answered",
        )

    def __repr__(self) -> str:
        """Show where it listens and how it is doing."""
        status = self.status
        return f"<JWTSource {status.endpoint} {status.phase.value}>"

    # --- our own tokens --------------------------------------------------------------------------------------------

    async def fetch_svid(
        self, audience: Audience, *, subject: SpiffeID | str | None = None, timeout: float | None = FETCH_TIMEOUT
    ) -> JWTSVID:
        """Return a JWT-SVID of ours that is for all names of `audience`; at once, where a good one is cached.

        One name is best: whoever of several gets the token can use it with the others. Leave the token's life to this
        method: call it for each request, and keep nothing.

        Raises:
            InvalidAudienceError: the audience is a single `str`, or empty.
            NoIdentityError: the agent has no identity for this process, or not this subject.
            UnavailableError: the agent cannot be reached, and nothing good is cached. Is not retried here.
            NotReadyError: it did not answer within `timeout` seconds.
            InvalidTokenError: it sent what breaks a rule or was not asked for.
            WorkloadAPIError: it does not take the call.
            SourceClosedError: the source was closed.
        """
        request = jwt_request(audience, subject)
        self.start()
        found = self._fetcher.fetch(request)
        return found if isinstance(found, JWTSVID) else await found.arrived(timeout)

    def wait_svid(
        self, audience: Audience, *, subject: SpiffeID | str | None = None, timeout: float | None = FETCH_TIMEOUT
    ) -> JWTSVID:
        """As `fetch_svid`, for threads: blocks where nothing good is cached."""
        request = jwt_request(audience, subject)
        self.start()
        found = self._fetcher.fetch(request)
        return found if isinstance(found, JWTSVID) else found.wait(timeout)

    # --- the tokens of others --------------------------------------------------------------------------------------

    def validate(self, token: str, audience: Audience) -> JWTSVID:
        """Return the SVID of a token if all of it is right, by the newest bundles. Never blocks, asks nobody.

        `audience` are the names this process goes by; the token must be for one of them. What is checked, and what is
        not, says `JWTSVID.parse_and_validate`.

        Raises:
            InvalidTokenError: a rule of the JWT-SVID standard is broken; `fault` says which kind.
            NoBundleForTrustDomainError: we do not federate with the trust domain.
            InvalidAudienceError: the audience is a single `str`, or empty.
            NotReadyError: no bundles have arrived yet.
            SourceClosedError: the source was closed.
        """
        try:
            bundles = self.jwt_bundles
            return JWTSVID.parse_and_validate(token, bundles, audience, now=datetime.now(UTC), leeway=self._leeway)
        finally:
            del token  # tracebacks show locals

    async def validate_by_agent(self, token: str, audience: str, *, timeout: float | None = FETCH_TIMEOUT) -> JWTSVID:
        """Let the agent validate a token for this one name of ours. The claims are those the agent vouches for.

        What `fetch_svid` raises is raised here too, but for NoIdentityError: validating needs no identity.

        Raises:
            InvalidTokenError: the agent refused it; for what reason, its own words say.
        """
        jwt_request([audience], None)
        return await self._fetcher.validate(token, audience).arrived(timeout)

    def wait_validate_by_agent(self, token: str, audience: str, *, timeout: float | None = FETCH_TIMEOUT) -> JWTSVID:
        """As `validate_by_agent`, for threads."""
        jwt_request([audience], None)
        return self._fetcher.validate(token, audience).wait(timeout)

    # --- the keys --------------------------------------------------------------------------------------------------

    @property
    def jwt_bundles(self) -> BundleSet[JWTBundle]:
        """The newest bundles; starts the source where it was not. Never blocks.

        Raises:
            NotReadyError: none have arrived yet; says why.
            SourceClosedError: the source was closed.
        """
        return self._newest()

    @property
    def status(self) -> SourceStatus:
        """How the stream of bundles is doing; `healthy` says that there are bundles. Never blocks, starts nothing."""
        feed = self._feed
        return status_of(
            self.endpoint, feed.progress, known=feed.value is not None, closed=feed.closed, now=datetime.now(UTC)
        )

    def _end(self) -> tuple[Job, ...]:
        return (*self._fetcher.close(), *super()._end())


class _JWTFeed(StreamFeed[JWTBundlesUpdate, BundleSet[JWTBundle]]):
    def __init__(self, dialling: Dialling, fetcher: JWTFetcher, observer: Observer | None) -> None:
        super().__init__(dialling, Stream("jwt bundles", jwt_bundle_updates, lambda update: update.bundles), observer)
        self._fetcher = fetcher

    def _settle(self, value: BundleSet[JWTBundle]) -> None:
        self._fetcher.heed(value)
