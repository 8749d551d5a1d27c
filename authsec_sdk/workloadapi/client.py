"""Ask an agent directly, in the caller's own asyncio loop: fetch once, or watch. Most programs want `X509Source`."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Protocol, Self, TypeVar

from authsec_sdk.errors import CallerError, SpiffeError
from authsec_sdk.rpc import Channel
from authsec_sdk.spiffe import (
    JWTSVID,
    WITSVID,
    Audience,
    BundleSet,
    JWTBundle,
    SpiffeID,
    WITBundle,
    X509Bundle,
    X509Context,
)
from authsec_sdk.workloadapi.address import Endpoint, resolve_endpoint
from authsec_sdk.workloadapi.connection import open_channel
from authsec_sdk.workloadapi.failure import FailureKind, end_of_stream, explain
from authsec_sdk.workloadapi.limits import UpdateLimits
from authsec_sdk.workloadapi.report import Reporter
from authsec_sdk.workloadapi.stream import Rejected, bundle_updates, x509_updates
from authsec_sdk.workloadapi.token_calls import (
    jwt_bundle_updates,
    jwt_request,
    jwt_svid_answer,
    validate_answer,
    wit_bundle_updates,
    wit_updates,
)
from authsec_sdk.workloadapi.watch import Call, Connecting, Lost, Received, watch

__all__ = ["WorkloadAPIClient"]


class _HasProblems(Protocol):
    """What every update is: parts of it may have been left out."""

    @property
    def problems(self) -> tuple[SpiffeError, ...]: ...


_Update = TypeVar("_Update", bound=_HasProblems)
_Value = TypeVar("_Value")
_Updates = Callable[[Channel, UpdateLimits], AsyncGenerator[_Update | Rejected, None]]


class WorkloadAPIClient:
    """A client of the SPIFFE Workload API, for asyncio: its X.509, JWT and WIT profiles.

    Each call has a connection of its own, opened by path when it begins; fetches do not retry, watches do, for ever.
    A fork during a call leaves the child a copy of the connection: fork first, or use `X509Source`, which survives it.

    Raises:
        InvalidEndpointError: `address`, or where it is None `SPIFFE_ENDPOINT_SOCKET`, is missing or wrong.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        expected_agent_uid: int | None = None,
        limits: UpdateLimits | None = None,
    ) -> None:
        self.endpoint: Endpoint = resolve_endpoint(address)
        self._expected_agent_uid = expected_agent_uid
        self._limits = limits or UpdateLimits()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Refuse further calls; those under way end with the tasks they run in. Again, a no-op."""
        self._closed = True

    async def fetch_x509_context(self, *, timeout: float | None = None) -> X509Context:
        """Return the SVIDs and bundles as they are now.

        Raises:
            NoIdentityError: the agent has none for this process.
            UnavailableError: the agent cannot be reached or cannot answer, or did not within `timeout` seconds.
            WorkloadAPIError: the agent does not take this call, or sent more than `limits` allow.
            InvalidX509SVIDError, InvalidBundleError: what it sent breaks a rule.
        """
        return (await self._fetch(x509_updates, timeout)).context

    async def fetch_x509_bundles(self, *, timeout: float | None = None) -> BundleSet[X509Bundle]:
        """Return the bundles as they are now, for who verifies others and needs no identity. Raises as above."""
        return (await self._fetch(bundle_updates, timeout)).bundles

    def watch_x509_contexts(self) -> AsyncGenerator[X509Context, None]:
        """Yield the SVIDs and bundles now, and whenever they change; reconnects without end and logs why.

        Updates that break a rule are logged and left out. Whoever leaves the loop early closes the generator:
        `async with contextlib.aclosing(client.watch_x509_contexts()) as contexts`.

        Raises:
            WorkloadAPIError: the agent does not take this call, which the standard says not to repeat.
        """
        return self._watch(x509_updates, lambda update: update.context)

    def watch_x509_bundles(self) -> AsyncGenerator[BundleSet[X509Bundle], None]:
        """Yield the bundles now, and whenever they change. All else as `watch_x509_contexts`."""
        return self._watch(bundle_updates, lambda update: update.bundles)

    async def fetch_jwt_svids(
        self, audience: Audience, *, subject: SpiffeID | str | None = None, timeout: float | None = None
    ) -> tuple[JWTSVID, ...]:
        """Return a JWT-SVID for each identity of this process, or for `subject` alone, meant for all of `audience`.

        One name is best: whoever of several gets the token can use it with the others. Nothing is cached here; programs
        that call often want `JWTSource`.

        What `fetch_x509_context` raises is raised here too; NoIdentityError also where it is not entitled to `subject`.

        Raises:
            InvalidAudienceError: the audience is a single `str`, or empty.
            InvalidTokenError: the agent sent what breaks a rule or was not asked for.
        """
        request = jwt_request(audience, subject)
        return (await self._fetch(lambda channel, limits: jwt_svid_answer(channel, limits, request), timeout)).svids

    async def fetch_jwt_svid(
        self, audience: Audience, *, subject: SpiffeID | str | None = None, timeout: float | None = None
    ) -> JWTSVID:
        """Return the first of what `fetch_jwt_svids` returns: the default identity's."""
        return (await self.fetch_jwt_svids(audience, subject=subject, timeout=timeout))[0]

    async def validate_jwt_svid(self, token: str, audience: str, *, timeout: float | None = None) -> JWTSVID:
        """Let the agent validate a token for this one name of ours. The claims are those the agent vouches for.

        What `fetch_x509_context` raises is raised here too, but for NoIdentityError: validating needs no identity.

        Raises:
            InvalidTokenError: the agent refused it; for what reason, its own words say.
            InvalidAudienceError: the audience is no text, or empty.
        """
        jwt_request([audience], None)
        answer = await self._fetch(lambda channel, limits: validate_answer(channel, limits, token, audience), timeout)
        return answer.svid

    async def fetch_jwt_bundles(self, *, timeout: float | None = None) -> BundleSet[JWTBundle]:
        """Return the keys which sign JWT-SVIDs, by trust domain, as they are now. Raises as `fetch_x509_bundles`."""
        return (await self._fetch(jwt_bundle_updates, timeout)).bundles

    def watch_jwt_bundles(self) -> AsyncGenerator[BundleSet[JWTBundle], None]:
        """Yield the keys which sign JWT-SVIDs now, and whenever they change. All else as `watch_x509_contexts`."""
        return self._watch(jwt_bundle_updates, lambda update: update.bundles)

    async def fetch_wit_svids(self, *, timeout: float | None = None) -> tuple[WITSVID, ...]:
        """Return a WIT-SVID with its key for each identity of this process, the default one first.

        An optional profile: an agent without it makes this raise WorkloadAPIError with the status UNIMPLEMENTED.
        Raises as `fetch_x509_context`, and InvalidTokenError where what the agent sent breaks a rule.
        """
        return (await self._fetch(wit_updates, timeout)).svids

    def watch_wit_svids(self) -> AsyncGenerator[tuple[WITSVID, ...], None]:
        """Yield the WIT-SVIDs now, and whenever they change. All else as `watch_x509_contexts`."""
        return self._watch(wit_updates, lambda update: update.svids)

    async def fetch_wit_bundles(self, *, timeout: float | None = None) -> BundleSet[WITBundle]:
        """Return the keys which sign WIT-SVIDs, by trust domain, as they are now. Raises as `fetch_x509_bundles`."""
        return (await self._fetch(wit_bundle_updates, timeout)).bundles

    def watch_wit_bundles(self) -> AsyncGenerator[BundleSet[WITBundle], None]:
        """Yield the keys which sign WIT-SVIDs now, and whenever they change. All else as `watch_x509_contexts`."""
        return self._watch(wit_bundle_updates, lambda update: update.bundles)

    def _channel(self) -> Channel:
        if self._closed:
            raise CallerError("this WorkloadAPIClient is closed")
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise CallerError("WorkloadAPIClient needs a running asyncio loop; on trio use X509Source") from None
        return open_channel(self.endpoint, self._limits, self._expected_agent_uid)

    async def _fetch(self, updates: _Updates[_Update], timeout: float | None) -> _Update:
        channel = self._channel()
        problem: SpiffeError
        try:
            async with asyncio.timeout(timeout), channel, aclosing(updates(channel, self._limits)) as stream:
                async for update in stream:
                    if isinstance(update, Rejected):
                        raise update.error
                    return update
            problem = end_of_stream(self.endpoint).error
        except SpiffeError:
            raise
        except Exception as error:  # noqa: BLE001 - told in our own words; frames of the transport hold what came in
            problem = explain(error, self.endpoint).error
        raise problem

    async def _watch(
        self, updates: _Updates[_Update], value: Callable[[_Update], _Value]
    ) -> AsyncGenerator[_Value, None]:
        self._channel()
        reporter = Reporter(self.endpoint)
        last: _Value | None = None
        call = Call(self.endpoint, self._channel, lambda channel: updates(channel, self._limits))
        async with aclosing(watch(call)) as events:
            async for event in events:
                match event:
                    case Connecting():
                        continue
                    case Rejected(error):
                        reporter.rejected(error)
                    case Lost(failure) if failure.kind is FailureKind.REFUSED or self._closed:
                        raise failure.error
                    case Lost():
                        reporter.lost(event)
                    case Received(update):
                        reporter.updated(update.problems)
                        new = value(update)
                        if new != last:
                            last = new
                            yield new
