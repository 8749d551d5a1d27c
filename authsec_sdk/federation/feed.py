"""Follow several bundle endpoints in the shared thread, a task for each, and publish all they have brought."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from authsec_sdk.federation.endpoint import BundleEndpoint, by_trust_domain
from authsec_sdk.federation.fetch import Fetcher
from authsec_sdk.federation.follower import Attempt, Follower
from authsec_sdk.federation.refresh import RefreshPolicy
from authsec_sdk.spiffe import BundleSet, TrustBundle, TrustDomain, X509Context
from authsec_sdk.telemetry import Observer, SourceConnected, SourceLost, SourceName, UpdateRejected
from authsec_sdk.workloadapi.feed import Feed
from authsec_sdk.workloadapi.status import SourcePhase

__all__ = ["FederationFeed"]

_KIND = "bundle endpoint"


class FederationFeed(Feed[BundleSet[TrustBundle]]):
    """The newest bundle of each domain. The first set comes when no endpoint is left that was not tried.

    `context` holds their X.509 side and is another object only when that side has changed.
    """

    def __init__(
        self,
        endpoints: Iterable[BundleEndpoint],
        policy: RefreshPolicy,
        *,
        timeout: float,
        limit: int,
        observer: Observer | None,
    ) -> None:
        found = by_trust_domain(endpoints)
        super().__init__(SourceName("federation", ",".join(sorted(str(domain) for domain in found))), observer)
        self.context: X509Context | None = None
        self.followers = {
            domain: Follower(endpoint, Fetcher(endpoint, timeout=timeout, limit=limit), policy, self._known)
            for domain, endpoint in found.items()
        }

    def _known(self, domain: TrustDomain) -> TrustBundle | None:
        follower = self.followers.get(domain)
        return None if follower is None else follower.known

    # --- in the thread ---------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        self._offer()
        tried = {domain: asyncio.Event() for domain in self.followers}
        async with asyncio.TaskGroup() as following:
            for follower in self.followers.values():
                following.create_task(self._follow(follower, tried))

    async def _follow(self, follower: Follower, tried: dict[TrustDomain, asyncio.Event]) -> None:
        if (needed := follower.needs) is not None:
            await tried[needed].wait()
        while True:
            attempt = await follower.attempt()
            tried[follower.endpoint.trust_domain].set()
            self._note(follower, attempt)
            await asyncio.sleep(attempt.wait)

    def _note(self, follower: Follower, attempt: Attempt) -> None:
        name = SourceName(_KIND, follower.endpoint.url)
        if attempt.error is None:
            if attempt.recovered:
                self._tell(SourceConnected(name))
            self._offer()
            return
        if self.value is None:
            self._offer()
        phase = self.progress.phase if self.value is not None else SourcePhase.UNAVAILABLE
        rejected = self.progress.rejected + attempt.rejected
        self._failed(replace(self.progress, phase=phase, rejected=rejected), attempt.error)
        if attempt.rejected:
            self._tell(UpdateRejected(name, attempt.error))
        else:
            self._tell(SourceLost(name, attempt.error, follower.status.failures, attempt.wait))

    def _offer(self) -> None:
        followers = self.followers.values()
        known = BundleSet(follower.known for follower in followers if follower.known is not None)
        if known and all(follower.settled for follower in followers):
            self._publish(known)

    def _settle(self, value: BundleSet[TrustBundle]) -> None:
        bundles = BundleSet(bundle.x509_bundle() for bundle in value.values())
        if self.context is None or self.context.bundles != bundles:
            self.context = X509Context((), bundles)
