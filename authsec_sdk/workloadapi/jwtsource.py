"""JWT-SVIDs of this process, ready when they are needed, and the keys that validate those of others, always the newest.

Works under asyncio, under trio and in threads alike, in the thread that all sources of a process share.
"""

import logging
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

import anyio

from authsec_sdk.errors import NotReadyError, SourceClosedError, WorkloadAPIError
from authsec_sdk.spiffe import DEFAULT_LEEWAY, JWTSVID, Audience, BundleSet, JWTBundle, SpiffeID
from authsec_sdk.workloadapi.address import Endpoint, resolve_endpoint
from authsec_sdk.workloadapi.bell import AsyncBell, ThreadBell
from authsec_sdk.workloadapi.bundle_feed import BundleFeed, Dialling
from authsec_sdk.workloadapi.jwt_fetcher import JWTFetcher
from authsec_sdk.workloadapi.limits import UpdateLimits
from authsec_sdk.workloadapi.status import SourcePhase, SourceStatus
from authsec_sdk.workloadapi.thread import Job
from authsec_sdk.workloadapi.token_calls import jwt_bundle_updates, jwt_request

__all__ = ["JWTSource"]

READY_TIMEOUT = 30.0
FETCH_TIMEOUT = 30.0
CLOSE_TIMEOUT = 5.0
CACHE_SIZE = 1000

_logger = logging.getLogger(__name__)


class JWTSource:
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
    ) -> None:
        self.endpoint: Endpoint = resolve_endpoint(address)
        self._leeway = leeway
        self._ready_timeout = ready_timeout
        dialling = Dialling(self.endpoint, limits or UpdateLimits(), expected_agent_uid)
        self._fetcher = JWTFetcher(dialling, hint, cache_size)
        self._feed: BundleFeed[JWTBundle] = BundleFeed(dialling, jwt_bundle_updates, self._fetcher.heed)

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

        Raises:
            InvalidTokenError: the agent refused it; for what reason, its own words say.
            As `fetch_svid` but for NoIdentityError: validating needs no identity.
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
        feed = self._feed
        if not feed.running:
            feed.start()
        bundles = feed.bundles
        if bundles is None:
            raise self._closed() if feed.closed else self._not_ready(None)
        return bundles

    @property
    def status(self) -> SourceStatus:
        """How the stream of bundles is doing; `healthy` says that there are bundles. Never blocks, starts nothing."""
        progress, closed = self._feed.progress, self._feed.closed
        return SourceStatus(
            endpoint=self.endpoint,
            phase=SourcePhase.CLOSED if closed else progress.phase,
            healthy=self._feed.bundles is not None and not closed,
            spiffe_id=None,
            expires_at=None,
            last_update=progress.last_update,
            last_error=progress.last_error,
            last_error_at=progress.last_error_at,
            updates=progress.updates,
            rejected=progress.rejected,
            reconnects=max(0, progress.attempts - 1),
            failures=progress.failures,
            problems=progress.problems,
        )

    async def ready(self, timeout: float | None = None) -> BundleSet[JWTBundle]:
        """Wait until there are bundles, and return them; on asyncio and trio, for any number of tasks.

        Raises:
            NotReadyError: not within `timeout` seconds; the last failure is the cause and in the text.
            WorkloadAPIError: the agent does not take the call. The source goes on trying, and one may wait again.
            SourceClosedError: the source was closed.
        """
        self.start()
        bell = AsyncBell()
        with anyio.move_on_after(timeout), self._feed.bells.hung_up(bell):
            while (bundles := self._arrived(None)) is None:
                await bell.wait()
            return bundles
        raise self._not_ready(timeout)

    def wait(
        self, timeout: float | None = None, *, newer_than: BundleSet[JWTBundle] | None = None
    ) -> BundleSet[JWTBundle]:
        """Block this thread until there are bundles, or others than `newer_than`, and return them. As `ready`."""
        self.start()
        deadline = None if timeout is None else time.monotonic() + timeout
        bell = ThreadBell()
        with self._feed.bells.hung_up(bell):
            while (bundles := self._arrived(newer_than)) is None:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise self._not_ready(timeout)
                bell.wait(left)
        return bundles

    def updates(self) -> AsyncIterator[BundleSet[JWTBundle]]:
        """Iterate over the bundles there are, and then newer ones, until the source is closed.

        On asyncio and trio, for any number of tasks; who leaves early has nothing to close. Who is slow misses bundles
        that were replaced meanwhile and never the newest.

        Raises:
            SourceClosedError: the source was closed before.
        """
        self.start()
        return _Updates(self._feed)

    # --- beginning and end -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to talk to the agent, in the shared thread, and return at once. Again, a no-op.

        Raises:
            SourceClosedError: the source was closed.
        """
        if not self._feed.running:
            self._feed.start()

    def close(self) -> None:
        """Forget tokens and keys, end everything under way, and wait for that, for a moment. Again, a no-op."""
        deadline = time.monotonic() + CLOSE_TIMEOUT
        for job in self._end():
            if not job.join(max(0.0, deadline - time.monotonic())) and not job.runs_here:
                _logger.warning("a call did not end in time endpoint=%s timeout=%gs", self.endpoint, CLOSE_TIMEOUT)

    async def aclose(self) -> None:
        """As `close`, without blocking the event loop. Is not interrupted by cancellation."""
        jobs = self._end()
        bell = AsyncBell()
        for job in jobs:
            job.when_ended(bell.ring)
        with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
            while not all(job.ended for job in jobs):
                await bell.wait()

    def __enter__(self) -> Self:
        try:
            self.wait(self._ready_timeout)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        try:
            await self.ready(self._ready_timeout)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _end(self) -> tuple[Job, ...]:
        errands = self._fetcher.close()
        stream = self._feed.close()
        return errands if stream is None else (*errands, stream)

    def _arrived(self, newer_than: BundleSet[JWTBundle] | None) -> BundleSet[JWTBundle] | None:
        if self._feed.closed:
            raise self._closed()
        bundles, progress = self._feed.bundles, self._feed.progress
        if bundles is None and progress.phase is SourcePhase.REFUSED:
            assert isinstance(progress.last_error, WorkloadAPIError)
            raise WorkloadAPIError(progress.last_error.message, progress.last_error.status)
        return None if bundles is newer_than else bundles

    def _closed(self) -> SourceClosedError:
        return SourceClosedError("this source is closed; make another one")

    def _not_ready(self, timeout: float | None) -> NotReadyError:
        cause = self._feed.progress.last_error
        within = "yet" if timeout is None else f"within {timeout:g} s"
        why = "it has not answered" if cause is None else str(cause)
        error = NotReadyError(f"no JWT bundles from the agent at {self.endpoint} {within}: {why}")
        error.__cause__ = cause
        return error


class _Updates:
    """What `JWTSource.updates` returns: no generator, for those must be closed by whoever leaves them early."""

    def __init__(self, feed: BundleFeed[JWTBundle]) -> None:
        self._feed = feed
        self._seen: BundleSet[JWTBundle] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BundleSet[JWTBundle]:
        feed = self._feed
        bell = AsyncBell()
        with feed.bells.hung_up(bell):
            while not feed.closed:
                bundles = feed.bundles
                if bundles is not None and bundles is not self._seen:
                    self._seen = bundles
                    return bundles
                await bell.wait()
        raise StopAsyncIteration
