"""An identity from one source and the bundles of other trust domains from their endpoints, as one source."""

from collections.abc import Callable

from authsec_sdk.errors import NotReadyError, SourceClosedError
from authsec_sdk.spiffe import BundleSet, X509Bundle, X509Context, X509ContextListener, X509ContextSource
from authsec_sdk.telemetry import Observer, observer_of

__all__ = ["FederatedX509Source", "merge"]


def merge(local: X509Context, federated: BundleSet[X509Bundle]) -> X509Context:
    """Return the local context with the bundles of the domains it says nothing about; pure.

    What the local source says of a domain stands, whole. Nothing federated ever counts for the domain of an own SVID,
    not even where the local source brings no bundle for it.
    """
    taken = set(local.bundles) | {svid.id.trust_domain for svid in local.svids}
    added = [bundle for domain, bundle in federated.items() if domain not in taken]
    return X509Context(local.svids, BundleSet([*local.bundles.values(), *added])) if added else local


class FederatedX509Source:
    """Gives TLS contexts an identity and the bundles of its agent, and those that were fetched besides::

        async with X509Source() as local, FederationSource(endpoint) as federation:
            context = mtls_client_context(FederatedX509Source(local, federation), authorize_member_of("b.test"))

    Whoever made the two sources closes them. Where the federation is not ready, or closed, the local context stands
    alone: an identity never waits for another organization. Never blocks, starts what was not started.
    """

    def __init__(self, local: X509ContextSource, federation: X509ContextSource) -> None:
        self._local = local
        self._federation = federation
        self._last: tuple[X509Context, BundleSet[X509Bundle], X509Context] | None = None  # local, federated, both

    @property
    def observer(self) -> Observer | None:
        """The local source's: it hears of the TLS contexts over this one."""
        return observer_of(self._local)

    @property
    def x509_context(self) -> X509Context:
        """The newest of both; the same object until one of them changes.

        Raises:
            NotReadyError: the local source has no context yet.
            SourceClosedError: the local source was closed.
        """
        local = self._local.x509_context
        try:
            federated = self._federation.x509_context.bundles
        except (NotReadyError, SourceClosedError):
            return local
        last = self._last  # one reference, replaced whole: two threads may both make the pair, and it is the same
        if last is not None and last[0] is local and last[1] is federated:
            return last[2]
        both = merge(local, federated)
        self._last = (local, federated, both)
        return both

    def _add_listener(self, listener: X509ContextListener) -> Callable[[], None]:
        def tell(_: X509Context) -> None:
            try:
                newest = self.x509_context
            except (NotReadyError, SourceClosedError):  # of the local source: there is nothing to tell yet, or any more
                return
            listener(newest)

        removers = (self._local._add_listener(tell), self._federation._add_listener(tell))

        def remove() -> None:
            for end in removers:
                end()

        return remove
