"""JWT-SVIDs on demand: from the cache where it will do, else from the agent, never asked twice at once for the same."""

import logging
import random
import time
import weakref
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import TypeVar

from authsec_sdk.errors import SourceClosedError, SpiffeError
from authsec_sdk.spiffe import JWTSVID, BundleSet, JWTBundle
from authsec_sdk.telemetry import Observer, SourceName, TokenOutcome, TokenServed, tell
from authsec_sdk.workloadapi.choice import hinted
from authsec_sdk.workloadapi.client import WorkloadAPIClient
from authsec_sdk.workloadapi.errand import Errand
from authsec_sdk.workloadapi.fork import at_fork
from authsec_sdk.workloadapi.jwt_cache import JWTCache, Standing, believed
from authsec_sdk.workloadapi.jwt_wire import JWTRequest
from authsec_sdk.workloadapi.stream_feed import Dialling
from authsec_sdk.workloadapi.thread import Job

__all__ = ["JWTFetcher"]

CALL_TIMEOUT = 30.0
"""How long the agent has for one answer; who waits may be less patient."""

_logger = logging.getLogger(__name__.rpartition(".")[0])
_Answer = TypeVar("_Answer")


class JWTFetcher:
    """Asks in the shared thread, so that whoever waits may be a task of any loop, or a thread."""

    def __init__(self, dialling: Dialling, hint: str | None, capacity: int, observer: Observer | None) -> None:
        self._dialling = dialling
        self._name = SourceName("jwt", str(dialling.endpoint))
        self._observer = observer
        self._hint = hint
        self._client = WorkloadAPIClient(
            str(dialling.endpoint), expected_agent_uid=dialling.expected_agent_uid, limits=dialling.limits
        )
        self._cache = JWTCache(capacity)
        self._flights: dict[JWTRequest, Errand[JWTSVID]] = {}
        self._jobs: set[Job] = set()
        self._closed = False
        self._bundles: BundleSet[JWTBundle] = BundleSet()
        _FETCHERS.add(self)

    def fetch(self, request: JWTRequest) -> JWTSVID | Errand[JWTSVID]:
        """Return an SVID that will do, or the errand for one. An aged one is returned, and a newer one asked for.

        Raises:
            SourceClosedError: it was closed.
        """
        with at_fork.lock:
            self._check_open()
            standing, svid = self._cache.look(request, datetime.now(UTC))
            flight = self._flights.get(request)
            if flight is None and standing in (Standing.AGED, Standing.GONE):
                flight = self._start("JWT-SVID", lambda: self._fly(request, standing))
                self._flights[request] = flight
        if svid is not None and standing is not Standing.GONE:
            if self._observer is not None:
                self._tell(svid, TokenOutcome.CACHED, 0.0)
            return svid
        assert flight is not None
        return flight

    def validate(self, token: str, audience: str) -> Errand[JWTSVID]:
        """Return the errand for the agent's judgement on a token. Never cached: the agent knows what is revoked.

        Raises:
            SourceClosedError: it was closed.
        """
        with at_fork.lock:
            self._check_open()
            return self._start(
                "validation", lambda: self._client.validate_jwt_svid(token, audience, timeout=CALL_TIMEOUT)
            )

    def heed(self, bundles: BundleSet[JWTBundle]) -> None:
        """Drop what was signed by keys that are not in these bundles, and keep nothing of that kind from now on."""
        with at_fork.lock:
            self._bundles = bundles
            self._cache.forget_untrusted(bundles)

    def close(self) -> tuple[Job, ...]:
        """Forget everything and ask for the end of every errand; returns what can be waited for. Again, the same."""
        with at_fork.lock:
            self._closed = True
            self._cache.clear()
            self._flights = {}
            jobs = tuple(self._jobs)
        for job in jobs:
            job.stop()
        return jobs

    def forked(self) -> None:
        """In a forked child: errands under way are the parent's. What is cached is kept."""
        self._flights, self._jobs = {}, set()

    def _check_open(self) -> None:
        if self._closed:
            raise SourceClosedError("this source is closed; make another one")

    def _start(self, what: str, main: Callable[[], Coroutine[object, object, _Answer]]) -> Errand[_Answer]:
        errand = Errand(what, main)
        self._jobs.add(errand.job)
        errand.job.when_ended(lambda: self._ended(errand.job))
        return errand

    def _ended(self, job: Job) -> None:
        with at_fork.lock:
            self._jobs.discard(job)

    # --- in the thread ---------------------------------------------------------------------------------------------

    async def _fly(self, request: JWTRequest, standing: Standing) -> JWTSVID:
        begun = time.monotonic()
        try:
            svids = await self._client.fetch_jwt_svids(request.audience, subject=request.subject, timeout=CALL_TIMEOUT)
            svid = self._choose(svids)
        except SpiffeError as error:
            with at_fork.lock:
                self._cache.failed(request, datetime.now(UTC), random.random())  # noqa: S311 - spreads load
            _logger.log(
                logging.DEBUG
                if standing is Standing.GONE
                else logging.WARNING,  # where there is none, somebody is told
                "no new JWT-SVID: %s endpoint=%s audience=%s",
                error,
                self._dialling.endpoint,
                ",".join(request.audience)[:200],
            )
            with at_fork.delayed():
                failed = TokenServed(self._name, TokenOutcome.FAILED, time.monotonic() - begun, error=error)
                tell(self._observer, failed)
            raise
        else:
            with at_fork.lock:
                # An agent may know a key before its bundles, or after: what nobody believes now is not kept.
                if not self._closed and believed(svid, self._bundles):
                    self._cache.put(request, svid, datetime.now(UTC))
            with at_fork.delayed():  # a lock of the observer's, held here, would stay locked in the child
                outcome = TokenOutcome.FETCHED if standing is Standing.GONE else TokenOutcome.REFRESHED
                self._tell(svid, outcome, time.monotonic() - begun)
            return svid
        finally:
            with at_fork.lock:
                self._flights.pop(request, None)

    def _tell(self, svid: JWTSVID, outcome: TokenOutcome, seconds: float) -> None:
        tell(self._observer, TokenServed(self._name, outcome, seconds, svid.id, svid.expires_at))

    def _choose(self, svids: tuple[JWTSVID, ...]) -> JWTSVID:
        return svids[0] if self._hint is None else hinted(svids, self._hint, "JWT-SVID")


_FETCHERS: weakref.WeakSet[JWTFetcher] = weakref.WeakSet()


def _in_child() -> None:
    for fetcher in tuple(_FETCHERS):
        fetcher.forked()


at_fork.register(lambda: (), _in_child)
