"""Follows the bundles of other trust domains: when each is due, who proves its server, and what is taken of it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from authsec_sdk.errors import SpiffeError, UnavailableError
from authsec_sdk.federation import BundleEndpoint, RefreshPolicy, fetch_bundle
from authsec_sdk.federation.refresh import News, judge
from authsec_sdk.spiffe import TrustBundle, TrustDomain
from authsec_sdk.spire.tainted import PublishedBundle
from authsec_sdk.workloadapi.repeats import Repeats
from icp_server.domain.errors import ServiceError
from icp_server.domain.federation import Endpoint
from icp_server.ports import Store

logger = logging.getLogger(__name__)

RELOAD_EVERY: Final = timedelta(seconds=10)
ATTEMPTS_PER_HINT: Final = 4
"""As upstream: a bundle that others should look at every hour is fetched every quarter of one."""
DEFAULT_POLICY: Final = RefreshPolicy()
_AT_ONCE: Final = 10


@dataclass(slots=True, eq=False)
class _Followed:
    """One trust domain that is followed. Replaced whole when its endpoint becomes another."""

    trust_domain: TrustDomain
    endpoint: Endpoint
    due: float = 0.0
    failures: int = 0
    running: bool = False
    fetched: TrustBundle | None = None
    """What was taken last, and so what the sequence number must not fall behind, unless an operator set another."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    repeats: Repeats = field(default_factory=Repeats)
    oddities: Repeats = field(default_factory=Repeats)


class FederationRefresher:
    """Implements `BundleRefresher`. `run` until cancelled; `refresh` works without it too.

    `static` are the relationships of the configuration file, which win over those made through the API. What is known
    of a trust domain is in the store, and nowhere else: a failure leaves it as it is.
    """

    def __init__(
        self,
        store: Store,
        static: Mapping[TrustDomain, Endpoint],
        *,
        policy: RefreshPolicy = DEFAULT_POLICY,
        reload_every: timedelta = RELOAD_EVERY,
    ) -> None:
        self._store = store
        self._static = dict(static)
        self._policy = policy
        self._reload_every = reload_every.total_seconds()
        self._followed: dict[TrustDomain, _Followed] = {}
        self._woken = asyncio.Event()
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def reload(self) -> None:
        """Look at the relationships now: they changed."""
        self._woken.set()

    async def refresh(self, trust_domain: TrustDomain) -> bool:
        """Fetch a bundle now; False if there is no relationship with this trust domain.

        Raises:
            SpiffeError: it cannot be had, or not be kept.
        """
        await self._reconcile()
        followed = self._followed.get(trust_domain)
        if followed is None:
            return False
        await self._update(followed)
        return True

    async def run(self) -> None:
        """Follow for ever. What fails is logged, and tried again.

        Raises:
            BaseExceptionGroup: a defect.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._woken.clear()
                try:
                    await self._reconcile()
                except ServiceError as error:
                    logger.warning("Failed to reload federation relationships error=%s", error.message)
                now = loop.time()
                for followed in self._followed.values():
                    if followed.due <= now and not followed.running:
                        followed.running = True
                        tasks.create_task(self._attempt(followed), name=f"bundle of {followed.trust_domain}")
                await self._pause(now)

    async def _pause(self, now: float) -> None:
        """Sleep until the next bundle is due, the relationships may be others, or somebody says that they are."""
        waiting = [followed.due - now for followed in self._followed.values() if not followed.running]
        try:
            async with asyncio.timeout(max(0.01, min([self._reload_every, *waiting]))):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _endpoints(self) -> dict[TrustDomain, Endpoint]:
        return {**await self._store.relationships.endpoints(), **self._static}

    async def _reconcile(self) -> None:
        """Follow what is to be followed, and nothing else."""
        wanted = await self._endpoints()
        for trust_domain in [known for known in self._followed if known not in wanted]:
            del self._followed[trust_domain]
            logger.info("Trust domain no longer managed trust_domain=%s", trust_domain)
        for trust_domain, endpoint in wanted.items():
            known = self._followed.get(trust_domain)
            if known is not None and known.endpoint == endpoint:
                continue
            self._followed[trust_domain] = _Followed(trust_domain, endpoint)
            logger.info(
                "%s trust_domain=%s bundle_endpoint_url=%s endpoint_spiffe_id=%s",
                "Trust domain is now managed" if known is None else "Updated configuration for managed trust domain",
                trust_domain,
                endpoint.url,
                endpoint.server_id or "",
            )

    async def _attempt(self, followed: _Followed) -> None:
        """Fetch once, and say when the next time is."""
        try:
            async with self._turns:
                bundle = await self._update(followed)
        except SpiffeError as error:
            await self._failed(followed, error)
        else:
            wait = self._policy.refresh_after(_quarter(bundle.refresh_hint), random.random())  # noqa: S311 - spreads load
            self._next(followed, wait)
            if count := followed.repeats.clear():
                logger.info(
                    "The bundle endpoint answers again trust_domain=%s failures=%d", followed.trust_domain, count
                )
        finally:
            followed.running = False
            self._woken.set()

    async def _failed(self, followed: _Followed, error: SpiffeError) -> None:
        followed.failures += 1
        try:
            known = await self._store.bundles.get(followed.trust_domain)
        except ServiceError:
            known = None
        hint = _quarter(known.refresh_hint) if known else None
        wait = self._policy.retry_after(followed.failures, hint, random.random())  # noqa: S311 - spreads load
        self._next(followed, wait)
        count = followed.repeats.note(str(error))
        logger.log(
            logging.DEBUG if count is None else logging.WARNING,
            "Error updating bundle, %s: %s trust_domain=%s bundle_endpoint_url=%s times=%s retry_in=%.1fs",
            "keeping what is known" if known else "nothing is known yet",
            error,
            followed.trust_domain,
            followed.endpoint.url,
            count or "more",
            wait,
        )

    def _next(self, followed: _Followed, wait: float) -> None:
        followed.due = asyncio.get_running_loop().time() + wait

    async def _update(self, followed: _Followed) -> TrustBundle:
        """Fetch a bundle and keep it if it is news.

        Raises:
            SpiffeError: it cannot be had, is older than what is known, or cannot be kept.
        """
        trust_domain = followed.trust_domain
        async with followed.lock:
            endpoint = await self._proven(followed)
            fetched = await fetch_bundle(endpoint)
            known = await self._store.bundles.get(trust_domain)
            news = self._judge(followed, known, fetched)
            if known is None or not _equal(known, fetched):
                if (await self._endpoints()).get(trust_domain) != followed.endpoint:
                    raise UnavailableError(f"the relationship with {trust_domain} changed while its bundle was fetched")
                await self._store.bundles.set(PublishedBundle(fetched))
                logger.info(
                    "Bundle refreshed trust_domain=%s sequence=%s x509=%d jwt=%d",
                    trust_domain,
                    fetched.sequence_number,
                    len(fetched.x509_authorities),
                    len(fetched.jwt_authorities),
                )
            followed.failures = 0
            followed.fetched = replace(fetched, sequence_number=_highest(followed, fetched))
            if news.oddity is not None and followed.oddities.note(news.oddity) is not None:
                logger.warning("Took a bundle with a flaw: %s url=%s", news.oddity, followed.endpoint.url)
            return fetched

    async def _proven(self, followed: _Followed) -> BundleEndpoint:
        """The endpoint, with the bundle that proves its server."""
        endpoint = followed.endpoint
        if endpoint.server_id is None:
            return BundleEndpoint.web(followed.trust_domain, endpoint.url)
        prover = endpoint.server_id.trust_domain
        bundle = await self._store.bundles.get(prover)
        if bundle is None or not bundle.x509_authorities:
            raise UnavailableError(
                f"no bundle of {prover} is known, which is to prove {endpoint.server_id}: set it once by "
                f"`icp-server bundle set -id {prover}`"
            )
        return BundleEndpoint.spiffe(followed.trust_domain, endpoint.url, endpoint.server_id, bundle=bundle)

    def _judge(self, followed: _Followed, known: TrustBundle | None, fetched: TrustBundle) -> News:
        """What to make of it. In the store a bundle without a sequence number has 0.

        A bundle that is not the one we took last was set by an operator, who may have to begin anew.
        """
        if known is None:
            return judge(None, fetched)
        ours = followed.fetched is not None and _equal(known, followed.fetched, numbers=False)
        highest = followed.fetched.sequence_number if ours and followed.fetched is not None else None
        return judge(replace(known, sequence_number=known.sequence_number or None), fetched, highest)


def _highest(followed: _Followed, fetched: TrustBundle) -> int | None:
    """The number to hold the next bundle to: this one's, or the last there was if it has none."""
    if fetched.sequence_number is not None or followed.fetched is None:
        return fetched.sequence_number
    return followed.fetched.sequence_number


def _equal(one: TrustBundle, other: TrustBundle, *, numbers: bool = True) -> bool:
    """Whether a store would hold the same of both."""
    if numbers and (one.sequence_number or 0, one.refresh_hint) != (other.sequence_number or 0, other.refresh_hint):
        return False
    return (one.x509_bundle(), one.jwt_bundle(), one.wit_bundle()) == (
        other.x509_bundle(),
        other.jwt_bundle(),
        other.wit_bundle(),
    )


def _quarter(hint: timedelta | None) -> timedelta | None:
    return None if hint is None else hint / ATTEMPTS_PER_HINT
