"""The bundles of other trust domains, fetched from their own endpoints, always the newest."""

from collections.abc import Callable

from authsec_sdk.federation.endpoint import BundleEndpoint
from authsec_sdk.federation.feed import FederationFeed
from authsec_sdk.federation.fetch import MAX_BUNDLE_BYTES
from authsec_sdk.federation.https import TIMEOUT
from authsec_sdk.federation.refresh import RefreshPolicy
from authsec_sdk.federation.status import FederationStatus
from authsec_sdk.spiffe import BundleSet, JWTBundle, TrustBundle, X509Bundle, X509Context, X509ContextListener
from authsec_sdk.telemetry import Observer
from authsec_sdk.workloadapi.waiting import READY_TIMEOUT, WaitingSource

__all__ = ["FederationSource"]

_DEFAULT_POLICY = RefreshPolicy()


class FederationSource(WaitingSource[BundleSet[TrustBundle]]):
    """Follows bundle endpoints, and keeps the last good bundle of each through every failure::

        async with FederationSource(BundleEndpoint.web("b.test", "https://b.test/bundle")) as federation:  # or `with`
            federation.bundles.require(TrustDomain.parse("b.test"))

    What holds: each bundle came from the server that its endpoint's profile names, and counts for the one trust domain
    that the endpoint was configured for; bundles are never merged. It is fetched again as often as its refresh hint
    says, within the bounds of `refresh`, and after failures with growing pauses. One with a lower sequence number, a
    malformed one, or one with an authority of another domain changes nothing; `status` and the log say so. The first
    set is published when each endpoint was tried, so that one that is away keeps nobody waiting for long; the first
    bundle given to an endpoint which serves itself counts from the start. Waiting, forks and threads: as `X509Source`.
    It is a source of contexts without an SVID, for verifiers; with an identity use `FederatedX509Source`.
    Not checked: whether an authority is in its time, and whether it looks like one of another domain: TLS does.

    Args:
        endpoints: one for each trust domain.
        refresh: how often to fetch.
        timeout: how many seconds one fetch may take in all.
        max_bytes: how large a bundle document may be.
        ready_timeout: how long `with` and `async with` wait for the first set; None stands for ever.
        observer: is told what happens; see `authsec_sdk.telemetry`.

    Raises:
        ConfigurationError: no endpoint is given, two are for one domain, or nothing proves the server of one.
    """

    def __init__(
        self,
        *endpoints: BundleEndpoint,
        refresh: RefreshPolicy = _DEFAULT_POLICY,
        timeout: float = TIMEOUT,
        max_bytes: int = MAX_BUNDLE_BYTES,
        ready_timeout: float | None = READY_TIMEOUT,
        observer: Observer | None = None,
    ) -> None:
        self._feed = FederationFeed(endpoints, refresh, timeout=timeout, limit=max_bytes, observer=observer)
        super().__init__(
            self._feed,
            ready_timeout,
            wanted=f"bundles of {', '.join(sorted(str(domain) for domain in self._feed.followers))}",
            silence="no endpoint has answered",
        )

    def __repr__(self) -> str:
        """Show which domains it follows, and of how many it has a bundle."""
        status = self.status
        known = sum(endpoint.known for endpoint in status.endpoints)
        return f"<FederationSource {self._feed.name.place} known={known}/{len(status.endpoints)}>"

    @property
    def trust_bundles(self) -> BundleSet[TrustBundle]:
        """The newest bundles, whole; starts the source where it was not. Never blocks.

        Raises:
            NotReadyError: none have arrived yet; says why.
            SourceClosedError: the source was closed.
        """
        return self._newest()

    @property
    def bundles(self) -> BundleSet[X509Bundle]:
        """The X.509 side of `trust_bundles`, which raises as that."""
        return self.x509_context.bundles

    @property
    def jwt_bundles(self) -> BundleSet[JWTBundle]:
        """The JWT side of `trust_bundles`, which raises as that: for `JWTSVID.parse_and_validate`."""
        return BundleSet(bundle.jwt_bundle() for bundle in self._newest().values())

    @property
    def x509_context(self) -> X509Context:
        """A context of these bundles without an SVID: for `tls_client_context`. Raises as `trust_bundles`."""
        self._newest()
        context = self._feed.context
        if context is None:
            raise self._closed()
        return context

    @property
    def status(self) -> FederationStatus:
        """How each endpoint is doing. Never blocks, never raises, starts nothing."""
        followers = self._feed.followers
        return FederationStatus(tuple(followers[domain].status for domain in sorted(followers)), self._feed.closed)

    def _add_listener(self, listener: X509ContextListener) -> Callable[[], None]:
        def tell(_: BundleSet[TrustBundle]) -> None:
            if (context := self._feed.context) is not None:
                listener(context)

        return self._feed.add_listener(tell)
