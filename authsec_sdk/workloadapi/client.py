"""Ask an agent directly, in the caller's own asyncio loop: fetch once, or watch. Most programs want `X509Source`."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Self, TypeVar

from authsec_sdk.errors import CallerError, SpiffeError
from authsec_sdk.rpc import Channel
from authsec_sdk.spiffe import BundleSet, X509Bundle, X509Context
from authsec_sdk.workloadapi.address import Endpoint, resolve_endpoint
from authsec_sdk.workloadapi.connection import open_channel
from authsec_sdk.workloadapi.failure import FailureKind, end_of_stream, explain
from authsec_sdk.workloadapi.limits import UpdateLimits
from authsec_sdk.workloadapi.report import Reporter
from authsec_sdk.workloadapi.stream import Rejected, bundle_updates, x509_updates
from authsec_sdk.workloadapi.watch import Call, Connecting, Lost, Received, watch
from authsec_sdk.workloadapi.wire import BundlesUpdate, X509Update

__all__ = ["WorkloadAPIClient"]

_Update = TypeVar("_Update", X509Update, BundlesUpdate)
_Value = TypeVar("_Value")
_Updates = Callable[[Channel, UpdateLimits], AsyncGenerator[_Update | Rejected, None]]


class WorkloadAPIClient:
    """A client of the SPIFFE Workload API's X.509 profile, for asyncio.

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
